"""Mamba's operators against NumPy in float64: one token, few and many, on every instruction set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ryzanstein.inference.kernels._linear import available_isas
from ryzanstein.inference.kernels._program import Program, aligned
from ryzanstein.inference.kernels.pack import PackedMatrix, pack
from ryzanstein.inference.kernels.reference_ssm import (
    convolve,
    dual_scan,
    rms_norm,
    selective_scan,
    silu,
    softplus,
)
from ryzanstein.inference.models.state_space import by_blocks, padded

ISAS = available_isas()
TOKENS = 150
CUTS = ([TOKENS], [1] * TOKENS, [7] * 21 + [3], [130, 1, 19])
Array = np.ndarray
Vectors = list[Array | None]


def dense(values: Array) -> PackedMatrix:
    rows, cols = values.shape
    return pack("F32", values.astype(np.float32).reshape(-1).view(np.uint8), rows, cols, "float")


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@dataclass
class Case:
    """An operator, what its buffers hold at each token, and what is to come out of which."""

    name: str
    inputs: list[Array]
    output: int
    vectors: Vectors
    sizes: list[int]
    numbers: list[float] = field(default_factory=list)
    state: int = 0
    scratch: int = 0
    columns: int = 0  # of an output that is no input
    after: str | None = None  # an operator with the same operands and state

    def run(self, cuts: Sequence[int] = (TOKENS,), **options: Any) -> Array:
        """The output at every token, the tokens given in pieces of these lengths."""
        program, output = self.program(**({"threads": 2} | options))
        state = aligned(program.state_bytes)
        rows, none = [], np.zeros(0, np.uintp)
        ids = np.arange(TOKENS, dtype=np.int32)
        for at, cut in zip(np.cumsum([0, *cuts[:-1]]), cuts, strict=True):
            logits = np.empty((cut, max(TOKENS, output)), np.float32)
            piece = ids[at : at + cut]
            program.run(piece, int(at), none, logits, state=state, all_logits=True)
            rows.append(logits[:, :output])
        return np.concatenate(rows)

    def program(self, **options: Any) -> tuple[Program, int]:
        """Copies each token's row of the inputs into buffers by matrices of ones and zeros."""
        program = Program(**options)
        table = np.concatenate(self.inputs, axis=1)
        source = program.buffer(table.shape[1], whole=True)
        widths = [values.shape[1] for values in self.inputs]
        buffers = [program.buffer(width, whole=True) for width in widths]
        if self.columns:
            buffers.append(program.buffer(self.columns, whole=True))
            widths.append(self.columns)
        program.embed(dense(table), source)
        for index in range(len(self.inputs)):
            chosen = np.eye(table.shape[1])[sum(widths[:index]) :][: widths[index]]
            program.linear(source, [dense(chosen)], buffers[index])
        operands: dict[str, Any] = {
            "buffers": buffers,
            "vectors": self.vectors,
            "sizes": self.sizes,
            "numbers": self.numbers,
        }
        made = program.operator(self.name, state=self.state, scratch=self.scratch, **operands)
        if self.after is not None:
            program.operator(self.after, shares=made, **operands)
        width = widths[self.output]
        program.finish(buffers[self.output], dense(np.eye(max(TOKENS, width), width)))
        return program, width


def convolution(
    columns: int, width: int, first: int, bias: bool = True, extra: int = 0
) -> tuple[Case, Array]:
    x = random(TOKENS, first + columns + extra)
    weight, offset = random(columns, width, seed=1), random(columns, seed=2)
    taps = np.zeros((width, padded(columns)), np.float32)
    taps[:, :columns] = weight.T
    case = Case(
        "conv",
        [x],
        1,
        [taps.reshape(-1), offset if bias else None],
        [width, columns, first],
        state=(width - 1) * padded(columns),
        columns=columns,
    )
    source = x[:, first : first + columns].astype(np.float64)
    return case, convolve(source, weight, offset if bias else 0.0)


def scan(channels: int, states: int, *, step: float = 1.0, width: int = 4) -> tuple[Case, Array]:
    projected, x = random(TOKENS, 2 * channels), random(TOKENS, channels, seed=1)
    dt = step * softplus(random(TOKENS, channels, seed=2))
    bc = random(TOKENS, 2 * states, seed=3)
    a = -np.exp(random(channels, states, seed=4))
    d = random(channels, seed=5)
    case = Case(
        "scan",
        [projected, x, dt, bc],
        1,
        [by_blocks(a), d],
        [channels, states, width],
        state=(width - 1) * padded(channels) + padded(channels) * states,
    )
    wide = [values.astype(np.float64) for values in (x, dt, a, bc[:, :states], bc[:, states:], d)]
    y = selective_scan(*wide, np.zeros((channels, states)))
    return case, y * silu(projected[:, channels:].astype(np.float64))


