"""How well a model predicts a text, beside a peer on the same tokens.

The convention is that of llama.cpp's perplexity tool: the text is tokenised whole and cut into
windows; every window starts from an empty state; the first half of a window is context only, and
the tokens after it are scored. A model that begins its prompts with a token has it in place of each
window's first one.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ryzanstein.errors import InvalidRequest, ValidationError
from ryzanstein.inference.bench.subject import Subject, find_subject
from ryzanstein.inference.bench.worker import ENGINES

if TYPE_CHECKING:
    from ryzanstein.config import Settings
    from ryzanstein.registry import Registry

__all__ = ["bench_perplexity"]


def bench_perplexity(
    name_or_path: str | Path,
    *,
    data: Path,
    settings: Settings | None = None,
    registry: Registry | None = None,
    threads: int | None = None,
    windows: int = 32,
    window_tokens: int = 512,
    peer: str | None = None,
    precision: str = "auto",
) -> dict[str, Any]:
    """Measures a model's perplexity on a text file, and the peer's where one is named.

    Raises:
        ValidationError: the windows do not fit the model or the text, or the peer is unknown.
        InvalidRequest: the text cannot be read.
        InferenceError: the model cannot be loaded or run.
    """
    if windows < 1 or window_tokens < 4:
        raise ValidationError("At least one window of at least four tokens is needed.")
    if peer is not None and peer not in ENGINES[1:]:
        raise ValidationError(
            f"There is no peer {peer!r}.", hint=f"Known: {', '.join(ENGINES[1:])}."
        )
    subject = find_subject(name_or_path, settings, registry, threads)
    subject.require_room(window_tokens)
    cut = _windows(subject, data, windows, window_tokens)
    scored = windows * (window_tokens - 1 - window_tokens // 2)
    logprob, facts, seconds = _scored("ryzanstein", subject, cut, precision)
    result = {
        "model": subject.name,
        "data": data.name,
        "windows": windows,
        "window_tokens": window_tokens,
        "scored_tokens": scored,
        "threads": facts["threads"],
        "isa": facts["isa"],
        "precision": precision,
        "bits": round(8 * facts["weight_bytes"] / subject.parameters, 2),
        "seconds": round(seconds, 1),
        "perplexity": round(_perplexity(logprob, scored), 4),
    }
    if precision == "ternary":
        # Nobody trained it for that: what it costs belongs beside the figure.
        usual, _, _ = _scored("ryzanstein", subject, cut)
        result["auto_perplexity"] = round(_perplexity(usual, scored), 4)
    if peer:
        theirs, peer_facts, peer_seconds = _scored(peer, subject, cut)
        result |= {
            "peer": f"llama-cpp-python {peer_facts['version']}",
            "peer_seconds": round(peer_seconds, 1),
            "peer_perplexity": round(_perplexity(theirs, scored), 4),
            "perplexity_ratio": round(math.exp((theirs - logprob) / scored), 5),
        }
    return result


def _perplexity(logprob: float, tokens: int) -> float:
    return math.exp(min(-logprob / tokens, 700.0))


def _windows(subject: Subject, data: Path, windows: int, size: int) -> list[list[int]]:
    try:
        text = data.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{data} cannot be read as text: {error}.") from error
    ids = subject.tokenizer.encode(text, specials=False)
    if len(ids) < windows * size:
        most = len(ids) // size
        raise ValidationError(f"The text has {len(ids):,} tokens, enough for {most} such windows.")
    cut = [ids[at : at + size] for at in range(0, windows * size, size)]
    begin = subject.tokenizer.bos_id
    return cut if begin is None else [[begin, *window[1:]] for window in cut]


def _scored(
    engine: str, subject: Subject, windows: list[list[int]], precision: str = "auto"
) -> tuple[float, dict[str, Any], float]:
    """Sum of log-probabilities, what the engine says of itself, and the seconds it took."""
    size = len(windows[0])
    with subject.worker(engine, size, precision) as worker:
        facts = worker.ask("load")
        started = time.perf_counter()
        total = sum(worker.ask("score", ids=ids, first=size // 2 + 1) for ids in windows)
        return total, facts, time.perf_counter() - started
