"""Speed of Mamba and RWKV models, side by side with llama.cpp on the same file.

    python scripts/bench_recurrent.py --dir /tmp/models                 the four shapes
    python scripts/bench_recurrent.py --dir /tmp/models mamba2-1.3b rwkv6-1.6b --threads 2
    python scripts/bench_recurrent.py model-q8_0.gguf --quick

A shape is synthesised into --dir in each of --formats where it is not there yet. Of a Q8_0 file
this engine runs in int8 and, from the same weights, in int4; of a Q4_0 file as it is stored. All of
them and llama.cpp on that file run in the same rounds, with a bandwidth probe around each figure
(`inference/bench/compare.py` says what the columns are). `share_of_peak` counts the weights a token
reads and its state, which it reads and writes. The table goes to stderr; the last line on stdout is
JSON.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from ryzanstein.inference.bench.compare import Variant, Work, compare
from ryzanstein.inference.bench.table import names, numbers, report
from ryzanstein.inference.kernels import pack
from ryzanstein.inference.synthesize import SHAPES, synthesize

MODELS = ("mamba-130m", "mamba-1.4b", "rwkv7-0.19b", "rwkv7-1.5b")
# How this engine runs what a file of that type holds.
PRECISIONS = {"q8_0": ["int8", "int4"], "q4_0": ["auto"], "f16": ["auto"]}
COLUMNS = {
    "model": 22,
    "engine": 12,
    "threads": 3,
    "precision": 9,
    "head_form": 20,
    "head_bits": 5,
    "prefill_tok_s": 8,
    "decode_tok_s": 8,
    "prefill_ratio": 7,
    "decode_ratio": 7,
    "bandwidth_gb_s": 7,
    "peak_bandwidth_gb_s": 7,
    "share_of_peak": 6,
    "state_mb": 6,
    "peak_rss_mb": 8,
    "load_s": 6,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit status."""
    command = parser()
    options = command.parse_args(arguments)
    if options.dir is None and set(options.models) & set(SHAPES):
        command.error("say with --dir where the synthesised shapes are, or are to go")
    comparisons = (
        compare(model, threads, variants(model, options), work(options), peer=options.peer)
        for model in files(options)
        for threads in options.threads
    )
    return report(COLUMNS, comparisons, options.out)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("models", nargs="*", default=list(MODELS), help="shapes or .gguf files")
    made.add_argument("--dir", type=Path, help="where synthesised shapes are and go")
    made.add_argument("--formats", type=names(PRECISIONS), default=["q8_0", "q4_0"])
    made.add_argument(
        "--precisions", type=names(get_args(pack.Precision)), help="in place of the usual"
    )
    made.add_argument("--own-head", choices=pack.HEADS, help="this engine's form of the head")
    made.add_argument("--threads", type=numbers, default=[1, 2])
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--prompt-tokens", type=int, default=512)
    made.add_argument("--new-tokens", type=int, default=64)
    made.add_argument("--no-peer", dest="peer", action="store_false")
    made.add_argument("--quick", action="store_true", help="a round of a few tokens")
    made.add_argument("--out", type=Path, metavar="FILE", help="a copy of the JSON")
    return made


def work(options: argparse.Namespace) -> Work:
    """What each engine does; with --quick enough to see that everything runs."""
    if options.quick:
        return Work(prompt_tokens=48, new_tokens=8, repeats=1, patience=2.0)
    return Work(options.prompt_tokens, options.new_tokens, options.rounds)


def variants(model: Path, options: argparse.Namespace) -> list[Variant]:
    """How this engine runs a file."""
    stored = next((kind for kind in PRECISIONS if kind in model.stem), "f16")
    wanted = options.precisions or PRECISIONS[stored]
    return [Variant(head=options.own_head, precision=precision) for precision in wanted]


def files(options: argparse.Namespace) -> Iterator[Path]:
    """The files of the models asked for; shapes that are not there are synthesised."""
    for model in options.models:
        if model not in SHAPES:
            yield Path(model)
            continue
        for kind in options.formats:
            path = options.dir / f"{model}-{kind}.gguf"
            if not path.exists():
                print(f"Writing {path}", file=sys.stderr)
                synthesize(model, path, format=f"gguf-{kind}")
            yield path


if __name__ == "__main__":
    sys.exit(main())
