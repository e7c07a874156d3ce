"""RWKV-6 "Finch": decays and token shifts that depend on the data.

Time mixing, with S [keys, values] the state of a head and d = norm(x before) - norm(x):

    m = tanh(maa_w1 (norm(x) + d * maa_x)), in five parts
    the input of each projection = norm(x) + d * (maa + maa_w2 m)
    r, k, v, gate = projections             w = exp(-exp(decay + decay_w2 tanh(decay_w1 input)))
    y = (S + diag(u) k v')' r               S = diag(w) S + k v'
    x += output * (norm(y) * silu(gate))

Channel mixing: x += sigmoid(receptance * mixed) * (value * relu(key * mixed)^2).

Follows `rwkv/model.py` of the `rwkv` package (version 6.0); Peng et al., "Eagle and Finch", arXiv
2404.05892.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ryzanstein.inference.kernels._program import Program
from ryzanstein.inference.models.options import Options
from ryzanstein.inference.models.rwkv import Rwkv, RwkvArgs, padded
from ryzanstein.inference.models.weights import Weights

__all__ = ["Args", "build"]


@dataclass(frozen=True, slots=True)
class Args(RwkvArgs):
    """Ranks of what goes through few dimensions."""

    mix_rank: int = 0
    decay_rank: int = 0


_SHIFTS: Final = "wkvrg"  # the order of the parts of maa_w1 and maa_w2
_PROJECTIONS: Final = ("receptance", "key", "value", "gate")


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
        self._change, self._to_mix = self.buffers(2)
        self._mixed = dict(zip(_SHIFTS, self.buffers(5), strict=True))
        self._low = [self.program.buffer(args.mix_rank) for _ in _SHIFTS]
        self._low_decay = self.program.buffer(args.decay_rank)
        self._heads = dict(zip("rkvwgo", self.heads(6), strict=True))

    def time_mixing(self, layer: int) -> None:
        name, args, heads = f"blocks.{layer}.att", self.args, self._heads
        self._mix(layer, name)
        self._projections(name)
        bonus, norm = (f"{name}.time_faaaa",), (f"{name}.ln_x.weight", f"{name}.ln_x.bias")
        u, weight, bias = (self.vector(vector, args.width) for vector in bonus + norm)
        self.program.operator(
            "wkv6",
            buffers=[heads[buffer] for buffer in "rkvwgo"],
            vectors=[u, None, weight, bias],
            sizes=[args.num_heads, args.head_dim],
            numbers=[args.group_norm_eps],
            state=args.width * padded(args.head_dim),
        )
        output = self.weights.matrix(f"{name}.output.weight", args.hidden_size, args.width)
        self.linear(heads["o"], output, self.x, accumulate=True)

    def _mix(self, layer: int, name: str) -> None:
        """The five inputs of the projections."""
        rank, width = self.args.mix_rank, self.args.hidden_size
        mus = [self.vector(f"{name}.time_maa_x"), None]
        normed = self.shift(f"blocks.{layer}.ln1", mus, [self._to_mix, self._change], channel=False)
        for index, low in enumerate(self._low):
            inward = self.weights.small_matrix(
                f"{name}.time_maa_w1", rank, width, part=(index, (5 * rank, width))
            )
            self.linear(self._to_mix, inward, low, activated="tanh", joined=index > 0)
        operands = [normed, self._change]
        for index, (low, mixed) in enumerate(zip(self._low, self._mixed.values(), strict=True)):
            outward = self.weights.small_matrix(
                f"{name}.time_maa_w2", width, rank, part=(index, (5, width, rank))
            )
            self.linear(low, outward, mixed, joined=index > 0)
            operands += [mixed, mixed]
        self.program.operator(
            "blend",
            buffers=operands,
            vectors=[self.vector(f"{name}.time_maa_{shift}") for shift in _SHIFTS],
            sizes=[len(_SHIFTS)],
        )

    def _projections(self, name: str) -> None:
        args = self.args
        inward = self.weights.small_matrix(
            f"{name}.time_decay_w1", args.decay_rank, args.hidden_size
        )
        self.linear(self._mixed["w"], inward, self._low_decay, activated="tanh")
        for projection in _PROJECTIONS:
            matrix = self.weights.matrix(
                f"{name}.{projection}.weight", args.width, args.hidden_size
            )
            letter = projection[0]
            self.linear(self._mixed[letter], matrix, self._heads[letter], joined=True)
        outward = self.weights.small_matrix(f"{name}.time_decay_w2", args.width, args.decay_rank)
        bias = self.vector(f"{name}.time_decay", args.width)
        self.linear(self._low_decay, outward, self._heads["w"], bias=bias)

    def channel_mixing(self, layer: int) -> None:
        mus = {part: self.vector(f"blocks.{layer}.ffn.time_maa_{part}") for part in "kr"}
        mixed = [self._mixed["k"], self._mixed["r"]]
        self.gated_channel_mixing(layer, mus, mixed, self._change)
