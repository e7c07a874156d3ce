"""RWKV-5 "Eagle": a matrix of state a head, decays that are constant.

Time mixing, with S [keys, values] the state of a head, w = exp(-exp(time_decay)), u = time_faaaa:

    r, k, v, gate = projections of norm(x), each mixed with the token before
    y = (S + diag(u) k v')' r               S = diag(w) S + k v'
    x += output * (norm(y) * silu(gate))

    version   w and u                gate
    5.0       one number a head      no
    5.1       one number a head      yes
    5.2       one a channel          yes

Channel mixing is RWKV-4's. Follows `rwkv/model.py` of the `rwkv` package (versions 5 to 5.2); Peng
et al., "Eagle and Finch", arXiv 2404.05892.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ryzanstein.inference.kernels._program import Program
from ryzanstein.inference.models.options import Options
from ryzanstein.inference.models.rwkv import Rwkv, RwkvArgs, Vector, padded
from ryzanstein.inference.models.weights import Weights

__all__ = ["Args", "build"]

_PROJECTIONS: Final = {"r": "receptance", "k": "key", "v": "value", "g": "gate"}


@dataclass(frozen=True, slots=True)
class Args(RwkvArgs):
    """Which of the three it is."""

    rwkv_version: str = "5.2"

    @property
    def gated(self) -> bool:
        """Whether outputs go through a gate."""
        return self.rwkv_version != "5"

    @property
    def numbers(self) -> int:
        """Elements of a head's decay and bonus."""
        return self.head_dim if self.rwkv_version == "5.2" else 1


def build(config: Mapping[str, Any], weights: Weights, options: Options) -> Program:
    """Packs the weights and returns the program, ready to run.

    Raises:
        ModelLoadError: the configuration or a tensor is not what it must be.
    """
    return _Model(Args.from_dict(config), weights, options).build()


class _Model(Rwkv):
    args: Args

    def __init__(self, args: Args, weights: Weights, options: Options) -> None:
        super().__init__(args, weights, options)
        parts = "rkvg" if args.gated else "rkv"
        self._mixed = dict(zip(parts, self.buffers(len(parts)), strict=True))
        self._heads = dict(zip(parts, self.heads(len(parts)), strict=True))
        (self._out,) = self.heads(1)

    def time_mixing(self, layer: int) -> None:
        name, args, heads = f"blocks.{layer}.att", self.args, self._heads
        self._projections(layer, name)
        bonus, decay = (self._a_channel(f"{name}.time_{part}") for part in ("faaaa", "decay"))
        norm = [self.vector(f"{name}.ln_x.{part}", args.width) for part in ("weight", "bias")]
        self.program.operator(
            "wkv6",
            buffers=[heads["r"], heads["k"], heads["v"], -1, heads.get("g", -1), self._out],
            vectors=[bonus, np.exp(-np.exp(decay)), *norm],
            sizes=[args.num_heads, args.head_dim],
            numbers=[args.group_norm_eps],
            state=args.width * padded(args.head_dim),
        )
        output = self.weights.matrix(f"{name}.output.weight", args.hidden_size, args.width)
        self.linear(self._out, output, self.x, accumulate=True)

    def _projections(self, layer: int, name: str) -> None:
        # Files say how much of the token itself is taken, a shift how much of the one before.
        mus = [1 - self.vector(f"{name}.time_mix_{part}") for part in self._mixed]
        self.shift(f"blocks.{layer}.ln1", mus, list(self._mixed.values()), channel=False)
        for part, mixed in self._mixed.items():
            tensor = f"{name}.{_PROJECTIONS[part]}.weight"
            matrix = self.weights.matrix(tensor, self.args.width, self.args.hidden_size)
            self.linear(mixed, matrix, self._heads[part], joined=part != "r")

    def _a_channel(self, name: str) -> Vector:
        """A vector with a number for each channel, or for each head."""
        given = self.vector(name, self.args.num_heads * self.args.numbers)
        return np.repeat(given, self.args.head_dim // self.args.numbers)

    def channel_mixing(self, layer: int) -> None:
        name = f"blocks.{layer}.ffn"
        mus = {part: 1 - self.vector(f"{name}.time_mix_{part}") for part in "kr"}
        mixed = [self._mixed["k"], self._mixed["r"]]
        self.gated_channel_mixing(layer, mus, mixed, self._mixed["v"])
