"""Measures an embedding model's thresholds on labelled pairs of texts.

    proposes  highest cosine that keeps nine in ten of the pairs that say the same, but not so low
              that one in a hundred unrelated pairs would be proposed
    merges    lowest cosine from which on, among the pairs whose words agree, 95 % say the same;
              where fewer than 20 pairs agree, not below the default

Pairs come as JSON Lines, {"a": …, "b": …, "same": true | score}, or as tab-separated values in the
layouts of STS-B: its own (score, sentence1, sentence2 in columns five to seven), GLUE's (a header
that names sentence1, sentence2 and score), or three columns a, b, same. A score counts as "same"
from four fifths of its scale on, which is 1 where no score is greater, else STS-B's 5.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.agreement import agree
from ryzanstein.memory.checks import checked_text
from ryzanstein.memory.database import Database
from ryzanstein.memory.records import Calibration
from ryzanstein.memory.thresholds import MERGES, store_thresholds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder

__all__ = ["Pair", "calibrate", "measure", "read_pairs"]

LEAST_PAIRS = 20
_MOST_PAIRS = 200_000
_RECALL = 0.90
_PRECISION = 0.95
_UNRELATED = 0.99
_SAME_FROM = 0.8
_STS_SCALE = 5.0
_BATCH = 512
_FIELDS = {"a", "b", "same"}
_FORMS = 'Give lines of {"a": "…", "b": "…", "same": true}, or STS-B\'s tab-separated values.'
_COLUMNS = ("sentence1", "sentence2", "score")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts, and whether they say the same."""

    a: str
    b: str
    same: bool


def calibrate(
    database: Database, embedder: Embedder, pairs: Path | Iterable[Pair | Mapping[str, Any]]
) -> Calibration:
    """Measures the embedder's thresholds on labelled pairs and keeps them.

    Args:
        database: Where they are kept.
        embedder: The model that is measured.
        pairs: A file, or pairs, or mappings with a, b and same.

    Raises:
        InvalidRequest: A pair cannot be used, or there are too few of either label.
    """
    measured = measure(embedder, read_pairs(pairs))
    with database.write() as (connection, _):
        store_thresholds(connection, measured, datetime.now(UTC))
    return measured


def measure(embedder: Embedder, pairs: Sequence[Pair]) -> Calibration:
    """Returns what `calibrate` keeps, and keeps nothing."""
    same = np.array([pair.same for pair in pairs], dtype=bool)
    _check_counts(int(same.sum()), int((~same).sum()))
    cosines, unrelated = _cosines(embedder, pairs)
    agreeing = np.array([agree(pair.a, pair.b).verdict == "same" for pair in pairs], dtype=bool)
    proposes = _proposes(cosines[same], unrelated)
    merges = max(_merges(cosines, same, agreeing), proposes)
    merged = agreeing & (cosines >= merges)
    proposed = cosines >= proposes
    alone = cosines >= merges
    detail = {
        "same": float(same.sum()),
        "different": float((~same).sum()),
        "proposed": float(proposed.sum()),
        "proposed_precision": _share(same, proposed),
        "proposed_recall": _share(proposed, same),
        "proposed_unrelated": round(float((unrelated >= proposes).mean()), 4),
        "merged": float(merged.sum()),
        "merged_precision": _share(same, merged),
        "merged_recall": _share(merged, same),
        "cosine_alone_precision": _share(same, alone),
    }
    return Calibration(embedder.model_id, proposes, merges, len(pairs), detail)


def read_pairs(pairs: Path | Iterable[Pair | Mapping[str, Any]]) -> list[Pair]:
    """Returns labelled pairs of a file, of mappings, or as they are.

    Raises:
        InvalidRequest: The file cannot be read, or a pair is wrong; its number is told.
    """
    if isinstance(pairs, Path):
        given: Iterable[tuple[int, Any]] = _lines(pairs)
    else:
        given = enumerate(pairs, start=1)
    found: list[tuple[str, str, float | bool]] = []
    for number, one in given:
        if len(found) == _MOST_PAIRS:
            raise InvalidRequest(
                f"There are more than {_MOST_PAIRS:,} pairs.", hint="A part of them is enough."
            )
        found.append(_labelled(one, number))
    scale = 1.0 if all(score <= 1.0 for *_, score in found) else _STS_SCALE
    return [
        Pair(a, b, score if isinstance(score, bool) else score >= _SAME_FROM * scale)
        for a, b, score in found
    ]


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is no UTF-8 text.", hint=_FORMS) from error
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.", hint=_FORMS) from error
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if filled and "\t" in filled[0][1] and not filled[0][1].lstrip().startswith("{"):
        yield from _tabbed(filled)
        return
    for number, line in filled:
        try:
            yield number, json.loads(line)
        except ValueError as error:
            raise InvalidRequest(f"Line {number} is no JSON.", hint=_FORMS) from error


