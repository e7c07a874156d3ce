"""Scales of ternary linear layers of a GGUF file.

stored                                   becomes
blk.N.attn_q.weight   I2_S               its scale is the float behind its codes
blk.N.attn_q.scale    F32 [1]            a factor of the scale of blk.N.attn_q.weight
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ryzanstein.inference.formats.bitnet import LINEAR
from ryzanstein.inference.formats.dequantize import dequantize
from ryzanstein.inference.formats.layouts.layout import UnsupportedModel
from ryzanstein.inference.formats.raw import TAILS, RawTensor

__all__ = ["take_scales"]


def take_scales(tensors: Mapping[str, RawTensor], bitnet: bool) -> dict[str, RawTensor]:
    """Returns tensors (under transformers' names) with their scales; those of scales are gone.

    Raises:
        UnsupportedModel: a scale makes no sense, or belongs to no linear layer of a `bitnet`.
    """
    out = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype in TAILS:
            if not LINEAR.fullmatch(name.removesuffix(".weight")) or name == "lm_head.weight":
                raise UnsupportedModel(
                    f"{tensor.name} has type {tensor.dtype} and is no linear layer"
                )
            _check(tensor.scale, tensor.name)
    for name in [name for name in tensors if name.endswith(".weight_scale")]:
        scale, weight = out.pop(name), name.removesuffix("_scale")
        linear = LINEAR.fullmatch(weight.removesuffix(".weight")) and weight in out
        if not bitnet or not linear or (scale.dtype, scale.shape) != ("F32", (1,)):
            raise UnsupportedModel(
                f"it holds the tensor {scale.name}, which the engine has no use for"
            )
        value = _check(float(dequantize(scale)[0]), scale.name)
        out[weight] = replace(out[weight], scale=out[weight].scale * value)
    return out


def _check(scale: float, name: str) -> float:
    if not 1e-30 < scale < 1e30:
        raise UnsupportedModel(f"{name} has the scale {scale:g}, no scale of weights")
    return scale
