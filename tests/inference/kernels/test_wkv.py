"""RWKV's operators against NumPy in float64: every instruction set, tokens cut anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

from ryzanstein.inference.kernels import reference_wkv as reference
from ryzanstein.inference.kernels._linear import available_isas
from ryzanstein.inference.kernels._program import Program, aligned
from ryzanstein.inference.kernels.pack import PackedMatrix, pack

Array = np.ndarray
VOCABULARY, TOKENS = 64, 200
EPS = 64e-5


def dense(values: Array) -> PackedMatrix:
    rows, cols = values.shape
    return pack("F32", values.astype(np.float32).reshape(-1).view(np.uint8), rows, cols, "float")


class Alone:
    """One operator, whose inputs for a token are looked up in tables.

    `add` appends it to the program, given buffers of the inputs' widths and of the output's.
    """

    def __init__(
        self,
        widths: Sequence[int],
        out: int,
        add: Callable[[Program, list[int], int], None],
        *,
        isa: str | None = None,
        threads: int = 2,
        past: int = 0,
    ) -> None:
        rng = np.random.default_rng(3)
        tables = [rng.standard_normal((VOCABULARY, width)) for width in widths]
        self.inputs = [table.astype(np.float32) for table in tables]
        self.program = program = Program(threads=threads, isa=isa)
        buffers = [program.buffer(width, whole=True, past=past) for width in widths]
        for table, buffer in zip(self.inputs, buffers, strict=True):
            program.embed(dense(table), buffer)
        output = program.buffer(out, whole=True)
        add(program, buffers, output)
        padded = np.zeros((max(VOCABULARY, out), out))
        padded[:out] = np.eye(out)
        program.finish(output, dense(padded))
        self.rows, self.out = len(padded), out

    def run(self, tokens: Array, size: int) -> Array:
        state = aligned(self.program.state_bytes)
        logits = np.empty((len(tokens), self.rows), np.float32)
        pages = np.zeros(0, np.uintp)
        for at in range(0, len(tokens), size):
            piece = tokens[at : at + size]
            out = logits[at : at + size]
            self.program.run(piece, at, pages, out, all_logits=True, state=state)
        return logits[:, : self.out]


@pytest.fixture(scope="module")
def tokens() -> Array:
    return np.random.default_rng(1).integers(0, VOCABULARY, TOKENS).astype(np.int32)


def compare(
    widths: Sequence[int],
    out: int,
    add: Callable[[Program, list[int], int], None],
    want: Callable[[list[Array]], Array],
    tokens: Array,
    past: int = 0,
    atol: float = 2e-5,
) -> None:
    """Checks closeness to float64, and the same bits on every set, for any threads and pieces."""
    first: Array | None = None
    for isa in available_isas():
        # More threads than CPUs wait for each other at every step, so they take few.
        for threads, sizes in ((1, (TOKENS, 1)), (2, (TOKENS, 64, 7, 1)), (4, (TOKENS, 7))):
            alone = Alone(widths, out, add, isa=isa, threads=threads, past=past)
            for size in sizes:
                got = alone.run(tokens, size)
                if first is None:
                    first = got
                    expected = want([table[tokens].astype(np.float64) for table in alone.inputs])
                    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=atol)
                np.testing.assert_array_equal(got, first)


@pytest.mark.parametrize("width", [16, 40, 96])
def test_shift_mixes_each_token_with_the_one_before(width: int, tokens: Array) -> None:
    mu = np.random.default_rng(2).random(width).astype(np.float32)

    def add(program: Program, inputs: list[int], out: int) -> None:
        past = program.operator("recall", buffers=inputs, sizes=[width], state=width)
        program.operator("shift", buffers=[*inputs, out], vectors=[mu], sizes=[1], shares=past)

    def want(inputs: list[Array]) -> Array:
        (x,) = inputs
        before = np.concatenate([np.zeros((1, width)), x[:-1]])
        return x + (before - x) * mu

    compare([width], width, add, want, tokens, past=1)


@pytest.mark.parametrize("added", [0, 1])
def test_combine_multiplies_and_may_add(added: int, tokens: Array) -> None:
    def add(program: Program, inputs: list[int], out: int) -> None:
        program.operator(
            "blend", buffers=[*inputs, out], vectors=[np.ones(40, np.float32)], sizes=[1]
        )
        program.operator("combine", buffers=[out, *inputs[:2]], sizes=[added])

    def want(inputs: list[Array]) -> Array:
        x, change, m = inputs
        return added * (x + change * (1 + m)) + x * change

    compare([40] * 3, 40, add, want, tokens)


def vectors(count: int, width: int) -> list[Array]:
    rng = np.random.default_rng(4)
    return [rng.uniform(0.5, 1.0, width).astype(np.float32) for _ in range(count)]


def state_floats(heads: int, dim: int) -> int:
    return heads * dim * ((dim + 15) // 16 * 16)


def split(dim: int, x: Array) -> Array:
    return x.reshape(*x.shape[:-1], -1, dim)


HEADS = [(2, 64), (3, 32), (5, 24), (1, 200), (7, 8)]


@pytest.mark.parametrize(("heads", "dim"), HEADS)
@pytest.mark.parametrize("form", ["decays by data and a gate", "constant decay, no gate"])
def test_wkv6_equals_the_recurrence(form: str, heads: int, dim: int, tokens: Array) -> None:
    by_data, width = form.startswith("decays"), heads * dim
    u, decay, weight, bias = vectors(4, width)

    def add(program: Program, inputs: list[int], out: int) -> None:
        program.operator(
            "wkv6",
            buffers=[*(inputs if by_data else [*inputs[:3], -1, -1]), out],
            vectors=[u, None if by_data else decay, weight, bias],
            sizes=[heads, dim],
            numbers=[EPS],
            state=state_floats(heads, dim),
        )

    def want(inputs: list[Array]) -> Array:
        r, k, v, w, gate = inputs
        w = np.exp(-np.exp(w)) if by_data else np.broadcast_to(decay.astype(np.float64), w.shape)
        parts = map(partial(split, dim), (r, k, v, w, u))
        out = reference.wkv6(np.zeros((heads, dim, dim)), *parts)
        out = reference.group_norm(out, weight, bias, EPS)
        return out * gate * reference.sigmoid(gate) if by_data else out

    compare([width] * 5, width, add, want, tokens)


@pytest.mark.parametrize(("heads", "dim"), HEADS)
@pytest.mark.parametrize("later", [False, True])
def test_wkv7_equals_the_recurrence(later: bool, heads: int, dim: int, tokens: Array) -> None:
    width = heads * dim
    k_k, k_a, r_k, weight, bias = vectors(5, width)

    def add(program: Program, inputs: list[int], out: int) -> None:
        program.operator(
            "wkv7",
            buffers=[*(inputs if later else [*inputs[:6], -1, -1]), out],
            vectors=[k_k, k_a, r_k, weight, bias],
            sizes=[heads, dim],
            numbers=[EPS],
            state=state_floats(heads, dim),
        )

    def want(inputs: list[Array]) -> Array:
        r, k, v, w, a, gate, mix, first = inputs
        a = reference.sigmoid(a)
        unit = split(dim, k * k_k)
        unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
        k = k * (1 + (a - 1) * k_a)
        v = v + (first - v) * reference.sigmoid(mix) if later else v
        w = np.exp(-np.exp(-0.5) * reference.sigmoid(w))
        parts = map(partial(split, dim), (r, k, v, w))
        out = reference.wkv7(np.zeros((heads, dim, dim)), *parts, unit, split(dim, a))
        bonus = split(dim, r * k * r_k).sum(-1, keepdims=True) * split(dim, v)
        out = reference.group_norm(out, weight, bias, EPS) + bonus.reshape(len(v), -1)
        return out * gate

    compare([width] * 8, width, add, want, tokens)
