"""How much memory a checkpoint's weights will take once they are packed."""

from __future__ import annotations

import math

from ryzanstein.inference.formats.bitnet import is_ternary
from ryzanstein.inference.formats.checkpoint import Checkpoint
from ryzanstein.inference.formats.layouts import output_name
from ryzanstein.inference.formats.raw import TERNARY
from ryzanstein.inference.kernels.pack import SOURCES

__all__ = ["packed_bytes"]

# Codes and fp16 scales (and minima) of a group of 32.
_BYTES_A_WEIGHT: dict[tuple[str, str], float] = {
    ("f32", "none"): 4.0,
    ("int8", "group"): 1.0625,
    ("int6", "half"): 0.875,
    ("int5", "group"): 0.6875,
    ("int5", "min"): 0.75,
    ("int4", "group"): 0.5625,
    ("int4", "min"): 0.625,
}
_TRIT = 0.25
_FORCED = {"float": 4.0, "int8": 1.0625, "scan": 1.0625, "int4": 0.625, "ternary": _TRIT}


def packed_bytes(checkpoint: Checkpoint, precision: str, head: str = "auto") -> int:
    """Estimates the bytes of all weights in their packed forms, from the tensors' types."""
    forms = {output_name(checkpoint.config): head} if head != "auto" else {}
    return math.ceil(
        sum(_bytes(name, checkpoint, forms.get(name, precision)) for name in checkpoint.names())
    )


def _bytes(name: str, checkpoint: Checkpoint, precision: str) -> float:
    dtype, shape = checkpoint.type_and_shape(name)
    weights = math.prod(shape)
    if len(shape) < 2:
        return 4.0 * weights
    if is_ternary(checkpoint.config, name):
        return _TRIT * weights
    if precision in _FORCED:
        return _FORCED[precision] * weights
    return weights * (_TRIT if dtype in TERNARY else _BYTES_A_WEIGHT[SOURCES[dtype][1:]])
