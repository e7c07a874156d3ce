"""How fast a model reads a prompt and writes an answer, with the memory bandwidth it reached.

    prefill_tok_s     prompt tokens a second, up to the choice of the first new token
    decode_tok_s      new tokens a second, greedy, one at a time after the prompt
    ttft_ms           time to the first token of that prompt
    bytes_per_token   what a decoded token reads of the weights, and moves of its sequence's state
                      (`state_bytes_per_token`): the keys and values before it are read, a recurrent
                      state is read and written
    bandwidth_gb_s    bytes_per_token times decode_tok_s
    share_of_peak     of what the same threads can read from memory at all (`peak_bandwidth_gb_s`)
    *_ratio           ours over the peer's

Both engines get the same token ids in turns (`rounds.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ryzanstein.errors import ValidationError
from ryzanstein.inference.bench.rounds import Entrant, run_rounds
from ryzanstein.inference.bench.subject import Subject, find_subject
from ryzanstein.inference.bench.worker import ENGINES, Worker
from ryzanstein.machine import cpu_name

if TYPE_CHECKING:
    from ryzanstein.config import Settings
    from ryzanstein.registry import Registry

__all__ = ["bench_inference"]

_LOOKS_EVERY = 0.1


def bench_inference(
    name_or_path: str | Path,
    *,
    settings: Settings | None = None,
    registry: Registry | None = None,
    threads: int | None = None,
    prompt_tokens: int = 512,
    new_tokens: int = 64,
    peer: str | None = None,
    repeats: int = 3,
    precision: str = "auto",
    cancel: threading.Event | None = None,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measures a model's speed, beside that of a peer; `report` hears of each round.

    Raises:
        ValidationError: the prompt does not fit the model, or the peer is unknown or not installed.
        InferenceError: the model cannot be loaded or run, or `cancel` was set.
    """
    subject = find_subject(name_or_path, settings, registry, threads)
    _require(peer, prompt_tokens, new_tokens, repeats)
    context = prompt_tokens + new_tokens + 1
    subject.require_room(context)
    ids = subject.sample_ids(prompt_tokens)
    with ExitStack() as stack:
        workers: list[Worker] = []
        stack.enter_context(_ending(workers, cancel))

        def started(engine: str, precision: str = "auto") -> Worker:
            workers.append(stack.enter_context(subject.worker(engine, context, precision)))
            return workers[-1]

        probing = started("ryzanstein")

        def enter(engine: str, precision: str = "auto") -> Entrant:
            worker = started(engine, precision)
            return Entrant(worker, worker.ask("load"), ids, new_tokens)

        own = enter("ryzanstein", precision)
        other = enter(peer) if peer else None
        entrants = [own, other] if other else [own]
        run_rounds(entrants, lambda: probing.ask("probe"), repeats, report=report)
    result = _own_figures(subject, own)
    return result | _peer_figures(own, other) if other else result


def _require(peer: str | None, *counts: int) -> None:
    """Raises ValidationError where there is no such peer, or nothing is to be measured."""
    if peer is not None and peer not in ENGINES[1:]:
        raise ValidationError(
            f"There is no peer {peer!r}.", hint=f"Known: {', '.join(ENGINES[1:])}."
        )
    if min(counts) < 1:
        raise ValidationError("Tokens and repeats must be at least 1.")


@contextmanager
def _ending(workers: Sequence[Worker], cancel: threading.Event | None) -> Iterator[None]:
    """Ends the workers when the measurement is cancelled; whoever waits for one hears of it."""
    if cancel is None:
        yield
        return
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOKS_EVERY):
            if cancel.is_set():
                for worker in workers:
                    worker.end()

    looking = threading.Thread(target=look, name="benchmark-cancel", daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


def _own_figures(subject: Subject, own: Entrant) -> dict[str, Any]:
    facts = own.facts
    return {
        "model": subject.name,
        "machine": cpu_name(),
        "threads": facts["threads"],
        "isa": facts["isa"],
        "bits": round(8 * facts["weight_bytes"] / subject.parameters, 2),
        "weights_mb": round(facts["weight_bytes"] / 1e6, 1),
        **own.figures(facts["bytes_per_token"]),
    }


def _peer_figures(own: Entrant, peer: Entrant) -> dict[str, Any]:
    figures = peer.figures(0)
    kept = ("prefill_tok_s", "decode_tok_s", "load_s", "peak_rss_mb")
    return {
        "peer": f"llama-cpp-python {peer.facts['version']}",
        **{f"peer_{name}": figures[name] for name in kept},
        **own.ratios(peer),
    }
