"""Tiny random BitNets in every layout that is distributed.

    shape = tiny.Shape("bitnet", hidden=64, inner=128)
    write_hub(tmp_path / "hf", shape, "packed")              microsoft/bitnet-b1.58-2B-4T
    write_hub(tmp_path / "hf", shape, "bitlinear")           HF1BitLLM, Falcon3, Falcon-E
    write_hub(tmp_path / "hf", shape, "int8" | "floats")     the same, not packed
    write_hub(tmp_path / "hf", shape, "master")              …-bf16, quantised on load
    write_hub(tmp_path / "hf", shape, "1bitllm")             1bitLLM/bitnet_b1_58-large
    write_gguf(tmp_path / "m.gguf", shape, "TQ2_0")          llama.cpp; also TQ1_0, F16, F32
    write_gguf(tmp_path / "m.gguf", shape, "I2_S", "bitnet-b1.58")          bitnet.cpp

`trits(shape)` are what the linear layers hold, `scales(shape)` what they are multiplied by: exact
in bf16 and fp16, and so are their reciprocals. Master weights quantise to these trits.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ryzanstein.inference.formats.gguf_header import read_header
from tests.inference import tiny

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# A tensor as it is stored: type, shape, bytes.
Stored = tuple[str, tuple[int, ...], bytes]
_SUB_NORMS = {
    "self_attn.attn_sub_norm": "self_attn.inner_attn_ln",
    "mlp.ffn_sub_norm": "mlp.ffn_layernorm",
}
_GGUF_NORMS = {"self_attn.attn_sub_norm": "attn_sub_norm", "mlp.ffn_sub_norm": "ffn_sub_norm"}
I2_S = 36


def is_linear(name: str) -> bool:
    """Says whether a tensor is a ternary matrix."""
    return name.endswith(tuple(f"{part}.weight" for part in LINEAR))


@cache
def trits(shape: tiny.Shape) -> dict[str, npt.NDArray[np.int8]]:
    """What every linear layer holds: -1, 0 and 1, a third each."""
    rng = np.random.default_rng(shape.seed + 1)
    dense = tiny.weights(shape)
    return {
        name: rng.integers(-1, 2, array.shape).astype(np.int8)
        for name, array in dense.items()
        if is_linear(name)
    }


@cache
def scales(shape: tiny.Shape) -> dict[str, float]:
    """A power of two for each linear layer, so that outputs stay near 1."""
    return {name: 2.0 ** -(2 + index % 3) for index, name in enumerate(trits(shape))}


@cache
def others(shape: tiny.Shape) -> tiny.Weights:
    """Norms (sub-norms too where the shape is a BitNet's), embedding, head and biases."""
    rng = np.random.default_rng(shape.seed + 2)
    out = {name: array for name, array in tiny.weights(shape).items() if not is_linear(name)}
    sizes = {"self_attn.attn_sub_norm": shape.heads * shape.dim, "mlp.ffn_sub_norm": shape.inner}
    for layer in range(shape.layers if shape.model_type == "bitnet" else 0):
        if shape.has_bias:
            bias = 0.2 * rng.standard_normal(shape.hidden)
            out[f"model.layers.{layer}.self_attn.o_proj.bias"] = bias.astype(np.float32)
        for name, size in sizes.items():
            norm = 1 + 0.2 * rng.standard_normal(size)
            out[f"model.layers.{layer}.{name}.weight"] = norm.astype(np.float32)
    return out


@cache
def inner_norms(shape: tiny.Shape) -> tiny.Weights:
    """The norm inside each linear layer, as `use_rms_norm` has it."""
    rng = np.random.default_rng(shape.seed + 3)
    return {
        name.removesuffix("weight") + "rms_norm.weight": (
            1 + 0.2 * rng.standard_normal(array.shape[1])
        ).astype(np.float32)
        for name, array in trits(shape).items()
    }


@cache
def master(shape: tiny.Shape) -> tiny.Weights:
    """Float weights that absmean quantises to `trits`, with a mean magnitude near `scales`."""
    rng = np.random.default_rng(shape.seed + 4)
    out = {}
    for name, array in trits(shape).items():
        small = rng.uniform(-0.3, 0.3, array.shape)
        large = np.sign(array) * rng.uniform(0.9, 2.0, array.shape)
        values = np.where(array == 0, small, large)
        out[name] = (values / np.abs(values).mean() * scales(shape)[name]).astype(np.float32)
    return out


def pack(array: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """transformers' packing of a matrix whose rows are a multiple of four."""
    parts = (array + 1).astype(np.uint8).reshape(4, -1, array.shape[1])
    return parts[0] | parts[1] << 2 | parts[2] << 4 | parts[3] << 6


def i2_s(array: npt.NDArray[np.int8], scale: float) -> bytes:
    """bitnet.cpp's bytes of a matrix: codes, the scale, and padding to 32 bytes."""
    parts = (array + 1).astype(np.uint8).reshape(-1, 4, 32)
    codes = parts[:, 0] << 6 | parts[:, 1] << 4 | parts[:, 2] << 2 | parts[:, 3]
    return codes.tobytes() + np.float32(scale).tobytes() + bytes(28)


def config(shape: tiny.Shape, stored: str, **quantization: Any) -> dict[str, Any]:
    """config.json; `quantization` changes quantization_config."""
    values = tiny.config(shape) | {"model_type": shape.model_type}
    if shape.model_type == "bitnet":
        values |= {"architectures": ["BitNetForCausalLM"], "hidden_act": "relu2"}
        values |= {"attention_bias": shape.has_bias}
    if stored == "1bitllm":
        names = {"architectures": ["BitnetForCausalLM"], "model_type": "llama"}
        return values | names | {"hidden_act": "silu", "weight_bits": 1, "input_bits": 8}
    given = {
        "quant_method": "bitnet",
        "linear_class": "bitlinear" if stored == "bitlinear" else "autobitlinear",
        "quantization_mode": "online" if stored == "master" else "offline",
    }
    return values | {"quantization_config": given | quantization}


def hub_tensors(shape: tiny.Shape, stored: str, dtype: str = "F32") -> dict[str, Stored]:
    """The tensors of a Hugging Face directory; floats are of type `dtype`."""

    def floats(array: npt.NDArray[Any]) -> Stored:
        return dtype, array.shape, tiny.stored(array.astype(np.float32), dtype)

    if stored in ("master", "1bitllm"):
        out = {name: floats(array) for name, array in (others(shape) | master(shape)).items()}
        if stored == "master":
            return out
        return {_own_name(name): value for name, value in out.items()}
    out = {name: floats(array) for name, array in others(shape).items()}
    for name, array in trits(shape).items():
        scale = scales(shape)[name]
        value = 1 / scale if stored == "bitlinear" else scale
        out[name + "_scale"] = floats(np.array([value]))
        if stored == "floats":
            out[name] = floats(array)
        elif stored == "int8":
            out[name] = "I8", array.shape, array.tobytes()
        else:
            packed = pack(array)
            out[name] = "U8", packed.shape, packed.tobytes()
    return out


def _own_name(name: str) -> str:
    for ours, theirs in _SUB_NORMS.items():
        name = name.replace(ours, theirs)
    return name


def write_hub(
    path: Path, shape: tiny.Shape, stored: str, dtype: str = "F32", **quantization: Any
) -> Path:
    """Writes a Hugging Face directory; returns its path."""
    path.mkdir(parents=True, exist_ok=True)
    values = config(shape, stored, **quantization)
    (path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    tensors = hub_tensors(shape, stored, dtype)
    if quantization.get("use_rms_norm"):
        for name, array in inner_norms(shape).items():
            tensors[name] = dtype, array.shape, tiny.stored(array, dtype)
    write_stored(path / "model.safetensors", tensors)
    if shape.vocab >= tiny.MIN_VOCAB:
        tiny.write_tokenizer(path, shape)
    return path


def write_stored(path: Path, tensors: Mapping[str, Stored]) -> None:
    """Writes one .safetensors file of tensors of any types."""
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        offsets = [at, at + len(data)]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
        at += len(data)
    text = json.dumps(header).encode()
    data = b"".join(data for _, _, data in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def write_gguf(
    path: Path,
    shape: tiny.Shape,
    dtype: str,
    architecture: str = "bitnet",
    head: str = "F32",
    **metadata: str | int | float,
) -> Path:
    """Writes a GGUF file: linear layers as `dtype`, embedding and output matrix as `head`.

    `metadata` adds keys of the architecture, with "__" for ".".
    """
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    tiny._write_settings(writer, shape)
    for key, value in metadata.items():
        add = {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}
        add[type(value)](f"{architecture}.{key.replace('__', '.')}", value)
    if shape.vocab >= tiny.MIN_VOCAB:
        tiny._write_tables(writer, shape)
    for name, array in others(shape).items():
        _add(writer, gguf_name(name), head if array.ndim == 2 else "F32", array)
    for name, array in trits(shape).items():
        # `permuted` knows the row order of the architecture llama only.
        array = tiny.permuted(name, array, shape)
        scale = scales(shape)[name]
        if dtype == "I2_S":
            raw = np.frombuffer(i2_s(array, scale), np.uint8)
            _add_raw(writer, gguf_name(name), array.shape, raw)
        else:
            _add(writer, gguf_name(name), dtype, array * np.float32(scale))
    return tiny._close(writer)


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor."""
    for ours, theirs in _GGUF_NORMS.items():
        if ours in name:
            return f"blk.{name.split('.')[2]}.{theirs}.weight"
    return tiny.gguf_name(name)


def _add(writer: Any, name: str, dtype: str, array: npt.NDArray[Any]) -> None:
    import gguf

    kind = gguf.GGMLQuantizationType[dtype]
    array = array.astype(np.float32)
    writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)


def _add_raw(writer: Any, name: str, shape: tuple[int, ...], raw: npt.NDArray[np.uint8]) -> None:
    """A tensor of a type that the gguf package does not have."""
    import gguf

    info = gguf.gguf_writer.TensorInfo(shape=shape, dtype=I2_S, nbytes=raw.nbytes, tensor=raw)
    writer.tensors[-1][name] = info


def rewrite(path: Path, changes: dict[str, Any]) -> None:
    """Changes keys of config.json."""
    file = path / "config.json"
    values = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps(values), encoding="utf-8")


def requantise(path: Path, changes: dict[str, Any]) -> None:
    """Changes keys of quantization_config."""
    values = json.loads((path / "config.json").read_text(encoding="utf-8"))
    rewrite(path, {"quantization_config": values["quantization_config"] | changes})


def with_scale(path: Path, name: str, value: float, count: int = 1) -> None:
    """Adds a tensor of `count` floats to the end of a GGUF file and of its table."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        entries = read_header(buffer).tensors.values()
        content = bytes(buffer)
    first = min(entry.start for entry in entries)
    data = content[first : max(entry.end for entry in entries)]
    data += bytes(-len(data) % 32)
    # Each row of the table: name, count of dimensions, dimensions, type, offset.
    begin = content.index(struct.pack("<Q", len("token_embd.weight")) + b"token_embd.weight")
    end = begin + sum(8 + len(entry.name) + 4 + 8 * len(entry.shape) + 12 for entry in entries)
    head = bytearray(content[:end] + struct.pack("<Q", len(name)) + name.encode())
    head += struct.pack("<IQIQ", 1, count, 0, len(data))
    struct.pack_into("<Q", head, 8, len(entries) + 1)
    head += bytes(-len(head) % 32)
    path.write_bytes(bytes(head) + data + np.full(count, value, np.float32).tobytes())
