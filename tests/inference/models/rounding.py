"""Comparing two computations of a BitNet that round the same activations to int8.

Both are float32, and their sums differ in the last bits. Once in some hundred thousand codes that
decides to which side x * scale is rounded, and from there on the logits differ by per cent of their
spread, for no fault of either. So the reference can be told to round single codes the other way:

    agreement = resolve(reference, ids, got)

is the reference's logits with as few codes turned as needed to equal `got`, and only codes that lie
within EDGE of a half.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch

from tests.inference.models.transformers_bitnet import bitnet, logits

__all__ = ["Agreement", "resolve"]

EDGE = 1e-4  # of a code, a few units in the last place of 127
SAME = 1e-4  # of the logits' spread; without a turned code the difference is some 1e-6
Place = tuple[int, int, int]  # call of a linear layer, token, element


@dataclass
class _Rounding:
    """Stands in for transformers' ActQuant: the same codes, but for those that are turned."""

    turned: frozenset[Place]
    block: int | None = None
    calls: int = 0
    edges: list[tuple[float, Place]] = field(default_factory=list)

    def turn(self, scaled: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Turns codes [1, n, cols] of scaled activations, and notes which could be."""
        call, self.calls = self.calls, self.calls + 1
        distance = (scaled - scaled.floor() - 0.5).abs()[0]
        for token, element in (distance < EDGE).nonzero().tolist():
            self.edges.append((float(distance[token, element]), (call, token, element)))
        for place, token, element in self.turned:
            if place == call and token < codes.shape[1]:
                down = scaled[0, token, element].floor()
                codes[0, token, element] = 2 * down + 1 - codes[0, token, element]
        return codes

    def apply(self, activation: torch.Tensor) -> torch.Tensor:
        """ActQuant.forward()."""
        blocks = activation.unflatten(-1, (-1, self.block or activation.shape[-1]))
        scale = 127 / blocks.abs().max(dim=-1, keepdim=True).values.clamp_(min=1e-5)
        codes = (blocks * scale).round().clamp(-128, 127)
        assert torch.equal(codes / scale, _ACT_QUANT.apply(blocks))
        turned = self.turn((blocks * scale).flatten(-2), codes.flatten(-2))
        return (turned.view(blocks.shape) / scale).flatten(-2)

    def activation_quant(self, layer: Any, activation: torch.Tensor) -> Any:
        """BitLinear.activation_quant()."""
        codes, scale = _ACTIVATION_QUANT(layer, activation)
        return self.turn(activation * scale, codes), scale


_ACT_QUANT = bitnet.ActQuant
_ACTIVATION_QUANT = bitnet.BitLinear.activation_quant


@contextmanager
def _rounding(rounding: _Rounding) -> Iterator[None]:
    bitnet.ActQuant = rounding
    bitnet.BitLinear.activation_quant = lambda layer, x: rounding.activation_quant(layer, x)
    try:
        yield
    finally:
        bitnet.ActQuant = _ACT_QUANT
        bitnet.BitLinear.activation_quant = _ACTIVATION_QUANT


@dataclass(frozen=True)
class Agreement:
    """The reference's logits, and where its codes had to be turned to equal the other's."""

    logits: np.ndarray
    turned: frozenset[Place]

    @property
    def clean(self) -> int:
        """Tokens before the first turned code."""
        return min((token for _, token, _ in self.turned), default=len(self.logits))


def _run(
    model: Any, ids: Any, turned: frozenset[Place], block: int | None
) -> tuple[np.ndarray, list[Any]]:
    rounding = _Rounding(turned, block)
    with _rounding(rounding):
        return logits(model, ids), rounding.edges


def _apart(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Largest difference after each token, in units of the logits' spread."""
    return np.abs(got - want).max(1) / want.std()


def resolve(
    model: Any, ids: Any, got: np.ndarray, *, block: int | None = None, most: int = 16
) -> Agreement:
    """Returns the reference's logits once they equal `got`, with at most `most` codes turned.

    Args:
        model: from `load_reference`.
        ids: the tokens.
        got: logits after each of them.
        block: elements that share a scale; None for a whole token, as BitNet has it.
        most: codes that may be turned.

    Raises:
        AssertionError: they differ, and codes at the edge of rounding don't explain it.
    """
    turned: frozenset[Place] = frozenset()
    while True:
        want, edges = _run(model, ids, turned, block)
        apart = np.flatnonzero(_apart(got, want) > SAME)
        if not len(apart):
            return Agreement(want, turned)
        assert len(turned) < most, f"{most} codes turned, and logits {apart[0]} still differ"
        turned = _turn_more(model, ids, got, turned, edges, int(apart[0]), block)


def _turn_more(
    model: Any,
    ids: Any,
    got: np.ndarray,
    turned: frozenset[Place],
    edges: list[tuple[float, Place]],
    token: int,
    block: int | None,
) -> frozenset[Place]:
    """Turns one or two codes of a token so that its logits agree."""
    alike: dict[tuple[float, int], set[Place]] = {}
    for distance, place in edges:  # layers that share an input round it alike
        if place[1] == token and place not in turned:
            alike.setdefault((distance, place[2]), set()).add(place)
    for count in (1, 2):
        for more in combinations([alike[key] for key in sorted(alike)], count):
            wanted = turned.union(*more)
            if _apart(got, _run(model, ids, wanted, block)[0])[token] <= SAME:
                return wanted
    raise AssertionError(
        f"logits {token} differ, and none of {len(alike)} codes at the edge of rounding explains it"
    )
