"""What Mamba, Falcon-Mamba and Mamba-2 share, as operators of a program.

    x = embedding[token]
    for each layer:
        x += out_proj(scan(silu(convolution(in_proj(norm(x))))) gated)
    logits = head * norm(x)

The convolution looks back a few tokens and the scan remembers all of them in a state of fixed size;
both share one part of a sequence's state: see kernels/program_ssm.c.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.kernels._program import Program
from ryzanstein.inference.models.args import known_keys
from ryzanstein.inference.models.options import Options
from ryzanstein.inference.models.recurrent import recurrent_program
from ryzanstein.inference.models.weights import Weights

__all__ = ["StateSpace", "StateSpaceArgs", "Vector", "by_blocks", "padded"]

_LIMIT = 1 << 24  # no dimension of a real model comes near it
_MOST_TAPS = 64  # RZ_CONV_WIDTH of kernels/ssm.h

Vector = npt.NDArray[np.float32]


def padded(count: int) -> int:
    """Rounds up to whole vectors."""
    return (count + 15) // 16 * 16


@dataclass(frozen=True, slots=True)
class StateSpaceArgs:
    """The keys of the configuration that the computation of every Mamba depends on."""

    hidden_size: int
    num_hidden_layers: int
    vocab_size: int
    intermediate_size: int
    state_size: int
    conv_kernel: int
    layer_norm_epsilon: float
    tie_word_embeddings: bool

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """Keeps the keys it knows and refuses what the program would compute wrongly.

        Raises:
            ModelLoadError: a key is missing, out of range, or asks for something unsupported.
        """
        activation = config.get("hidden_act", "silu")
        if activation not in ("silu", "swish"):
            raise ModelLoadError(f"The activation {activation!r:.60} is not supported (silu is).")
        args = known_keys(cls, config)
        for field in fields(args):
            value = getattr(args, field.name)
            if field.type == "int" and not (type(value) is int and 0 < value < _LIMIT):
                raise ModelLoadError(f"The configuration has {field.name} = {value!r:.60}.")
            if field.type.startswith("float") and not _is_epsilon(value):
                raise ModelLoadError(f"The configuration has {field.name} = {value!r:.60}.")
        args.check()
        return args

    def check(self) -> None:
        """Refuses sizes that do not go together.

        Raises:
            ModelLoadError: they do not.
        """
        if self.conv_kernel > _MOST_TAPS:
            raise ModelLoadError(f"A convolution over {self.conv_kernel} tokens is not supported.")


def _is_epsilon(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and 0 <= value < 1)


class StateSpace(ABC):
    """Appends the operators of one model to a program.

    Attributes:
        weights: of the model.
        program: as far as it has got.
        x: buffer of the layers' sum.

    Every method raises ModelLoadError where a tensor is missing, misshapen or damaged.
    """

    def __init__(self, args: StateSpaceArgs, weights: Weights, options: Options) -> None:
        self.weights = weights
        self._shared = args
        self.program = recurrent_program(options)
        self.x = self.program.buffer(args.hidden_size, whole=True)

    @abstractmethod
    def mixer(self, layer: int) -> None:
        """Adds a layer to x."""

    def build(self) -> Program:
        """Appends the whole model; returns the program, ready to run."""
        self.embed()
        for layer in range(self._shared.num_hidden_layers):
            self.mixer(layer)
        return self.finish()

    def embed(self) -> None:
        """Looks tokens up: x = embedding[token]; packs the output matrix too.

        The largest matrices first: while one is packed its source is in memory too.
        """
        args, name = self._shared, "backbone.embeddings.weight"
        size = (args.vocab_size, args.hidden_size)
        if args.tie_word_embeddings:
            embedding = self._head = self.weights.head(name, *size)
        else:
            embedding = self.weights.matrix(name, *size, streamed=False)
            self._head = self.weights.head("lm_head.weight", *size)
        self.program.embed(embedding, self.x)

    def project_in(self, layer: int, output: int, rows: int) -> None:
        """Fills a buffer with in_proj * norm(x)."""
        name, args = f"backbone.layers.{layer}", self._shared
        self.program.linear(
            self.x,
            [self.weights.matrix(f"{name}.mixer.in_proj.weight", rows, args.hidden_size)],
            output,
            norm=self.weights.vector(f"{name}.norm.weight", args.hidden_size),
            eps=args.layer_norm_epsilon,
            biases=[self.weights.optional_vector(f"{name}.mixer.in_proj.bias", rows)],
        )

    def convolve(
        self, layer: int, source: int, output: int, *, columns: int, first: int, scan: int
    ) -> int:
        """Fills a buffer with silu(convolution of some columns of the source over tokens).

        Args:
            layer: its number.
            source: buffer of the projections.
            output: buffer of `columns`.
            columns: how many go through it.
            first: the first of them in the source.
            scan: floats of state that the scan wants behind the convolution's.

        Returns:
            The operator's index: the scan shares its state.
        """
        name, width = f"backbone.layers.{layer}.mixer.conv1d", self._shared.conv_kernel
        taps = np.zeros((width, padded(columns)), np.float32)
        taps[:, :columns] = self.weights.array(f"{name}.weight", (columns, width)).T
        return self.program.operator(
            "conv",
            buffers=[source, output],
            vectors=[taps.reshape(-1), self.weights.optional_vector(f"{name}.bias", columns)],
            sizes=[width, columns, first],
            state=(width - 1) * padded(columns) + scan,
        )

    def project_out(
        self, layer: int, source: int, *, norm: Vector | None = None, joined: bool = False
    ) -> None:
        """Adds out_proj * norm(source) to x; `joined` as of Program.linear."""
        name, args = f"backbone.layers.{layer}.mixer.out_proj", self._shared
        rows, cols = args.hidden_size, args.intermediate_size
        self.program.linear(
            source,
            [self.weights.matrix(f"{name}.weight", rows, cols)],
            self.x,
            norm=norm,
            eps=args.layer_norm_epsilon,
            biases=[self.weights.optional_vector(f"{name}.bias", rows)],
            accumulate=True,
            joined=joined,
        )

    def decays(self, layer: int, shape: tuple[int, ...]) -> Vector:
        """A, by which a state decays.

        Raises:
            ModelLoadError: it is missing or misshapen, or would make the state grow.
        """
        name = f"backbone.layers.{layer}.mixer.A"
        values = self.weights.array(name, shape)
        if (values > 0).any():
            raise ModelLoadError(f"The tensor {name} holds values above zero.")
        return values

    def finish(self) -> Program:
        """Ends with logits = head * norm(x); returns the program, ready to run."""
        args = self._shared
        norm = self.weights.vector("backbone.norm_f.weight", args.hidden_size)
        self.program.finish(self.x, self._head, norm=norm, eps=args.layer_norm_epsilon)
        return self.program


def by_blocks(a: Vector) -> Vector:
    """A of [channels, states] as the scan reads it: [blocks of 16][states][16], times log2(e)."""
    channels, states = a.shape
    wide = np.zeros((padded(channels), states))
    wide[:channels] = a.astype(np.float64) * math.log2(math.e)
    return wide.reshape(-1, 16, states).swapaxes(1, 2).astype(np.float32).reshape(-1)
