"""What the versions of RWKV share, as operators of a program.

    x = norm(embedding[token])
    for each layer:
        x += time mixing of norm(x)         a state of fixed size: what attention is to others
        x += channel mixing of norm(x)      a feed-forward layer
    logits = head * norm(x)

Both mix a token's norm with that of the token before it, x + (before - x) * mu, element by element:
the token shift. Tensors have the names of BlinkDL's files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.kernels._program import Program
from ryzanstein.inference.kernels.pack import PackedMatrix
from ryzanstein.inference.models.args import known_keys
from ryzanstein.inference.models.options import Options
from ryzanstein.inference.models.recurrent import recurrent_program
from ryzanstein.inference.models.weights import Weights

__all__ = ["Rwkv", "RwkvArgs", "Vector", "padded"]

_LIMIT = 1 << 24  # no dimension of a real model comes near it
_MOST_HEAD_DIM = 256  # RZ_WKV_DIM of kernels/wkv.h

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RwkvArgs:
    """The keys of the configuration that the computation depends on."""

    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    vocab_size: int
    num_heads: int
    head_dim: int
    tie_word_embeddings: bool = False
    norm_eps: float = 1e-5
    group_norm_eps: float = 64e-5

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """Keeps the keys it knows.

        Raises:
            ModelLoadError: a key is missing or out of range.
        """
        args = known_keys(cls, config)
        for field in fields(args):
            value = getattr(args, field.name)
            least = 0 if field.default == 0 else 1  # a rank that one layer alone has no use for
            if field.type == "int" and not (type(value) is int and least <= value < _LIMIT):
                raise ModelLoadError(f"The configuration has {field.name} = {value!r:.60}.")
            if field.type == "float" and not (isinstance(value, float) and 0 <= value < 1):
                raise ModelLoadError(f"The configuration has {field.name} = {value!r:.60}.")
        if args.head_dim > _MOST_HEAD_DIM:
            raise ModelLoadError(f"Heads of {args.head_dim} elements are not supported.")
        return args

    @property
    def width(self) -> int:
        """Elements of all heads together."""
        return self.num_heads * self.head_dim


def padded(head_dim: int) -> int:
    """Columns of a head's state: whole vectors."""
    return (head_dim + 15) // 16 * 16


