"""Forms and instruction sets of one model side by side, and a peer beside them.

One row is one engine with one number of threads:

    engine, threads, isa, form        what ran (`precision`: of dense matrices, as it was asked for)
    body_bits, head_bits              bits a weight of the ternary matrices, and of all others
    first_load_s, load_s              from the checkpoint alone; and again, from what was kept
    state_mb, memory_ratio            the state of the measured sequence; peak memory over packed
                                      weights and that state
    *_ratio                           over the peer's figure of the same round
    the rest                          as in `throughput.py`

All rows of one number of threads come from the same rounds (`rounds.py`). An engine that would take
longer than `patience` for a figure gets fewer tokens, which its row says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ryzanstein.errors import ValidationError
from ryzanstein.inference.bench.rounds import Entrant, run_rounds
from ryzanstein.inference.bench.subject import Subject, find_subject
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.formats.layouts import layout_of
from ryzanstein.inference.formats.raw import TERNARY, stored_bytes
from ryzanstein.inference.packed_cache import kept_files

__all__ = ["Variant", "Work", "compare"]

_PEER: Final = "llama-cpp"
_Packing = tuple[str, str | None, str | None]


@dataclass(frozen=True, slots=True)
class Variant:
    """How this project's engine runs; None leaves the choice to it.

    Attributes:
        isa: Instruction set.
        form: Of ternary matrices.
        head: Form of the output matrix.
        precision: Of dense matrices: auto, float, int8, int4 or ternary.
    """

    isa: str | None = None
    form: str | None = None
    head: str | None = None
    precision: str = "auto"

    @property
    def packing(self) -> _Packing:
        """What decides the packed weights."""
        return self.precision, self.form, self.head


@dataclass(frozen=True, slots=True)
class Work:
    """What each engine does in a round.

    Attributes:
        prompt_tokens: Read at once.
        new_tokens: Written after that.
        repeats: Rounds.
        patience: Seconds that a figure may take about; None for any time.
    """

    prompt_tokens: int = 512
    new_tokens: int = 64
    repeats: int = 5
    patience: float | None = 20.0

    @property
    def context(self) -> int:
        """Tokens of the longest sequence."""
        return self.prompt_tokens + self.new_tokens + 1


def compare(
    model: str | Path,
    threads: int,
    variants: Sequence[Variant],
    work: Work,
    *,
    peer: bool,
) -> list[dict[str, Any]]:
    """Measures variants of the engine, and llama.cpp on the same file, in the same rounds.

    Args:
        model: Name or path.
        threads: Of every engine.
        variants: What to measure; at least one.
        work: What each does.
        peer: Measure llama.cpp too; the model is a .gguf file then.

    Returns:
        A row for each variant, then one for the peer.

    Raises:
        ValidationError: the work does not fit the model, or the peer cannot be had.
        InferenceError: an engine cannot load or run the model.
    """
    if min(work.prompt_tokens, work.new_tokens, work.repeats) < 1:
        raise ValidationError("Tokens and rounds must be at least 1.")
    subject = find_subject(model, None, None, threads)
    subject.require_room(work.context)
    ids = subject.sample_ids(work.prompt_tokens)
    first_loads = _first_loads(subject, {variant.packing for variant in variants}, work)
    with ExitStack() as stack:
        probing = stack.enter_context(subject.worker("ryzanstein", work.context))

        def enter(engine: str, variant: Variant) -> Entrant:
            made = subject.worker(
                engine,
                work.context,
                variant.precision,
                isa=variant.isa,
                form=variant.form,
                head=variant.head,
            )
            worker = stack.enter_context(made)
            return Entrant(worker, worker.ask("load"), ids, work.new_tokens)

        own = [enter("ryzanstein", variant) for variant in variants]
        other = enter(_PEER, Variant()) if peer else None
        everyone = [*own, other] if other else own
        run_rounds(everyone, lambda: probing.ask("probe"), work.repeats, work.patience)
    rows = [
        _row(subject, entrant, variant.precision, first_loads[variant.packing], other)
        for entrant, variant in zip(own, variants, strict=True)
    ]
    # A peer says nothing of its state; that of the same model is about as large.
    return [*rows, _peer_row(subject, other, own[0].state_traffic)] if other else rows


def _first_loads(
    subject: Subject, packings: Iterable[_Packing], work: Work
) -> dict[_Packing, float]:
    """Seconds of loads that find nothing kept; what they keep serves the loads after them."""
    for kept in kept_files(subject.path):
        kept.unlink(missing_ok=True)
    seconds = {}
    for packing in packings:
        precision, form, head = packing
        with subject.worker("ryzanstein", work.context, precision, form=form, head=head) as worker:
            seconds[packing] = float(worker.ask("load")["load_s"])
    return seconds


def _row(
    subject: Subject,
    entrant: Entrant,
    precision: str,
    first_load: float,
    peer: Entrant | None,
) -> dict[str, Any]:
    facts = entrant.facts
    body, head = _by_kind(facts["layouts"])
    needed = facts["weight_bytes"] + entrant.state_bytes
    return {
        "model": subject.path.name,
        "engine": "ryzanstein",
        "threads": facts["threads"],
        "isa": facts["isa"],
        "precision": precision,
        "form": "+".join(sorted(body)) or "none",
        "head_form": "+".join(sorted(head)) or "none",
        "body_bits": _bits(body),
        "head_bits": _bits(head),
        "first_load_s": round(first_load, 3),
        **entrant.figures(facts["bytes_per_token"]),
        "weights_mb": round(facts["weight_bytes"] / 1e6, 1),
        "state_mb": round(entrant.state_bytes / 1e6, 1),
        "memory_ratio": round(entrant.memory / needed, 3),
        **(entrant.ratios(peer) if peer else {}),
    }


def _peer_row(subject: Subject, peer: Entrant, state_traffic: int) -> dict[str, Any]:
    layouts = _stored(subject.path)
    body, head = _by_kind(layouts)
    return {
        "model": subject.path.name,
        "engine": f"llama-cpp-python {peer.facts['version']}",
        "threads": subject.threads,
        "isa": "its own",
        "precision": "as stored",
        "form": "+".join(sorted(body)) or "none",
        "head_form": "+".join(sorted(head)) or "none",
        "body_bits": _bits(body),
        "head_bits": _bits(head),
        **peer.figures(sum(size for _, size in layouts.values()), state_traffic),
    }


_Layouts = dict[str, tuple[int, int]]


def _by_kind(layouts: _Layouts) -> tuple[_Layouts, _Layouts]:
    """Weights and bytes of ternary layouts, and of the others."""

    def ternary(name: str) -> bool:
        return name.startswith("ternary") or name in TERNARY

    body = {name: size for name, size in layouts.items() if ternary(name)}
    return body, {name: size for name, size in layouts.items() if name not in body}


def _bits(layouts: _Layouts) -> float | None:
    weights = sum(count for count, _ in layouts.values())
    return round(8 * sum(size for _, size in layouts.values()) / weights, 2) if weights else None


def _stored(path: Path) -> _Layouts:
    """What the matrices of a file take as they are stored there: what a peer reads a token.

    Embeddings that are not the output matrix too are left out: a token reads a row of them.
    """
    found: _Layouts = {}
    with closing(open_checkpoint(path)) as checkpoint:
        embedding = layout_of(checkpoint.config).embedding
        tied = bool(checkpoint.config["tie_word_embeddings"])
        for name in checkpoint.names():
            dtype, shape = checkpoint.type_and_shape(name)
            if len(shape) > 1 and (tied or name != embedding):
                weights, size = found.get(dtype, (0, 0))
                found[dtype] = (weights + math.prod(shape), size + stored_bytes(dtype, shape))
    return found
