"""Mamba-2: a scan of heads that share a decay, and a norm behind the gate.

    z, x B C, dt = in_proj(norm(input))
    x B C = silu(causal convolution of each column over a few tokens)
    dt = softplus(dt + bias) within time_step_limit
    h = exp(dt A) h + dt x B'           a state of [head_dim, state_size] for each head
    input += out_proj(norm((h C + D x) silu(z)))

B and C are shared by the heads of a group, and the norm goes over a group's channels. Follows
transformers' `modeling_mamba2` (Dao and Gu, 2024) and llama.cpp's `mamba2.cpp`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.kernels._program import Program
from ryzanstein.inference.models.options import Options
from ryzanstein.inference.models.state_space import StateSpace, StateSpaceArgs, padded
from ryzanstein.inference.models.weights import Weights

__all__ = ["Mamba2", "Mamba2Args", "build"]

_CHUNK = 16  # RZ_DUAL_TOKENS of kernels/ssm.h


@dataclass(frozen=True, slots=True)
class Mamba2Args(StateSpaceArgs):
    """The keys of the configuration that the computation depends on."""

    num_heads: int
    head_dim: int
    n_groups: int
    time_step_limit: Sequence[float] = (0.0, float("inf"))

    def check(self) -> None:
        """Refuses sizes that do not go together.

        Raises:
            ModelLoadError: they do not.
        """
        super(Mamba2Args, self).check()
        if self.num_heads % self.n_groups:
            raise ModelLoadError(
                f"{self.num_heads} heads do not divide among {self.n_groups} groups."
            )
        if self.num_heads * self.head_dim != self.intermediate_size:
            raise ModelLoadError(
                f"{self.num_heads} heads of {self.head_dim} do not make {self.intermediate_size}."
            )
        limits = self.time_step_limit
        numbers = len(limits) == 2 and all(isinstance(limit, int | float) for limit in limits)
        if not (numbers and 0 <= limits[0] <= limits[1]):
            raise ModelLoadError(f"The configuration has time_step_limit = {limits!r:.60}.")

    @property
    def convolved(self) -> int:
        """Columns that go through the convolution: x, B and C."""
        return self.intermediate_size + 2 * self.n_groups * self.state_size


class Mamba2(StateSpace):
    """Appends the operators of one model to a program."""

    def __init__(self, args: Mamba2Args, weights: Weights, options: Options) -> None:
        super().__init__(args, weights, options)
        self._args = args
        self._rows = args.intermediate_size + args.convolved + args.num_heads
        self._projected = self.program.buffer(self._rows, whole=True)
        self._convolved = self.program.buffer(args.convolved, whole=True)
        self._gated = self.program.buffer(args.intermediate_size, whole=True)

    def mixer(self, layer: int) -> None:
        """Adds a layer to x."""
        args, wide = self._args, padded(self._args.head_dim)
        head = (args.state_size + _CHUNK) * wide + _CHUNK
        self.project_in(layer, self._projected, self._rows)
        convolution = self.convolve(
            layer,
            self._projected,
            self._convolved,
            columns=args.convolved,
            first=args.intermediate_size,
            scan=args.num_heads * head + args.n_groups * _CHUNK * padded(args.state_size),
        )
        name = f"backbone.layers.{layer}.mixer"
        vectors = [self.weights.vector(f"{name}.{key}", args.num_heads) for key in ("D", "dt_bias")]
        operands: dict[str, Any] = {
            "buffers": [self._projected, self._convolved, self._gated],
            "vectors": [self.decays(layer, (args.num_heads,)), *vectors],
            "sizes": [
                args.num_heads,
                args.head_dim,
                args.state_size,
                args.n_groups,
                args.conv_kernel,
            ],
            "numbers": args.time_step_limit,
            "shares": convolution,
        }
        chunk = padded(self.program.chunk)
        scratch = chunk + (chunk + 2 * _CHUNK) * _CHUNK + _CHUNK * wide
        self.program.operator("dual", scratch=scratch, **operands)
        self.program.operator("dual_keep", **operands)
        self._norm_and_project(layer)

    def _norm_and_project(self, layer: int) -> None:
        args = self._args
        weight = self.weights.vector(
            f"backbone.layers.{layer}.mixer.norm.weight", args.intermediate_size
        )
        if args.n_groups == 1:  # the projection's own norm: no thread waits for another
            self.project_out(layer, self._gated, norm=weight, joined=True)
            return
        self.program.operator(
            "rms_parts",
            buffers=[self._gated],
            vectors=[weight],
            sizes=[args.n_groups, args.intermediate_size // args.n_groups],
            numbers=[args.layer_norm_epsilon],
            joined=True,
        )
        self.project_out(layer, self._gated)


def build(config: Mapping[str, Any], weights: Weights, options: Options) -> Program:
    """Packs the weights and returns the program, ready to run.

    Raises:
        ModelLoadError: an option is not supported, or a tensor is missing or misshapen.
    """
    return Mamba2(Mamba2Args.from_dict(config), weights, options).build()