def dual(
    heads: int, dim: int, states: int, groups: int, limits: tuple[float, float] = (0.0, np.inf)
) -> tuple[Case, Array]:
    inner, both, width = heads * dim, groups * states, 4
    columns = inner + 2 * both
    projected = random(TOKENS, inner + columns + heads)
    convolved = random(TOKENS, columns, seed=1)
    a, d, bias = -np.exp(random(heads)), random(heads, seed=1), random(heads, seed=2)
    case = Case(
        "dual",
        [projected, convolved],
        2,
        [a, d, bias],
        [heads, dim, states, groups, width],
        list(limits),
        state=(width - 1) * padded(columns)
        + heads * ((states + 16) * padded(dim) + 16)
        + groups * 16 * padded(states),
        scratch=17 * 512 + 32 * 16 + 16 * padded(dim),
        columns=inner,
        after="dual_keep",
    )
    wide, gate = convolved.astype(np.float64), projected[:, :inner].astype(np.float64)
    x, b, c = np.split(wide, [inner, inner + both], axis=1)
    dt = np.clip(softplus(projected[:, -heads:].astype(np.float64) + bias), *limits)
    y = dual_scan(
        x.reshape(TOKENS, heads, dim),
        dt,
        a.astype(np.float64),
        b.reshape(TOKENS, groups, states),
        c.reshape(TOKENS, groups, states),
        d.astype(np.float64),
        np.zeros((heads, dim, states)),
    )
    return case, y.reshape(TOKENS, inner) * silu(gate)


CONVOLUTIONS = [(32, 4, 0), (20, 3, 0), (70, 5, 24), (48, 2, 48), (33, 1, 7), (16, 9, 5)]
SCANS = [(32, 16), (20, 5), (70, 21), (16, 1), (48, 8)]
DUALS = [(4, 16, 16, 1), (6, 64, 128, 2), (3, 20, 21, 3), (2, 48, 9, 1), (5, 8, 32, 1)]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("columns", "width", "first"), CONVOLUTIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_convolution_equals_numpy(
    isa: str, columns: int, width: int, first: int, bias: bool
) -> None:
    case, want = convolution(columns, width, first, bias, extra=3)
    np.testing.assert_allclose(case.run(isa=isa), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("channels", "states"), SCANS)
def test_selective_scan_equals_numpy(isa: str, channels: int, states: int) -> None:
    case, want = scan(channels, states)
    got = case.run(isa=isa)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=3e-6 * np.abs(want).max())


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("heads", "dim", "states", "groups"), DUALS)
def test_scan_of_heads_equals_numpy(
    isa: str, heads: int, dim: int, states: int, groups: int
) -> None:
    case, want = dual(heads, dim, states, groups)
    got = case.run(isa=isa)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=3e-6 * np.abs(want).max())


def test_step_sizes_keep_within_their_limits() -> None:
    case, want = dual(4, 16, 16, 2, limits=(0.3, 0.9))
    free, _ = dual(4, 16, 16, 2)
    got = case.run()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=3e-6 * np.abs(want).max())
    assert np.abs(got - free.run()).max() > 0.1


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("parts", "size"), [(2, 16), (2, 5), (3, 40), (1, 1), (8, 64)])
@pytest.mark.parametrize("weighted", [True, False])
def test_norm_of_parts_equals_numpy(isa: str, parts: int, size: int, weighted: bool) -> None:
    x, weight = 3 * random(TOKENS, parts * size), random(parts * size, seed=1)
    vectors: Vectors = [weight if weighted else None]
    case = Case("rms_parts", [x], 0, vectors, [parts, size], [1e-5])
    wide = x.astype(np.float64).reshape(TOKENS, parts, size)
    want = rms_norm(wide, weight.reshape(parts, size) if weighted else 1.0, 1e-5)
    for cuts in CUTS:
        got = case.run(cuts, isa=isa)
        np.testing.assert_allclose(got, want.reshape(TOKENS, -1), rtol=3e-6, atol=1e-6)


CASES = {
    "conv": lambda: convolution(70, 5, 24, extra=3),
    "scan": lambda: scan(70, 21),
    "dual": lambda: dual(6, 20, 21, 2),
}


# A convolution cut into pieces needs its scan, which keeps what the next piece looks back at.
@pytest.mark.parametrize("name", ["scan", "dual"])
def test_a_token_gets_the_same_bits_alone_and_among_others(name: str) -> None:
    case = CASES[name]()[0]
    want = case.run()
    for cuts in CUTS[1:]:
        np.testing.assert_array_equal(case.run(cuts), want)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("threads", [1, 3, 4])
def test_results_do_not_depend_on_the_number_of_threads(name: str, threads: int) -> None:
    case = CASES[name]()[0]
    np.testing.assert_array_equal(case.run(threads=threads), case.run(threads=2))


@pytest.mark.parametrize("name", CASES)
def test_instruction_sets_agree_to_the_last_bit(name: str) -> None:
    case = CASES[name]()[0]
    want = case.run(isa=ISAS[0])
    for isa in ISAS[1:]:
        np.testing.assert_array_equal(case.run(isa=isa), want)


@pytest.mark.parametrize("step", [1e-6, 1e4])
def test_steps_so_small_or_large_that_a_state_stays_or_goes(step: float) -> None:
    case, want = scan(32, 16, step=step)
    got = case.run()
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=3e-6 * np.abs(want).max())
