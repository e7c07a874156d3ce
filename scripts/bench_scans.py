"""Time of Mamba's convolution and scans alone: microseconds a token and layer of one thread.

    python scripts/bench_scans.py                     all shapes, the best instruction set
    python scripts/bench_scans.py --isa avx2 --shape mamba-130m

A prompt of 256 tokens and single tokens, each the best of its repeats, which are short enough that
other processes leave some alone. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ryzanstein.inference.kernels._program import ISAS, Program, aligned
from ryzanstein.inference.kernels.pack import pack
from ryzanstein.inference.models.state_space import by_blocks, padded
from ryzanstein.machine import cpu_name

PROMPT = 256
STEPS = 32  # two chunks of Mamba-2
TAPS = 4


@dataclass(frozen=True)
class Shape:
    """Channels of a layer, and how they are scanned: by heads where there are any."""

    channels: int
    states: int
    heads: int = 0


SHAPES = {
    "mamba-130m": Shape(1536, 16),
    "mamba-1.4b": Shape(4096, 16),
    "mamba2-1.3b": Shape(4096, 128, heads=64),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, nargs="*", default=list(SHAPES))
    parser.add_argument("--isa", choices=ISAS)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args(arguments)
    rows = [
        {"shape": name, "operator": operator, **measure(SHAPES[name], operator, options)}
        for name in options.shape
        for operator in ("conv", "dual" if SHAPES[name].heads else "scan")
    ]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), file=sys.stderr)
    print(json.dumps({"machine": cpu_name(), "rows": rows}))
    return 0


def measure(shape: Shape, operator: str, options: argparse.Namespace) -> dict[str, Any]:
    """Microseconds a token of one operator."""
    program = Program(threads=1, isa=options.isa)
    x = program.buffer(32, whole=True)
    table = np.zeros(PROMPT * 32, np.float32).view(np.uint8)
    program.embed(pack("F32", table, PROMPT, 32, "float"), x)
    ADD[operator](program, shape)
    program.finish(x, pack("F32", table, PROMPT, 32, "float"))
    state, pages = aligned(program.state_bytes), np.zeros(0, np.uintp)
    ids = np.arange(PROMPT, dtype=np.int32)

    def prompt() -> None:
        program.run(ids, 0, pages, state=state)

    def steps() -> None:
        for place in range(STEPS):
            program.run(ids[:1], place, pages, state=state)

    def best(run: Callable[[], None]) -> float:
        """Fewest microseconds that the operator took of a run."""
        taken = []
        for _ in range(options.repeats + 1):
            program.time_operators(True)
            run()
            taken.append(sum(row[2] for row in program.timings() if row[0].startswith(operator)))
        return min(taken[1:]) * 1e6

    return {
        "isa": program.isa,
        "prompt_us": round(best(prompt) / PROMPT, 2),
        "one_us": round(best(steps) / STEPS, 2),
    }


def random(*shape: int) -> np.ndarray:
    """Weights."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def add_conv(program: Program, shape: Shape) -> None:
    """The convolution before a scan."""
    columns = shape.channels + (2 * shape.states if shape.heads else 0)
    buffers = [program.buffer(columns, whole=True) for _ in range(2)]
    vectors = [random(TAPS * padded(columns)), random(columns)]
    size = (TAPS - 1) * padded(columns)
    program.operator("conv", buffers=buffers, vectors=vectors, sizes=[TAPS, columns, 0], state=size)


def add_scan(program: Program, shape: Shape) -> None:
    """Mamba's scan."""
    inner, states = shape.channels, shape.states
    widths = (2 * inner, inner, inner, 2 * states)
    program.operator(
        "scan",
        buffers=[program.buffer(width, whole=True) for width in widths],
        vectors=[by_blocks(-np.exp(random(inner, states))), random(inner)],
        sizes=[inner, states, TAPS],
        state=(TAPS - 1 + states) * padded(inner),
    )


def add_dual(program: Program, shape: Shape) -> None:
    """Mamba-2's scan."""
    inner, states, heads = shape.channels, shape.states, shape.heads
    dim = inner // heads
    columns = inner + 2 * states
    operands: dict[str, Any] = {
        "buffers": [
            program.buffer(width, whole=True) for width in (inner + columns + heads, columns, inner)
        ],
        "vectors": [-np.exp(random(heads)), random(heads), random(heads)],
        "sizes": [heads, dim, states, 1, TAPS],
        "numbers": [0.0, float("inf")],
    }
    size = (TAPS - 1) * columns + heads * ((states + 16) * dim + 16) + 16 * states
    scratch = 17 * program.chunk + 32 * 16 + 16 * dim
    made = program.operator("dual", state=size, scratch=scratch, **operands)
    program.operator("dual_keep", shares=made, **operands)


ADD = {"conv": add_conv, "scan": add_scan, "dual": add_dual}


if __name__ == "__main__":
    sys.exit(main())
