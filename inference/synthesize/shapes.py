"""The shapes that can be synthesised: one line a family."""

from __future__ import annotations

from typing import Final

from ryzanstein.errors import ValidationError
from ryzanstein.inference.synthesize.bitnet import BITNET_SHAPES
from ryzanstein.inference.synthesize.mamba import MAMBA_SHAPES
from ryzanstein.inference.synthesize.rwkv import RWKV_SHAPES
from ryzanstein.inference.synthesize.shape import Shape
from ryzanstein.nearest import did_you_mean

__all__ = ["SHAPES", "find_shape"]

SHAPES: Final[dict[str, Shape]] = {
    shape.name: shape for shape in (*BITNET_SHAPES, *MAMBA_SHAPES, *RWKV_SHAPES)
}


def find_shape(name: str) -> Shape:
    """Returns a shape by its name.

    Raises:
        ValidationError: There is none; the nearest names are in the hint.
    """
    if name in SHAPES:
        return SHAPES[name]
    hint = did_you_mean(name, SHAPES) or f"Known: {', '.join(SHAPES)}."
    raise ValidationError(f"There is no shape {name!r}.", hint=hint)
