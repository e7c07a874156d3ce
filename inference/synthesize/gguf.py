"""Writes a GGUF file, version 3, tensor by tensor and each a few rows at a time.

    magic, version, counts | metadata | name, shape, type, offset of each tensor | data

Data begins at a multiple of 32, as does each tensor. The `gguf` package holds whole tensors in
memory and knows neither bitnet.cpp's I2_S nor how to make Q6_K; the tests read these files with it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from ryzanstein.inference.synthesize.shape import Shape, Tensor
from ryzanstein.inference.synthesize.vocabulary import Vocabulary
from ryzanstein.inference.synthesize.weights import stored_bytes, stream

__all__ = ["gguf_bytes", "write_gguf"]

_ALIGNMENT: Final = 32
_TYPES: Final = {
    "F32": 0,
    "F16": 1,
    "Q4_0": 2,
    "Q8_0": 8,
    "Q6_K": 14,
    "BF16": 30,
    "TQ1_0": 34,
    "TQ2_0": 35,
    "I2_S": 36,
}
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9


def gguf_bytes(shape: Shape, body: str, head: str) -> int:
    """Returns the bytes of all tensors.

    Raises:
        ValueError: the shape does not fit the layout of `body` or `head`.
    """
    tensors = _kinds(shape, body, head)
    return sum(_padded(stored_bytes(one, kind)) for one, kind in tensors)


def write_gguf(
    path: Path,
    shape: Shape,
    vocabulary: Vocabulary,
    *,
    body: str,
    head: str,
    seed: int,
    advance: Callable[[int], None],
) -> None:
    """Writes the file.

    Args:
        path: The file.
        shape: What to write.
        vocabulary: Its tokenizer.
        body: Type of the matrices.
        head: Type of the output matrix.
        seed: Of the weights.
        advance: Told the bytes of each piece that was written.
    """
    tensors = _kinds(shape, body, head)
    metadata = {
        **shape.metadata(body),
        "general.name": f"{shape.name}, random weights, seed {seed}",
        "general.quantization_version": 2,
        **_tokenizer(vocabulary),
    }
    with path.open("wb") as file:
        file.write(_header(metadata, tensors))
        _pad(file)
        for tensor, kind in tensors:
            for piece in stream(tensor, kind, seed):
                file.write(piece)
                advance(piece.nbytes)
            _pad(file)


def _kinds(shape: Shape, body: str, head: str) -> list[tuple[Tensor, str]]:
    """The tensors and what each is stored as."""
    kinds = {"ternary": body, "matrix": body, "table": head, "norm": "F32", "float": "F32"}
    return [(one, _fitting(one, kinds.get(one.kind, "F16"))) for one in shape.gguf_tensors()]


def _fitting(tensor: Tensor, kind: str) -> str:
    """F16 in place of blocks that a matrix's columns do not fill, as llama.cpp's quantiser does."""
    block = 32 if kind in {"Q8_0", "Q4_0"} else 1
    return "F16" if tensor.kind == "matrix" and tensor.shape[-1] % block else kind


def _header(metadata: Mapping[str, Any], tensors: Sequence[tuple[Tensor, str]]) -> bytes:
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        code, data = _value(value)
        parts += [_string(key), struct.pack("<I", code), data]
    offset = 0
    for tensor, kind in tensors:
        sizes = tensor.shape[::-1]  # fastest first
        parts += [_string(tensor.gguf), struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)]
        parts.append(struct.pack("<IQ", _TYPES[kind], offset))
        offset += _padded(stored_bytes(tensor, kind))
    return b"".join(parts)


def _value(value: Any) -> tuple[int, bytes]:
    """GGUF's type and bytes of a value; lists hold texts, whole numbers or fractions."""
    match value:
        case bool():
            return _BOOL, struct.pack("<?", value)
        case int():
            return _U32, struct.pack("<I", value)
        case float():
            return _F32, struct.pack("<f", value)
        case str():
            return _STRING, _string(value)
        case [str(), *_]:
            kind, data = _STRING, b"".join(map(_string, value))
        case [float(), *_]:
            kind, data = _F32, struct.pack(f"<{len(value)}f", *value)
        case _:
            kind, data = _I32, struct.pack(f"<{len(value)}i", *value)
    return _ARRAY, struct.pack("<IQ", kind, len(value)) + data


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _tokenizer(vocabulary: Vocabulary) -> dict[str, Any]:
    tables: dict[str, Any] = {
        "tokenizer.ggml.model": vocabulary.model,
        "tokenizer.ggml.tokens": vocabulary.tokens,
        "tokenizer.ggml.token_type": vocabulary.kinds,
        "tokenizer.ggml.bos_token_id": vocabulary.bos,
        "tokenizer.ggml.eos_token_id": vocabulary.ends[0],
        "tokenizer.chat_template": vocabulary.chat_template,
    }
    if vocabulary.trie:
        return tables | {"tokenizer.ggml.eot_token_id": vocabulary.ends[-1]}
    tables["tokenizer.ggml.pre"] = vocabulary.cut
    tables["tokenizer.ggml.add_bos_token"] = vocabulary.begins
    if vocabulary.byte_level:
        tables["tokenizer.ggml.merges"] = [" ".join(pair) for pair in vocabulary.merges]
        tables["tokenizer.ggml.eot_token_id"] = vocabulary.ends[-1]
    else:
        tables["tokenizer.ggml.scores"] = [-float(rank) for rank in range(len(vocabulary.tokens))]
        tables["tokenizer.ggml.unknown_token_id"] = 0
    return tables


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % _ALIGNMENT))
