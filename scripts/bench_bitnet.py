"""Speed of BitNet models, side by side with llama.cpp's TQ2_0 on the same file.

    python scripts/bench_bitnet.py --dir /tmp/models                    the three shapes
    python scripts/bench_bitnet.py --dir /tmp/models --isa all --forms all --heads q8_0,q4_0
    python scripts/bench_bitnet.py model.gguf --threads 2 --quick

Shapes are synthesised into --dir where they are not there yet, once for each type of head, since
both engines then hold the head in the same bits. For each file and number of threads, all variants
of this engine and the peer run in the same rounds (`inference/bench/compare.py` says what the
columns are). Packed weights that were kept for a file are made anew, to time that too. The table
goes to stderr; the last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ryzanstein.inference.bench.compare import Variant, Work, compare
from ryzanstein.inference.bench.table import names, numbers, report
from ryzanstein.inference.kernels import pack
from ryzanstein.inference.kernels._linear import TERNARY, available_isas
from ryzanstein.inference.synthesize import FORMATS, HEADS, SHAPES, synthesize

BITNETS = [name for name, shape in SHAPES.items() if shape.family == "bitnet"]
PEER_FORMAT = "gguf-tq2_0"
COLUMNS = {
    "model": 30,
    "engine": 12,
    "threads": 3,
    "isa": 11,
    "form": 16,
    "head_form": 11,
    "body_bits": 6,
    "head_bits": 6,
    "prefill_tok_s": 9,
    "decode_tok_s": 9,
    "bandwidth_gb_s": 7,
    "peak_bandwidth_gb_s": 7,
    "share_of_peak": 7,
    "prefill_ratio": 8,
    "decode_ratio": 8,
    "first_load_s": 7,
    "load_s": 7,
    "peak_rss_mb": 8,
    "memory_ratio": 7,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit status."""
    command = parser()
    options = command.parse_args(arguments)
    if options.dir is None and set(options.models) & set(SHAPES):
        command.error("say with --dir where the synthesised shapes are, or are to go")
    isas = chosen(options.isa, available_isas())
    forms = chosen(options.forms, TERNARY)
    heads = options.own_heads or [None]
    variants = [Variant(isa, form, head) for form in forms for head in heads for isa in isas]
    work = quick_work() if options.quick else Work(repeats=options.rounds)
    comparisons = (
        compare(model, threads, variants, work, peer=options.peer and model.suffix == ".gguf")
        for model in files(options)
        for threads in options.threads
    )
    return report(COLUMNS, comparisons, options.out)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument(
        "models", nargs="*", default=BITNETS, help="shapes or files; all BitNets without any"
    )
    made.add_argument("--dir", type=Path, help="where synthesised shapes are and go")
    made.add_argument("--heads", type=names(HEADS), default=["q8_0"])
    made.add_argument("--own-heads", type=names(pack.HEADS), help="this engine's forms of the head")
    made.add_argument("--format", choices=FORMATS, default=PEER_FORMAT, help="of shapes")
    made.add_argument("--threads", type=numbers, default=[1, 2])
    made.add_argument("--isa", type=names(("all", *available_isas())), help="the best without it")
    made.add_argument("--forms", type=names(("all", *TERNARY)), help="the usual without it")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--no-peer", dest="peer", action="store_false")
    made.add_argument("--quick", action="store_true", help="a round of a few tokens")
    made.add_argument("--out", type=Path, metavar="FILE", help="a copy of the JSON")
    return made


def chosen(given: list[str] | None, every: Sequence[str]) -> list[str | None]:
    """The names that were asked for; None stands for the engine's own choice."""
    if given is None:
        return [None]
    return [*every] if "all" in given else [*given]


def quick_work() -> Work:
    """Enough to see that everything runs."""
    return Work(prompt_tokens=48, new_tokens=8, repeats=1, patience=2.0)


def files(options: argparse.Namespace) -> list[Path]:
    """The files of the models asked for; shapes that are not there are synthesised."""
    found = []
    for model in options.models:
        if model not in SHAPES:
            found.append(Path(model))
            continue
        # The embeddings of a folder have the type they were published in.
        heads = [None] if FORMATS[options.format].folder else options.heads
        for head in heads:
            kind = options.format.removeprefix("gguf-")
            path = options.dir / f"{model}-{kind}{f'-{head}.gguf' if head else ''}"
            if not path.exists():
                print(f"Writing {path}", file=sys.stderr)
                synthesize(model, path, format=options.format, head=head)
            found.append(path)
    return found


if __name__ == "__main__":
    sys.exit(main())