class Rwkv(ABC):
    """Appends the operators of one model to a program.

    Attributes:
        args: of the model.
        weights: of the model.
        program: as far as it has got.
        x: buffer of the layers' sum.

    Every method raises ModelLoadError where a tensor is missing, misshapen or damaged.
    """

    def __init__(self, args: RwkvArgs, weights: Weights, options: Options) -> None:
        self.args, self.weights = args, weights
        self.program = recurrent_program(options)
        width = args.hidden_size
        self.x = self.program.buffer(width, whole=True)
        # Each has its own, since a shift reads rows that later operators must not have changed.
        self._normed = [self.program.buffer(width, whole=True, past=1) for _ in range(2)]
        self._inner = self.program.buffer(args.intermediate_size)

    def buffers(self, count: int) -> list[int]:
        """New buffers as wide as the model."""
        return [self.program.buffer(self.args.hidden_size) for _ in range(count)]

    def heads(self, count: int) -> list[int]:
        """New buffers for what the recurrence reads and writes."""
        return [self.program.buffer(self.args.width, whole=True) for _ in range(count)]

    def vector(self, name: str, size: int | None = None) -> Vector:
        """A vector, by default as wide as the model."""
        return self.weights.vector(name, size or self.args.hidden_size)

    @abstractmethod
    def time_mixing(self, layer: int) -> None:
        """Adds what a layer makes of the tokens before to x."""

    @abstractmethod
    def channel_mixing(self, layer: int) -> None:
        """Adds what a layer makes of its channels to x."""

    def build(self) -> Program:
        """Appends the whole model; returns the program, ready to run."""
        self.embed()
        for layer in range(self.args.num_hidden_layers):
            self.time_mixing(layer)
            self.channel_mixing(layer)
        return self.finish()

    def embed(self) -> None:
        """Looks tokens up: x = norm(embedding[token]); packs the output matrix too.

        The largest matrices first: while one is packed its source is in memory too.
        """
        size = self.args.vocab_size, self.args.hidden_size
        if self.args.tie_word_embeddings:
            embedding = self._head = self.weights.head("emb.weight", *size)
        else:
            embedding = self.weights.matrix("emb.weight", *size, streamed=False)
            self._head = self.weights.head("head.weight", *size)
        self.program.embed(embedding, self.x)
        self.norm("blocks.0.ln0", self.x)

    def norm(self, name: str, output: int, *, joined: bool = False) -> None:
        """Has a norm of x written to the buffer `output`."""
        vectors = [self.vector(f"{name}.{part}") for part in ("weight", "bias")]
        self.program.operator(
            "norm",
            buffers=[self.x, output],
            vectors=vectors,
            numbers=[self.args.norm_eps],
            joined=joined,
        )

    def shift(
        self, norm: str, mus: Sequence[Vector | None], outputs: Sequence[int], *, channel: bool
    ) -> int:
        """Mixes norm(x) with that of the token before.

        Args:
            norm: name of the norm.
            mus: how much of the latter each output has; None for the difference of both.
            outputs: buffers.
            channel: whether it is the layer's second shift.

        Returns:
            The buffer of norm(x).
        """
        normed, width = self._normed[channel], self.args.hidden_size
        past = self.program.operator("recall", buffers=[normed], sizes=[width], state=width)
        self.norm(norm, normed, joined=True)
        self.program.operator(
            "shift",
            buffers=[normed, *outputs],
            vectors=mus,
            sizes=[len(outputs)],
            shares=past,
        )
        return normed

    def linear(
        self,
        source: int,
        matrix: PackedMatrix,
        output: int,
        *,
        bias: Vector | None = None,
        **options: Any,
    ) -> None:
        """Appends output = matrix * source (+ bias), with the options of Program.linear."""
        biases = None if bias is None else [bias]
        self.program.linear(source, [matrix], output, biases=biases, **options)

    def square(self, layer: int, source: int) -> int:
        """The inner layer of channel mixing, relu(key * source)^2; returns its buffer."""
        inner, width = self.args.intermediate_size, self.args.hidden_size
        key = self.weights.matrix(f"blocks.{layer}.ffn.key.weight", inner, width)
        self.linear(source, key, self._inner, activated="relu2")
        return self._inner

    def gated_channel_mixing(
        self, layer: int, mus: Mapping[str, Vector], mixed: Sequence[int], value: int
    ) -> None:
        """Adds sigmoid(receptance * mixed) * (value * relu(key * mixed)^2) to x, as up to RWKV-6.

        Args:
            layer: its number.
            mus: of the shift, "k" and "r".
            mixed: two buffers as wide as the model.
            value: another one.
        """
        name, width = f"blocks.{layer}.ffn", self.args.hidden_size
        to_key, to_gate = mixed[:2]
        self.shift(f"blocks.{layer}.ln2", [mus["k"], mus["r"]], [to_key, to_gate], channel=True)
        inner = self.square(layer, to_key)
        receptance = self.weights.matrix(f"{name}.receptance.weight", width, width)
        self.linear(to_gate, receptance, to_key, activated="sigmoid")
        down = self.weights.matrix(f"{name}.value.weight", width, self.args.intermediate_size)
        self.linear(inner, down, value, joined=True)
        self.program.operator("combine", buffers=[self.x, to_key, value], sizes=[1])

    def finish(self) -> Program:
        """Ends with logits = head * norm(x); returns the program, ready to run."""
        self.norm("ln_out", self._normed[0])
        self.program.finish(self._normed[0], self._head)
        return self.program