def _tabbed(lines: Sequence[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
    header = lines[0][1].split("\t")
    named = all(name in header for name in _COLUMNS)
    for number, line in lines[1:] if named else lines:
        parts = line.split("\t")
        try:
            if named:
                a, b, same = (parts[header.index(name)] for name in _COLUMNS)
            elif len(parts) == 3:
                a, b, same = parts
            else:
                same, a, b = parts[4:7]
            yield number, {"a": a, "b": b, "same": float(same)}
        except (IndexError, ValueError) as error:
            raise InvalidRequest(
                f"Line {number} holds no score and two texts.", hint=_FORMS
            ) from error


def _labelled(one: Any, number: int) -> tuple[str, str, float | bool]:
    if isinstance(one, Pair):
        one = {"a": one.a, "b": one.b, "same": one.same}
    if not isinstance(one, Mapping) or set(one) != _FIELDS:
        fields = ", ".join(sorted(map(str, one))) if isinstance(one, Mapping) else "no fields"
        raise InvalidRequest(f"Pair {number} has {fields}, not a, b and same.", hint=_FORMS)
    if not isinstance(one["a"], str) or not isinstance(one["b"], str):
        raise InvalidRequest(f"Pair {number}: a and b must be texts.", hint=_FORMS)
    same = one["same"]
    if not isinstance(same, bool | int | float) or not math.isfinite(same):
        raise InvalidRequest(f"Pair {number}: same is {same!r}.", hint=_FORMS)
    if not 0 <= same <= _STS_SCALE:
        raise InvalidRequest(f"Pair {number}: the score is {same}.", hint="Scores go from 0 to 5.")
    texts = [checked_text(one[name], f"text {name} of pair {number}") for name in ("a", "b")]
    return texts[0], texts[1], same


def _check_counts(same: int, different: int) -> None:
    if min(same, different) < LEAST_PAIRS:
        raise InvalidRequest(
            f"{same} pairs say the same and {different} do not.",
            hint=f"Give at least {LEAST_PAIRS} of each; a few hundred are better.",
        )


def _cosines(
    embedder: Embedder, pairs: Sequence[Pair]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the cosine of each pair, and of each text with another pair's.

    The other pair is half a file away: neighbours often come from one source.
    """
    parts = []
    for texts in ([pair.a for pair in pairs], [pair.b for pair in pairs]):
        vectors = [embedder.embed(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)]
        parts.append(np.concatenate(vectors).astype(np.float64))
    one, other = parts
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise InvalidRequest(
            f"{embedder.model_id} gives vectors that hold NaN or infinity.",
            hint="Use another embedding model.",
        )
    return np.sum(one * other, axis=1), np.sum(
        one * np.roll(other, len(pairs) // 2, axis=0), axis=1
    )


def _proposes(same: NDArray[np.float64], unrelated: NDArray[np.float64]) -> float:
    wanted = float(np.sort(same)[::-1][math.ceil(_RECALL * len(same)) - 1])
    return _rounded(max(wanted, float(np.quantile(unrelated, _UNRELATED))))


def _merges(
    cosines: NDArray[np.float64], same: NDArray[np.bool_], agreeing: NDArray[np.bool_]
) -> float:
    """Lowest cosine from which on the rule is right often enough; 1 where it never is.

    A handful of pairs that happen to be right is no ground to go below the default.
    """
    order = np.argsort(-cosines[agreeing], kind="stable")
    chosen, right = cosines[agreeing][order], same[agreeing][order]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    last_of_equals = np.append(np.diff(chosen) < 0, True)[: len(chosen)]
    good = np.flatnonzero((precision >= _PRECISION) & last_of_equals)
    least = MERGES if len(chosen) < LEAST_PAIRS else 0.0
    return max(_rounded(float(chosen[good[-1]])), least) if len(good) else 1.0


def _rounded(cosine: float) -> float:
    # Down, so that the pair it was taken from still meets it.
    return math.floor(min(max(cosine, 0.0), 1.0) * 10_000) / 10_000


def _share(of: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    """Share of `of` among `among`; 0 where there are none."""
    return round(float(of[among].mean()), 4) if among.any() else 0.0
