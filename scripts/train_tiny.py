#!/usr/bin/env python3
"""Trains a model of one to two million parameters on the bytes of a text, in minutes on a CPU.

    scripts/train_tiny.py --arch bitnet|mamba|rwkv7 --data FILE --out DIR [--steps N] [--threads N]
        [--seed N] [--data-note TEXT]

DIR becomes a Hugging Face directory: configuration, weights, tokenizer and a card with the numbers;
beside them training.pt, from which the same command goes on after Ctrl-C, and held_out.txt, the
excerpt that the card's second number is for. Progress goes to stderr; the last line of stdout is
JSON: the card's front matter. Exits with 130 where it was interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from tiny.bitnet import BitNet
from tiny.data import Corpus, bits_per_byte, written
from tiny.export import Card, load_tensors, write_card, write_checkpoint
from tiny.mamba import Mamba
from tiny.rwkv7 import RWKV7
from tiny.training import Interrupted, Plan, Trained, train
from torch import Tensor, nn

_CONTEXT = 256
_PROMPT, _SAMPLE_BYTES, _TEMPERATURE = "KING RICHARD:\n", 240, 0.5


class Tiny(Protocol):
    """What the three models have in common, besides being modules."""

    def matrices(self) -> list[nn.Parameter]:
        """The parameters that Muon trains."""
        ...

    def config(self) -> dict[str, Any]:
        """config.json."""
        ...

    def exported(self) -> Mapping[str, Tensor]:
        """The tensors as they are stored."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes stored tensors over."""
        ...


@dataclass(frozen=True, slots=True)
class Arch:
    """One `--arch`."""

    make: Callable[[], nn.Module]
    title: str
    stored: str
    steps: int


ARCHS = {
    "bitnet": Arch(
        BitNet,
        "A BitNet b1.58 with quantisation-aware training",
        "ternary, four rows to a byte; embeddings and norms bfloat16",
        2600,
    ),
    "mamba": Arch(Mamba, "A Mamba", "float16", 1000),
    "rwkv7": Arch(RWKV7, 'An RWKV-7 "Goose"', "float16", 1000),
}


def main() -> int:
    """Trains, stores, scores what was stored."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    arch = ARCHS[options.arch]
    corpus = Corpus(options.data, _CONTEXT)
    module = arch.make()
    model = cast(Tiny, module)
    plan = Plan(steps=options.steps or arch.steps, seed=options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        trained = train(module, model.matrices(), corpus, plan, options.out)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr)
        return 130
    write_checkpoint(options.out, model.config(), model.exported(), _CONTEXT)
    (options.out / "held_out.txt").write_bytes(corpus.excerpt)
    module.eval()
    model.restore(load_tensors(options.out))
    front = _front(options, plan, corpus, module, trained)
    sample = written(module, _PROMPT, _SAMPLE_BYTES, _TEMPERATURE, options.seed)
    card = Card(front, arch.title, arch.stored, _PROMPT.strip(), _TEMPERATURE, sample)
    write_card(options.out, card)
    print(json.dumps(front))
    return 0


def _front(
    options: argparse.Namespace, plan: Plan, corpus: Corpus, module: nn.Module, trained: Trained
) -> dict[str, Any]:
    """The card's front matter; bits per byte are those of the stored weights."""
    note = f", {options.data_note}" if options.data_note else ""
    return {
        "name": f"tiny-{options.arch}",
        "license": "Apache-2.0",
        "data": f"{options.data.name}{note}",
        "data_sha256": hashlib.sha256(options.data.read_bytes()).hexdigest(),
        "training_bytes": len(corpus.training),
        "held_out_bytes": len(corpus.held_out),
        "excerpt_bytes": len(corpus.excerpt),
        "parameters": sum(one.numel() for one in module.parameters()),
        "context": corpus.context,
        "steps": plan.steps,
        "windows": plan.windows,
        "seed": plan.seed,
        "loss": round(trained.loss, 4),
        "bits_per_byte": round(bits_per_byte(module, corpus.held_out, _CONTEXT), 6),
        "bits_per_byte_excerpt": round(bits_per_byte(module, corpus.excerpt, _CONTEXT), 6),
        "seconds": round(trained.seconds, 1),
        "cpu_seconds": round(trained.cpu_seconds, 1),
        "threads": options.threads,
        "torch": torch.__version__,
        "command": _command(options, plan),
    }


def _command(options: argparse.Namespace, plan: Plan) -> str:
    """The command in full, with the data's name alone, so that it says nothing of this machine."""
    parts = ["scripts/train_tiny.py", "--arch", options.arch, "--data", options.data.name]
    parts += ["--out", options.out.name, "--steps", str(plan.steps)]
    parts += ["--threads", str(options.threads), "--seed", str(plan.seed)]
    return shlex.join(parts)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--arch", choices=ARCHS, required=True)
    parser.add_argument("--data", type=Path, required=True, help="a text file, UTF-8")
    parser.add_argument("--out", type=Path, required=True, help="the directory to write")
    parser.add_argument(
        "--steps", type=int, help="optimiser steps; each architecture has a default"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data-note", help="origin and licence of the text, for the card")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
