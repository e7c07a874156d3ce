"""RWKV-4 "Dove": every channel remembers by itself, with a decay of its own.

Time mixing, a = exp(-exp(time_decay)) a channel's decay and u = time_first:

    r, k, v = projections of norm(x), each mixed with the token before
    y = (A + exp(u + k) v) / (B + exp(u + k))
    A = a A + exp(k) v           B = a B + exp(k)
    x += output * (sigmoid(r) * y)

A and B are kept relative to the largest exponent so far. Channel mixing:
x += sigmoid(receptance * mixed) * (value * relu(key * mixed)^2).

Follows `rwkv/model.py` of the `rwkv` package (version 4), which transformers' `modeling_rwkv`
agrees with; Peng et al., "RWKV: Reinventing RNNs for the Transformer Era", arXiv 2305.13048.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from ryzanstein.inference.kernels._program import Program
from ryzanstein.inference.models.options import Options
from ryzanstein.inference.models.rwkv import Rwkv, RwkvArgs, padded
from ryzanstein.inference.models.weights import Weights

__all__ = ["build"]

_PROJECTIONS: Final = {"r": "receptance", "k": "key", "v": "value"}


def build(config: Mapping[str, Any], weights: Weights, options: Options) -> Program:
    """Packs the weights and returns the program, ready to run.

    Raises:
        ModelLoadError: the configuration or a tensor is not what it must be.
    """
    channels = {"num_heads": config.get("attention_hidden_size"), "head_dim": 1}
    return _Model(RwkvArgs.from_dict({**config, **channels}), weights, options).build()


class _Model(Rwkv):
    def __init__(self, args: RwkvArgs, weights: Weights, options: Options) -> None:
        super().__init__(args, weights, options)
        self._mixed = dict(zip(_PROJECTIONS, self.buffers(3), strict=True))
        self._projected = dict(zip(_PROJECTIONS, self.heads(3), strict=True))

    def time_mixing(self, layer: int) -> None:
        name, args, projected = f"blocks.{layer}.att", self.args, self._projected
        # Files say how much of the token itself is taken, a shift how much of the one before.
        mus = [1 - self.vector(f"{name}.time_mix_{part}") for part in _PROJECTIONS]
        self.shift(f"blocks.{layer}.ln1", mus, list(self._mixed.values()), channel=False)
        for part, projection in _PROJECTIONS.items():
            tensor = f"{name}.{projection}.weight"
            self.linear(
                self._mixed[part],
                self.weights.matrix(tensor, args.width, args.hidden_size),
                projected[part],
                activated="sigmoid" if part == "r" else None,
                joined=part != "r",
            )
        bonus = self.vector(f"{name}.time_first", args.width)
        decay = -np.exp(self.vector(f"{name}.time_decay", args.width))
        self.program.operator(
            "wkv4",
            buffers=[projected["r"], projected["k"], projected["v"], projected["r"]],
            vectors=[bonus, decay],
            state=3 * padded(args.width),
        )
        output = self.weights.matrix(f"{name}.output.weight", args.hidden_size, args.width)
        self.linear(projected["r"], output, self.x, accumulate=True)

    def channel_mixing(self, layer: int) -> None:
        name = f"blocks.{layer}.ffn"
        mus = {part: 1 - self.vector(f"{name}.time_mix_{part}") for part in "kr"}
        mixed = [self._mixed["k"], self._mixed["r"]]
        self.gated_channel_mixing(layer, mus, mixed, self._mixed["v"])
