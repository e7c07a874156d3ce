"""RWKV-7 "Goose": a state that forgets by element, and unlearns what a key held before.

Time mixing, with a token's norm shifted six ways and S [keys, values] the state of a head:

    r, k, v = projections                   w, a, gate, m = through few dimensions each
    w = exp(-exp(-0.5) sigmoid(w))          a = sigmoid(a)
    c = k * k_k, of length 1 a head         k = k * (1 + (a - 1) * k_a)
    v = v + (v of the first layer - v) * sigmoid(m)
    S = diag(w) S - (a c) (S' c)' + k v'
    x += output * ((norm(S' r) + (r . (k * r_k)) v) * gate)

Channel mixing: x += value * relu(key * mixed)^2. Of low rank are: w = w2 tanh(w1), a = a2 a1,
m = v2 v1, gate = g2 sigmoid(g1).

Follows `rwkv/model.py` of the `rwkv` package (RWKV_x070); Peng et al., "RWKV-7 'Goose' with
Expressive Dynamic State Evolution", arXiv 2503.14456.
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

    decay_rank: int = 0
    a_rank: int = 0
    v_rank: int = 0
    gate_rank: int = 0


# What is of low rank: the tensors' letter, the shift it reads, what lies between, has it a bias.
_LOW_RANK: Final = (
    ("w", "w", "tanh", True),
    ("a", "a", None, True),
    ("g", "g", "sigmoid", False),
    ("v", "v", None, True),
)
_SHIFTS: Final = "rwkvag"


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
        self._ranks = {
            "w": args.decay_rank,
            "a": args.a_rank,
            "v": args.v_rank,
            "g": args.gate_rank,
        }
        self._mixed = dict(zip(_SHIFTS, self.buffers(6), strict=True))
        self._low = {name: self.program.buffer(rank) for name, rank in self._ranks.items() if rank}
        names = ("r", "k", "v", "w", "a", "g", "mix", "first", "out")
        self._heads = dict(zip(names, self.heads(len(names)), strict=True))

    def time_mixing(self, layer: int) -> None:
        name, args, heads = f"blocks.{layer}.att", self.args, self._heads
        mus = [self.vector(f"{name}.x_{shift}") for shift in _SHIFTS]
        self.shift(f"blocks.{layer}.ln1", mus, list(self._mixed.values()), channel=False)
        values = heads["first"] if layer == 0 else heads["v"]
        self._projections(name, values)
        self._low_rank(name, _LOW_RANK if layer else _LOW_RANK[:-1])
        later = [heads["mix"], heads["first"]] if layer else [-1, -1]
        inputs = [heads["r"], heads["k"], values, heads["w"], heads["a"], heads["g"], *later]
        vectors = ("k_k", "k_a", "r_k", "ln_x.weight", "ln_x.bias")
        self.program.operator(
            "wkv7",
            buffers=[*inputs, heads["out"]],
            vectors=[self.vector(f"{name}.{vector}", args.width) for vector in vectors],
            sizes=[args.num_heads, args.head_dim],
            numbers=[args.group_norm_eps],
            state=args.width * padded(args.head_dim),
        )
        output = self.weights.matrix(f"{name}.output.weight", args.hidden_size, args.width)
        self.linear(heads["out"], output, self.x, accumulate=True)

    def _projections(self, name: str, values: int) -> None:
        outputs = {"receptance": self._heads["r"], "key": self._heads["k"], "value": values}
        for index, (projection, output) in enumerate(outputs.items()):
            matrix = self.weights.matrix(
                f"{name}.{projection}.weight", self.args.width, self.args.hidden_size
            )
            self.linear(self._mixed[projection[0]], matrix, output, joined=index > 0)

    def _low_rank(self, name: str, parts: tuple[tuple[str, str, str | None, bool], ...]) -> None:
        """All inward matrices, which need only the shift, and then all outward ones."""
        outputs = {"v": "mix"}
        for letter, shift, between, _ in parts:
            inward = self.weights.small_matrix(
                f"{name}.{letter}1", self._ranks[letter], self.args.hidden_size
            )
            self.linear(
                self._mixed[shift], inward, self._low[letter], activated=between, joined=True
            )
        for index, (letter, _, _, has_bias) in enumerate(parts):
            outward = self.weights.small_matrix(
                f"{name}.{letter}2", self.args.width, self._ranks[letter]
            )
            bias = self.vector(f"{name}.{letter}0", self.args.width) if has_bias else None
            output = self._heads[outputs.get(letter, letter)]
            self.linear(self._low[letter], outward, output, bias=bias, joined=index > 0)

    def channel_mixing(self, layer: int) -> None:
        name, args = f"blocks.{layer}.ffn", self.args
        mixed = self._mixed["k"]
        self.shift(f"blocks.{layer}.ln2", [self.vector(f"{name}.x_k")], [mixed], channel=True)
        inner = self.square(layer, mixed)
        value = self.weights.matrix(
            f"{name}.value.weight", args.hidden_size, args.intermediate_size
        )
        self.linear(inner, value, self.x, accumulate=True)
