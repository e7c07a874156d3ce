"""`python -m ryzanstein.inference.bench`: the benchmarks without the rest of the command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ryzanstein.errors import RyzansteinError
from ryzanstein.inference.bench import bench_inference, bench_perplexity


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints one line of JSON; returns the exit status."""
    options = vars(_parser().parse_args(arguments))
    run = bench_inference if options.pop("suite") == "speed" else bench_perplexity
    try:
        print(json.dumps(run(options.pop("model"), **options)))
    except RyzansteinError as error:
        print(json.dumps({"error": error.to_wire()}))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ryzanstein.inference.bench")
    suites = parser.add_subparsers(dest="suite", required=True)
    speed = suites.add_parser("speed", help="tokens a second")
    speed.add_argument("--prompt-tokens", type=int, default=512)
    speed.add_argument("--new-tokens", type=int, default=64)
    speed.add_argument("--repeats", type=int, default=3)
    perplexity = suites.add_parser("perplexity", help="how well a text is predicted")
    perplexity.add_argument("--data", type=Path, required=True)
    perplexity.add_argument("--windows", type=int, default=32)
    perplexity.add_argument("--window-tokens", type=int, default=512)
    for suite in (speed, perplexity):
        suite.add_argument("model", help="catalogue name or path")
        suite.add_argument("--threads", type=int)
        suite.add_argument("--peer", choices=["llama-cpp"])
        suite.add_argument("--precision", default="auto")
    return parser


if __name__ == "__main__":
    sys.exit(main())
