"""Recall of the evidence for LoCoMo's questions, through the store as an agent uses it.

Every conversation is imported into a store of its own and every question is recalled. A question's
recall@k is the share of its gold turns (or of their sessions) among the first k turns found; the
figures are means over questions with evidence, in percent. Reported beside them: how many questions
have any gold turn among the first k, and all of this by category.

Evidence is written by hand in LoCoMo: "D8:6; D9:17" names two turns, "D:11:26" and "D30:05" one
each, "D" none, and some turns do not exist. Whatever reads as a session and a turn counts where the
conversation has it; a question without any such evidence is left out, and counted.

Maharana et al., "Evaluating Very Long-Term Conversational Memory of LLM Agents", 2024.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.embed import get_embedder
from ryzanstein.memory.sources.locomo import is_locomo
from ryzanstein.memory.store import MemoryStore

if TYPE_CHECKING:
    from ryzanstein.memory.embed import Embedder

__all__ = ["CATEGORIES", "evidence", "run"]

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
_DEPTHS = (5, 10)
# Parts of one long turn count once, so a few more records are asked for than turns are wanted.
_ASKED = 2 * max(_DEPTHS)
_EVIDENCE = re.compile(r"D:?(\d+):(\d+)")

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One question: its category, its figures by name, in 0..1, and the seconds it took."""

    category: str
    figures: Mapping[str, float]
    seconds: float


def evidence(written: object) -> list[Place]:
    """Reads a question's evidence as (session, turn), each once; [] where nothing can be read."""
    parts = written if isinstance(written, list) else [written]
    found = [pair for part in parts if isinstance(part, str) for pair in _EVIDENCE.findall(part)]
    return list(dict.fromkeys((int(session), int(turn)) for session, turn in found))


def run(data: Path, embedding: str | None = None) -> dict[str, Any]:
    """Measures every conversation of a file.

    Args:
        data: JSON in LoCoMo's own format: a list of samples, or one sample.
        embedding: One of EMBEDDINGS; None means the default.

    Returns:
        turn_recall_at_5, turn_recall_at_10, session_recall_at_5, session_recall_at_10,
        turn_any_at_5, turn_any_at_10 in percent, questions, without_evidence, the same by_category
        and by_conversation, the embedding's model_id, and what import and recall took.

    Raises:
        InvalidRequest: The file is not in LoCoMo's format, or no question has evidence.
        ConfigError: There is no such embedding, or it is not installed.
    """
    embedder = get_embedder(embedding)
    samples = _samples(data)
    outcomes: dict[str, list[_Outcome]] = {}
    left_out, importing = 0, 0.0
    for number, sample in enumerate(samples, start=1):
        name = str(sample.get("sample_id") or number)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, _store(folder, embedder) as store:
            store.import_conversation(sample)
            importing += time.perf_counter() - started
            found, missing = _asked(store, sample)
        # Two samples of one name are two conversations.
        outcomes[name if name not in outcomes else f"{name} ({number})"] = found
        left_out += missing
    everything = [one for found in outcomes.values() for one in found]
    if not everything:
        raise InvalidRequest(
            f"{data} has no question whose evidence is in its conversation.",
            hint="Give a file with `qa` and `evidence`, as LoCoMo has them.",
        )
    return {
        "suite": "locomo",
        "embedding": embedder.model_id,
        **_figures(everything),
        "without_evidence": left_out,
        "by_category": _grouped(everything),
        "by_conversation": {name: _figures(found) for name, found in outcomes.items() if found},
        "import_seconds": round(importing, 2),
        "recall_ms": round(1000 * median(one.seconds for one in everything), 2),
    }


def _samples(data: Path) -> list[dict[str, Any]]:
    try:
        held = json.loads(data.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRequest(
            f"{data} cannot be read as JSON: {error}", hint="Give a file in LoCoMo's format."
        ) from error
    samples = held if isinstance(held, list) else [held]
    if not samples or not all(
        is_locomo(one) and isinstance(one.get("qa"), list) for one in samples
    ):
        raise InvalidRequest(
            f"{data} is not in LoCoMo's format.",
            hint="It is a list of samples, or one, each with `conversation` and `qa`.",
        )
    return samples


def _store(folder: str, embedder: Embedder) -> MemoryStore:
    return MemoryStore(f"sqlite:///{Path(folder) / 'locomo.db'}", embedder=embedder)


def _asked(store: MemoryStore, sample: Mapping[str, Any]) -> tuple[list[_Outcome], int]:
    """Recalls every question; also returns how many have no evidence."""
    there = _places(sample["conversation"] if "conversation" in sample else sample)
    outcomes: list[_Outcome] = []
    missing = 0
    for question in sample["qa"]:
        gold = [place for place in evidence(question.get("evidence")) if place in there]
        if not gold:
            missing += 1
            continue
        started = time.perf_counter()
        hits = store.recall(str(question["question"]), limit=_ASKED)
        seconds = time.perf_counter() - started
        found = list(
            dict.fromkeys(place for hit in hits for place in evidence(hit.memory.place)[:1])
        )
        number = question.get("category")
        category = CATEGORIES.get(number, str(number))
        outcomes.append(_Outcome(category, _scored(gold, found), seconds))
    return outcomes, missing


def _places(conversation: Mapping[str, Any]) -> set[Place]:
    turns = (one for part in conversation.values() if isinstance(part, list) for one in part)
    return {place for turn in turns for place in evidence(turn.get("dia_id"))}


def _scored(gold: Sequence[Place], found: Sequence[Place]) -> dict[str, float]:
    sessions = {session for session, _ in gold}
    figures = {}
    for depth in _DEPTHS:
        first = set(found[:depth])
        hit = sum(place in first for place in gold)
        figures[f"turn_recall_at_{depth}"] = hit / len(gold)
        reached = sessions & {session for session, _ in first}
        figures[f"session_recall_at_{depth}"] = len(reached) / len(sessions)
        figures[f"turn_any_at_{depth}"] = float(hit > 0)
    return figures


def _figures(outcomes: Sequence[_Outcome]) -> dict[str, float | int]:
    """Means in percent, and the number of questions."""
    percent = {
        name: round(100 * mean(one.figures[name] for one in outcomes), 1)
        for name in outcomes[0].figures
    }
    return {**percent, "questions": len(outcomes)}


def _grouped(outcomes: Sequence[_Outcome]) -> dict[str, dict[str, float | int]]:
    groups: defaultdict[str, list[_Outcome]] = defaultdict(list)
    for one in outcomes:
        groups[one.category].append(one)
    return {name: _figures(groups[name]) for name in sorted(groups)}
