"""Writes a Hugging Face directory: config, tokenizer, and one model.safetensors in pieces.

The header of safetensors is a JSON object and its length; its package wants every tensor in memory.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from ryzanstein.inference.pretokenize import IGNORES_MERGES
from ryzanstein.inference.synthesize.blocks import encode_dense
from ryzanstein.inference.synthesize.shape import Shape, Tensor
from ryzanstein.inference.synthesize.vocabulary import NORMAL, Vocabulary
from ryzanstein.inference.synthesize.weights import stored_bytes, stream

__all__ = ["HUB_FILES", "hub_bytes", "write_hub"]

_WORLD_FILE: Final = "rwkv_vocab_v20230424.txt"
HUB_FILES: Final = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    _WORLD_FILE,
    "tokenizer.json",
    "tokenizer_config.json",
)

_Entry = tuple[str, str, tuple[int, ...], int, Callable[[], Iterator[memoryview]]]


def hub_bytes(shape: Shape) -> int:
    """Returns the bytes of all tensors.

    Raises:
        ValueError: the shape does not fit its own layout.
    """
    return sum(size for _, _, _, size, _ in _entries(shape, 0))


def write_hub(
    path: Path, shape: Shape, vocabulary: Vocabulary, *, seed: int, advance: Callable[[int], None]
) -> None:
    """Writes the directory, which exists and is empty.

    Args:
        path: The directory.
        shape: What to write.
        vocabulary: Its tokenizer.
        seed: Of the weights.
        advance: Told the bytes of each piece that was written.
    """
    ends = list(vocabulary.ends)
    ids = {"bos_token_id": vocabulary.bos, "eos_token_id": ends[0]}
    _write_json(path / "config.json", shape.config() | ids)
    _write_json(path / "generation_config.json", ids | {"eos_token_id": ends})
    write_tokenizer(path, shape, vocabulary)
    entries = list(_entries(shape, seed))
    with (path / "model.safetensors").open("wb") as file:
        file.write(_header(entries))
        for *_, pieces in entries:
            for piece in pieces():
                file.write(piece)
                advance(piece.nbytes)


def _entries(shape: Shape, seed: int) -> Iterator[_Entry]:
    """Name, dtype, stored shape, bytes and data of everything in the file."""
    for tensor in shape.tensors():
        kind = shape.hub_body if tensor.kind in {"ternary", "matrix"} else shape.hub_dtype
        packed = kind == "B158"
        stored = (tensor.shape[0] // 4, *tensor.shape[1:]) if packed else tensor.shape

        def pieces(tensor: Tensor = tensor, kind: str = kind) -> Iterator[memoryview]:
            return stream(tensor, kind, seed)

        size = stored_bytes(tensor, kind)
        yield tensor.name, "U8" if packed else kind, stored, size, pieces
        if packed:
            scale = encode_dense(np.array([[tensor.scale]], np.float32), shape.hub_dtype).data

            def whole(scale: memoryview = scale) -> Iterator[memoryview]:
                return iter([scale])

            yield f"{tensor.name}_scale", shape.hub_dtype, (1,), scale.nbytes, whole


def _header(entries: list[_Entry]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, dtype, stored, size, _ in entries:
        offsets = [at, at + size]
        header[name] = {"dtype": dtype, "shape": list(stored), "data_offsets": offsets}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_tokenizer(path: Path, shape: Shape, vocabulary: Vocabulary) -> None:
    """Writes the tokenizer and tokenizer_config.json."""
    begin, end = (vocabulary.tokens[index] for index in (vocabulary.bos, vocabulary.ends[0]))
    if vocabulary.trie:
        _write_world(path / _WORLD_FILE, vocabulary)
    else:
        _write_merges(path / "tokenizer.json", vocabulary)
    settings = {
        "tokenizer_class": "RwkvTokenizer" if vocabulary.trie else "PreTrainedTokenizerFast",
        "bos_token": begin,
        "eos_token": end,
        "clean_up_tokenization_spaces": False,
        "model_max_length": shape.context,
        "chat_template": vocabulary.chat_template,
    }
    _write_json(path / "tokenizer_config.json", settings)


def _write_world(path: Path, vocabulary: Vocabulary) -> None:
    """Id, Python literal and bytes of each token but the end of text and the padding, a line each.

    As BlinkDL's `rwkv_vocab_v20230424.txt`.
    """
    lines = []
    for index, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True)):
        if kind == NORMAL:
            data = ast.literal_eval(f'b"{text}"' if "'" in text else f"b'{text}'")
            lines.append(f"{index} {(data.decode() if data.isascii() else data)!r} {len(data)}\n")
    path.write_text("".join(lines), encoding="utf-8")


def _write_merges(path: Path, vocabulary: Vocabulary) -> None:
    from tokenizers import AddedToken, Tokenizer, models, processors

    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    begin = vocabulary.tokens[vocabulary.bos]
    whole = vocabulary.cut in IGNORES_MERGES
    model = (
        models.BPE(vocab=ids, merges=vocabulary.merges, ignore_merges=whole)
        if vocabulary.byte_level
        else models.BPE(
            vocab=ids,
            merges=vocabulary.merges,
            unk_token=vocabulary.tokens[0],
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer = Tokenizer(model)
    if vocabulary.byte_level:
        _cut_bytes(tokenizer, vocabulary.cut)
    else:
        _cut_pieces(tokenizer)
    if vocabulary.begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A",
            pair=f"{begin} $A {begin} $B",
            special_tokens=[(begin, vocabulary.bos)],
        )
    added = [AddedToken(text, special=True, normalized=False) for text in vocabulary.specials]
    tokenizer.add_special_tokens(added)
    tokenizer.save(str(path), pretty=False)


def _cut_bytes(tokenizer: Any, cut: str) -> None:
    """As Llama 3's and GPT-NeoX's tokenizers."""
    from tokenizers import decoders

    from ryzanstein.inference.pretokenize import pre_tokenizer

    tokenizer.pre_tokenizer = pre_tokenizer(cut)
    tokenizer.decoder = decoders.ByteLevel()


def _cut_pieces(tokenizer: Any) -> None:
    """As Llama 2's tokenizer."""
    from tokenizers import decoders, normalizers

    spaces = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(spaces)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
