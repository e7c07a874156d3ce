"""Ternary linear layers of a Hugging Face directory: their shapes and scales, from what is stored.

    stored                                          becomes
    NAME.weight      U8 [rows / 4, cols]            B158 (rows, cols), scale weight_scale
                                                        or 1 / weight_scale (bitlinear)
    NAME.weight      I8 [rows, cols]                I8 (rows, cols), the same scale
    NAME.bias        float [rows]                   scale weight_scale (autobitlinear: it adds the
                                                        bias before it multiplies)
    NAME.weight_scale                               nothing any more

Follows transformers' `integrations/bitnet.py`, and 1bitLLM's names of the sub-norms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.bitnet import LINEAR, Quantization
from ryzanstein.inference.formats.dequantize import dequantize
from ryzanstein.inference.formats.raw import RawTensor

__all__ = ["own_name", "with_scales"]

_NAMES: Final = {
    "self_attn.inner_attn_ln.weight": "self_attn.attn_sub_norm.weight",
    "mlp.ffn_layernorm.weight": "mlp.ffn_sub_norm.weight",
}
_FLOATS: Final = ("F32", "F16", "BF16")
_INTEGERS: Final = ("U8", "I8")
_SCALE: Final = ".weight_scale"
_SMALLEST, _LARGEST = 1e-30, 1e30


def own_name(name: str) -> str:
    """Gives 1bitLLM's norms transformers' names."""
    for theirs, ours in _NAMES.items():
        if name.endswith("." + theirs):
            return name.removesuffix(theirs) + ours
    return name


def with_scales(
    tensors: dict[str, RawTensor],
    config: Mapping[str, Any],
    quantization: Quantization | None,
    shape_of: Callable[[str], tuple[int, int]],
    file: str,
) -> dict[str, RawTensor]:
    """Returns the tensors as what they mean, ternary layers with their scales.

    `shape_of` gives rows and columns of a linear layer.

    Raises:
        ModelLoadError: a scale is missing or senseless, or a layer is stored in another form than
            the configuration says.
    """
    out = dict(tensors)
    if quantization is None or not quantization.ternary:
        _check_types(out, (), file)
        return out
    layers = _ternary_layers(tensors, config)
    for layer in layers:
        value = _scale(out.pop(layer + _SCALE, None), layer, file)
        scale = 1.0 / value if quantization.divides else value
        weight = replace(tensors[layer + ".weight"], name=layer + ".weight", scale=scale)
        out[weight.name] = _unpacked(weight, shape_of(layer), quantization, file)
        bias = out.get(layer + ".bias")
        if bias is not None and not quantization.divides:
            out[layer + ".bias"] = replace(bias, scale=value)
    _check_types(out, [layer + ".weight" for layer in layers], file)
    return out


def _check_types(tensors: Mapping[str, RawTensor], ternary: Iterable[str], file: str) -> None:
    """Integers stand for weights only in ternary layers."""
    known = set(ternary)
    for name in tensors:
        if tensors[name].dtype in _INTEGERS and name not in known:
            raise ModelLoadError(
                f"{file}: {name} has type {tensors[name].dtype!r}, which only packed linear layers "
                "(quantization_mode offline) may have."
            )


def _ternary_layers(tensors: Iterable[str], config: Mapping[str, Any]) -> list[str]:
    skip = set(config["bitnet"]["skip"])
    layers = (name.removesuffix(".weight") for name in tensors if name.endswith(".weight"))
    return [layer for layer in layers if LINEAR.fullmatch(layer) and layer not in skip]


def _unpacked(
    tensor: RawTensor, shape: tuple[int, int], quantization: Quantization, file: str
) -> RawTensor:
    """The layer under the type and shape of what is packed in it."""
    if len(tensor.shape) != 2:
        raise ModelLoadError(
            f"{file}: {tensor.name} has the shape {tensor.shape}, which is no matrix."
        )
    if tensor.dtype not in _INTEGERS and not quantization.unpacked:
        raise ModelLoadError(
            f"{file}: {tensor.name} has type {tensor.dtype}, but linear_class bitlinear packs "
            "weights as U8."
        )
    rows, cols = shape
    if quantization.unpacked and tensor.dtype != "U8" and tensor.shape == (rows, cols):
        return tensor
    if tensor.dtype in _FLOATS:
        return tensor  # of a shape that the check of all shapes refuses by name
    if tensor.shape != (rows // 4, cols) or rows % 4:
        raise ModelLoadError(
            f"{file}: {tensor.name} has the shape {tensor.shape}, which is not {rows} x {cols} "
            "weights packed four rows to a byte."
        )
    return replace(tensor, dtype="B158", shape=(rows, cols))


def _scale(stored: RawTensor | None, layer: str, file: str) -> float:
    name = layer + _SCALE
    if stored is None:
        raise ModelLoadError(f"{file} is incomplete: it has no tensor {name}.")
    if stored.dtype not in _FLOATS or math.prod(stored.shape) != 1:
        raise ModelLoadError(
            f"{file}: {name} has type {stored.dtype} and shape {stored.shape}, but it is to be one "
            "float."
        )
    value = float(dequantize(stored).reshape(-1)[0])
    if not _SMALLEST < value < _LARGEST:
        raise ModelLoadError(f"{file}: {name} is {value:g}, no scale of weights.")
    return value
