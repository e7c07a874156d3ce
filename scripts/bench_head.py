"""A scanned head against the whole one: time of a greedy token, and rows that had to be computed.

    python scripts/bench_head.py MODEL --threads 2 --tokens 200
    python scripts/bench_head.py MODEL --text README.md      tokens of a text instead of its own

Both models take turns token by token, so that a busy minute slows both. `different` counts tokens
whose id or logit differ, and is to be 0. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ryzanstein.inference.load import load_model
from ryzanstein.inference.model import Model, Next, State
from ryzanstein.machine import cpu_name

PROMPT_TOKENS = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="catalogue name or path")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--text", type=Path, help="feed its tokens instead of the chosen ones")
    options = parser.parse_args(arguments)
    models = {
        head: load_model(options.model, options.threads, head=head, keep_packed=False)
        for head in ("int8", "scan")
    }
    report = compare(models, options.tokens, options.text)
    print(json.dumps({"machine": cpu_name(), "model": options.model, **report}))
    return 0


def compare(models: dict[str, Model], tokens: int, text: Path | None) -> dict[str, Any]:
    """Decodes the same tokens with both heads."""
    whole, scanned = models["int8"], models["scan"]
    fed = given(whole, tokens, text)
    states = {head: model.new_state() for head, model in models.items()}
    seconds: dict[str, list[float]] = {head: [] for head in models}
    found: dict[str, list[Next]] = {head: [] for head in models}
    for place in range(tokens):
        for head, model in models.items():
            own = [found[head][-1].token] if found[head] else []
            chunk = fed[: PROMPT_TOKENS + 1] if place == 0 else fed[PROMPT_TOKENS + place :][:1]
            took, best = timed(model, states[head], (chunk if text or place == 0 else own))
            seconds[head].append(took)
            found[head].append(best)
    pairs = zip(found["int8"], found["scan"], strict=True)
    times = {head: np.array(values[1:]) for head, values in seconds.items()}
    computed = np.array([best.computed for best in found["scan"]])
    return {
        "isa": scanned.isa,
        "threads": scanned.threads,
        "tokens": tokens,
        "different": sum(a[:2] != b[:2] for a, b in pairs),
        "vocabulary": scanned.vocabulary,
        "computed_rows_mean": round(float(computed.mean()), 1),
        "computed_rows_median": float(np.median(computed)),
        "computed_rows_most": int(computed.max()),
        "int8_ms": round(float(np.median(times["int8"])) * 1e3, 2),
        "scan_ms": round(float(np.median(times["scan"])) * 1e3, 2),
        "scan_over_int8": round(float(np.median(times["scan"] / times["int8"])), 3),
        "bytes_ratio": round(scanned.weight_bytes_per_token / whole.weight_bytes_per_token, 3),
    }


def given(model: Model, tokens: int, text: Path | None) -> list[int]:
    """Tokens to feed: of a text, or random ones to begin with."""
    count = PROMPT_TOKENS + tokens + 1
    if text is not None:
        return model.tokenizer.encode(text.read_text(encoding="utf-8"))[:count]
    return np.random.default_rng(0).integers(0, model.vocabulary, count).tolist()


def timed(model: Model, state: State, chunk: Sequence[int]) -> tuple[float, Next]:
    """Seconds of one step, and what it found."""
    begin = time.perf_counter()
    best = model.next_token(chunk, state)
    return time.perf_counter() - begin, best


if __name__ == "__main__":
    sys.exit(main())
