"""How fast a model reads a prompt and writes an answer, with the memory bandwidth it reached.

    prefill_tok_s     prompt tokens a second, up to the choice of the first new token
    decode_tok_s      new tokens a second, greedy, one at a time after the prompt
    ttft_ms           time to the first token of that prompt
    bandwidth_gb_s    bytes of weights a decoded token reads, times decode_tok_s
    share_of_peak     of what the same threads can read from memory at all (`peak_bandwidth_gb_s`)
    *_ratio           ours over the peer's

Both engines get the same token ids in turns, back to back, since the bandwidth of a shared machine
changes from minute to minute. Figures are medians over the rounds, ratios medians of each round's
ratio.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from ryzanstein.errors import ValidationError
from ryzanstein.inference.bench.subject import Subject, find_subject
from ryzanstein.inference.bench.worker import ENGINES, Worker
from ryzanstein.machine import cpu_name

if TYPE_CHECKING:
    from ryzanstein.config import Settings
    from ryzanstein.registry import Registry

__all__ = ["bench_inference"]

_WARM_UP: Final = 64

_Rounds = list[dict[str, float]]


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
) -> dict[str, Any]:
    """Measures a model's speed, beside that of a peer where one is named.

    Raises:
        ValidationError: the prompt does not fit the model, or the peer is unknown or not installed.
        InferenceError: the model cannot be loaded or run.
    """
    subject = find_subject(name_or_path, settings, registry, threads)
    if peer is not None and peer not in ENGINES[1:]:
        raise ValidationError(
            f"There is no peer {peer!r}.", hint=f"Known: {', '.join(ENGINES[1:])}."
        )
    if prompt_tokens < 1 or new_tokens < 1 or repeats < 1:
        raise ValidationError("Tokens and repeats must be at least 1.")
    subject.require_room(prompt_tokens + new_tokens + 1)
    ids = subject.sample_ids(prompt_tokens)
    context = prompt_tokens + new_tokens + 1
    with ExitStack() as stack:
        own = stack.enter_context(subject.worker("ryzanstein", context, precision))
        facts = own.ask("load")
        other = peer and stack.enter_context(subject.worker(peer, context))
        peer_facts = other.ask("load") if other else {}
        mine, theirs, memory = _rounds(own, other or None, ids, new_tokens, repeats)
        peer_memory = other.ask("memory") if other else 0
    result = _own_figures(subject, facts, mine, len(ids), new_tokens, memory)
    if other:
        result |= _peer_figures(peer_facts, mine, theirs, len(ids), new_tokens, peer_memory)
    return result


def _rounds(
    own: Worker, peer: Worker | None, ids: list[int], new_tokens: int, repeats: int
) -> tuple[_Rounds, _Rounds, int]:
    """Runs the engines in turns; the memory is read before the probe takes its buffer."""
    engines = [own, peer] if peer else [own]
    for engine in engines:
        engine.ask("speed", ids=ids[:_WARM_UP], new_tokens=4)
    mine, theirs, memory = [], [], 0
    for _ in range(repeats):
        mine.append(own.ask("speed", ids=ids, new_tokens=new_tokens))
        memory = memory or own.ask("memory")
        if peer:
            theirs.append(peer.ask("speed", ids=ids, new_tokens=new_tokens))
        mine[-1]["probe"] = own.ask("probe")
    return mine, theirs, memory


def _own_figures(
    subject: Subject, facts: dict[str, Any], rounds: _Rounds, prompt: int, new: int, memory: int
) -> dict[str, Any]:
    per_token = facts["bytes_per_token"]
    decode = new / median(r["decode"] for r in rounds)
    return {
        "model": subject.name,
        "machine": cpu_name(),
        "threads": facts["threads"],
        "isa": facts["isa"],
        "bits": round(8 * facts["weight_bytes"] / subject.parameters, 2),
        "prompt_tokens": prompt,
        "new_tokens": new,
        "rounds": len(rounds),
        "prefill_tok_s": round(prompt / median(r["prefill"] for r in rounds), 1),
        "decode_tok_s": round(decode, 1),
        "ttft_ms": round(1000 * median(r["prefill"] for r in rounds), 2),
        "load_s": round(facts["load_s"], 2),
        "peak_rss_mb": round(memory / 1e6, 1),
        "weights_mb": round(facts["weight_bytes"] / 1e6, 1),
        "bytes_per_token": per_token,
        "bandwidth_gb_s": round(per_token * decode / 1e9, 2),
        "peak_bandwidth_gb_s": round(median(r["probe"] for r in rounds) / 1e9, 2),
        "share_of_peak": round(
            median(per_token * new / r["decode"] / r["probe"] for r in rounds), 3
        ),
    }


def _peer_figures(
    facts: dict[str, Any], mine: _Rounds, theirs: _Rounds, prompt: int, new: int, memory: int
) -> dict[str, Any]:
    pairs = list(zip(mine, theirs, strict=True))
    return {
        "peer": f"llama-cpp-python {facts['version']}",
        "peer_prefill_tok_s": round(prompt / median(r["prefill"] for r in theirs), 1),
        "peer_decode_tok_s": round(new / median(r["decode"] for r in theirs), 1),
        "peer_load_s": round(facts["load_s"], 2),
        "peer_peak_rss_mb": round(memory / 1e6, 1),
        "prefill_ratio": round(median(b["prefill"] / a["prefill"] for a, b in pairs), 3),
        "decode_ratio": round(median(b["decode"] / a["decode"] for a, b in pairs), 3),
    }
