"""Mamba: a selective scan between two projections, and nothing else in a layer.

    x, z = in_proj(norm(input))
    x = silu(causal convolution of each channel of x over a few tokens)
    dt, B, C = x_proj(x);  dt = softplus(dt_proj(dt) + bias)
    h = exp(dt A) h + dt B x            a state of state_size elements for each channel
    input += out_proj((C h + D x) silu(z))

Follows transformers' `modeling_mamba` (Gu and Dao, 2023) and llama.cpp's `mamba.cpp`. With
config["norm_bcdt_eps"] dt, B and C go through norms without weights: `falcon_mamba.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ryzanstein.inference.kernels._program import Program
from ryzanstein.inference.models.options import Options
from ryzanstein.inference.models.state_space import StateSpace, StateSpaceArgs, by_blocks, padded
from ryzanstein.inference.models.weights import Weights

__all__ = ["Mamba", "MambaArgs", "build"]


@dataclass(frozen=True, slots=True)
class MambaArgs(StateSpaceArgs):
    """The keys of the configuration that the computation depends on."""

    time_step_rank: int
    norm_bcdt_eps: float | None = None


class Mamba(StateSpace):
    """Appends the operators of one model to a program."""

    def __init__(self, args: MambaArgs, weights: Weights, options: Options) -> None:
        super().__init__(args, weights, options)
        self._args = args
        inner = args.intermediate_size
        self._projected = self.program.buffer(2 * inner, whole=True)
        self._convolved = self.program.buffer(inner, whole=True)
        self._rank = self.program.buffer(args.time_step_rank)
        self._bc = self.program.buffer(2 * args.state_size, whole=True)
        self._steps = self.program.buffer(inner, whole=True)

    def mixer(self, layer: int) -> None:
        """Adds a layer to x."""
        args = self._args
        inner, states = args.intermediate_size, args.state_size
        self.project_in(layer, self._projected, 2 * inner)
        convolution = self.convolve(
            layer,
            self._projected,
            self._convolved,
            columns=inner,
            first=0,
            scan=padded(inner) * states,
        )
        self._select(layer)
        name = f"backbone.layers.{layer}.mixer"
        self.program.operator(
            "scan",
            buffers=[self._projected, self._convolved, self._steps, self._bc],
            vectors=[
                by_blocks(self.decays(layer, (inner, states))),
                self.weights.vector(f"{name}.D", inner),
            ],
            sizes=[inner, states, args.conv_kernel],
            shares=convolution,
        )
        self.project_out(layer, self._convolved)

    def _select(self, layer: int) -> None:
        """dt, B and C, which say what of a token is kept and what is read."""
        args, program = self._args, self.program
        name, rank = f"backbone.layers.{layer}.mixer", args.time_step_rank
        inner, both, eps = args.intermediate_size, 2 * args.state_size, args.norm_bcdt_eps
        steps, bc = self.weights.small_matrices(f"{name}.x_proj.weight", [rank, both], inner)
        program.linear(self._convolved, [steps], self._rank)
        program.linear(self._convolved, [bc], self._bc, joined=True)
        if eps is not None:
            sizes = [2, args.state_size]
            program.operator("rms_parts", buffers=[self._bc], sizes=sizes, numbers=[eps])
        program.linear(
            self._rank,
            [self.weights.small_matrix(f"{name}.dt_proj.weight", inner, rank)],
            self._steps,
            norm=None if eps is None else np.ones(rank, np.float32),
            eps=eps or 0.0,
            biases=[self.weights.vector(f"{name}.dt_proj.bias", inner)],
            activated="softplus",
            joined=eps is not None,
        )


def build(config: Mapping[str, Any], weights: Weights, options: Options) -> Program:
    """Packs the weights and returns the program, ready to run.

    Raises:
        ModelLoadError: an option is not supported, or a tensor is missing or misshapen.
    """
    return Mamba(MambaArgs.from_dict(config), weights, options).build()
