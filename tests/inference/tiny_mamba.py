"""Tiny random Mambas of every family, as transformers saves them and as llama.cpp converts them.

    shape = Shape("mamba2", heads=4, groups=2, tied=False)
    write_hf(tmp_path / "hf", shape)
    write_gguf(tmp_path / "m.gguf", shape, "Q8_0")     the same weights, quantised

GGUF names are those of the gguf package's table, and tensors are changed as llama.cpp's
`conversion/mamba.py` changes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Shape:
    """What a tiny model looks like; `rank`, of dt, is transformers' own where it is None."""

    family: str = "mamba"
    hidden: int = 32
    layers: int = 2
    state: int = 16
    kernel: int = 4
    rank: int | None = None
    heads: int = 8
    groups: int = 2
    expand: int = 2
    vocab: int = 100
    bias: bool = False
    conv_bias: bool = True
    tied: bool = True
    seed: int = 0

    @property
    def inner(self) -> int:
        return self.expand * self.hidden


def module(shape: Shape) -> Any:
    """A transformers model of that shape with random weights everywhere, in evaluation mode."""
    import torch
    import transformers as hf

    settings: dict[str, Any] = {
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "state_size": shape.state,
        "conv_kernel": shape.kernel,
        "expand": shape.expand,
        "vocab_size": shape.vocab,
        "use_bias": shape.bias,
        "use_conv_bias": shape.conv_bias,
        "tie_word_embeddings": shape.tied,
    }
    model: Any
    if shape.family == "mamba2":
        settings |= {"num_heads": shape.heads, "head_dim": shape.inner // shape.heads}
        model = hf.Mamba2ForCausalLM(hf.Mamba2Config(n_groups=shape.groups, **settings))
    else:
        settings |= {} if shape.rank is None else {"time_step_rank": shape.rank}
        if shape.family == "mamba":
            model = hf.MambaForCausalLM(hf.MambaConfig(**settings))
        else:
            model = hf.FalconMambaForCausalLM(hf.FalconMambaConfig(**settings))
    random = torch.Generator().manual_seed(shape.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=random)
            if name.endswith(("norm.weight", "norm_f.weight", ".D", ".A_log")):
                parameter += 0.2 * noise
            elif "bias" in name:
                parameter.copy_(0.3 * noise - (2.0 if ".dt_" in name else 0.0))
            else:
                fan = 1 if "embeddings" in name else parameter.shape[-1]
                parameter.copy_(noise / fan**0.5)
    return model.eval()


def weights(shape: Shape) -> Weights:
    """Weights under transformers' names, without a tied output matrix."""
    listed = {name: array.numpy() for name, array in module(shape).state_dict().items()}
    if shape.tied:
        listed.pop("lm_head.weight")
    return listed


def write_hf(path: Path, shape: Shape, dtype: str = "float32", **options: Any) -> Path:
    """Saves a model as transformers does; `options` are of save_pretrained."""
    import torch

    module(shape).to(getattr(torch, dtype)).save_pretrained(path, **options)
    return path


def rewrite(path: Path, change: Callable[[Weights], None]) -> None:
    """Changes the tensors of a directory with one float32 file."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(
        {name: np.array(t, order="C") for name, t in tensors.items()},
        path / "model.safetensors",
        {"format": "pt"},
    )


def reconfigure(path: Path, changes: dict[str, Any]) -> None:
    """Changes keys of config.json; None takes one away."""
    file = path / "config.json"
    values = json.loads(file.read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in values.items() if value is not None}
    file.write_text(json.dumps(kept), encoding="utf-8")


def write_gguf(path: Path, shape: Shape, dtype: str = "F32", **metadata: Any) -> Path:
    """Writes a GGUF file: matrices as `dtype` where they can be, all else as F32.

    `metadata` changes keys of the architecture, with "__" for "."; None takes one away.
    """
    listed = gguf_tensors(shape)
    return write_gguf_tensors(path, shape, listed, dtype, **metadata)


def gguf_tensors(shape: Shape) -> Weights:
    """Tensors as llama.cpp's converter names and shapes them."""
    import gguf

    kind = gguf.MODEL_ARCH.MAMBA2 if shape.family == "mamba2" else gguf.MODEL_ARCH.MAMBA
    table = gguf.get_tensor_name_map(kind, shape.layers)
    out: Weights = {}
    for name, array in weights(shape).items():
        source = name.replace(".dt_bias", ".dt_proj.bias")
        named = table.get_name(source, try_suffixes=(".weight", ".bias"))
        assert named is not None, name
        out[named] = _converted(named, array, shape)
    return out


def _converted(name: str, array: npt.NDArray[np.float32], shape: Shape) -> npt.NDArray[np.float32]:
    if name.endswith("ssm_conv1d.weight"):
        return array.squeeze()
    if name.endswith("ssm_norm.weight"):
        return array.reshape(shape.groups, -1)
    if name.endswith("ssm_a"):
        array = -np.exp(array)
    if name.endswith(("ssm_a", "ssm_d")) and shape.family == "mamba2":
        return array.reshape(-1, 1)
    return array


def write_gguf_tensors(
    path: Path, shape: Shape, tensors: Weights, dtype: str = "F32", **metadata: Any
) -> Path:
    """Writes these tensors with the metadata of a shape."""
    import gguf

    architecture = "mamba2" if shape.family == "mamba2" else "mamba"
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (_metadata(shape) | metadata).items():
        add: dict[type, Callable[[str, Any], None]] = {
            bool: writer.add_bool,
            int: writer.add_uint32,
            float: writer.add_float32,
            str: writer.add_string,
            list: writer.add_array,
        }
        if value is not None:
            add[type(value)](f"{architecture}.{key.replace('__', '.')}", value)
    kind = gguf.GGMLQuantizationType[dtype]
    block = gguf.GGML_QUANT_SIZES[kind][0]
    for name, array in tensors.items():
        matrix = array.ndim == 2 and name.endswith(".weight") and "conv1d" not in name
        if dtype == "F32" or not matrix or "norm" in name or array.shape[1] % block:
            writer.add_tensor(name, np.ascontiguousarray(array, np.float32))
        else:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _metadata(shape: Shape) -> dict[str, Any]:
    two = shape.family == "mamba2"
    values: dict[str, Any] = {
        "context_length": 1 << 20,
        "embedding_length": shape.hidden,
        "feed_forward_length": 0,
        "attention__head_count": 0,
        "block_count": shape.layers,
        "vocab_size": shape.vocab,
        "ssm__conv_kernel": shape.kernel,
        "ssm__inner_size": shape.inner,
        "ssm__state_size": shape.state,
        "ssm__time_step_rank": shape.heads if two else shape.rank or -(-shape.hidden // 16),
        "attention__layer_norm_rms_epsilon": 1e-5,
    }
    extra = {"ssm__group_count": shape.groups}
    return values | (extra if two else {"ssm__dt_b_c_rms": shape.family == "falcon_mamba"})
