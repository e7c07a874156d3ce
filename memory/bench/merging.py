"""How often consolidation would be wrong, and how long a slice of it takes.

`pairs`: sentences of a text beside changed copies of themselves. Some changes keep what is said
(spelling of a number, a contraction, a date's form, a phrase moved to the end, an empty adverb),
the others do not (another number, name or word, a negation, two names exchanged, a word more); all
of them hardly move the vector. Counted is what the cosine alone would join and what the words
leave of it. `slices`: a store filled with passages of the text, consolidated 50 ms at a time.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ryzanstein.errors import InvalidRequest
from ryzanstein.machine import cpu_name
from ryzanstein.memory.agreement import agree
from ryzanstein.memory.bench.texts import passages
from ryzanstein.memory.calibrate import Pair, measure
from ryzanstein.memory.embed import Embedder, get_embedder
from ryzanstein.memory.records import Draft
from ryzanstein.memory.store import MemoryStore
from ryzanstein.memory.thresholds import MERGES

__all__ = ["changed_pairs", "run"]

_SENTENCE = re.compile(r"[A-Z][^.!?\n<>=]{25,160}[.!?]")
_NAME = re.compile(r"(?<=[a-z,] )(?!The\b|And\b)[A-Z][a-z]{2,}\b")
_WORD = re.compile(r"\b[a-z]{5,}\b")
_NUMBER = re.compile(r"(?<![\d.,:/-])\d{1,4}(?![\d.,:/%-]*\d)")
_COUNT = re.compile(r"(?<=[a-z] )\d{1,2}(?= [a-z]{3,})")
# Two things in a list say the same in either order.
_LISTED = re.compile(r"[ ,]*(?:(?:[A-Z]\w*|and|or|the|of)[ ,]*)*")
_VERB = re.compile(r"\b(is|was|are|were|can|could|will|would|should|has|have|had)\b(?! not)")
_DATE = re.compile(r"\b(\d{1,2}) ([A-Z][a-z]{2,8}) (\d{4})\b")
_FRONT = re.compile(r"^((?:In|At|During|On|From) [^,]{3,40}) ?, (\w[^.]*)\.$")
_DIGITS = "zero one two three four five six seven eight nine ten eleven twelve".split()
_EMPTY = ("really", "actually", "also", "indeed")
_SLICE = 0.05
_BATCH = 2_000

Change = Callable[[str, random.Random, Sequence[str], Sequence[str]], str | None]


def run(
    data: Path,
    *,
    sizes: Sequence[int] = (10_000,),
    slices: int = 100,
    sentences: int = 2_000,
    embedding: str | None = None,
) -> dict[str, Any]:
    """Measures both.

    Args:
        data: A text file of whole sentences, or one that passages can be cut from.
        sizes: Records in the store whose slices are timed.
        slices: How many slices.
        sentences: How many sentences to change.
        embedding: Name of the embedding model; None means the default one.

    Raises:
        InvalidRequest: The file cannot be read, or has too few sentences.
    """
    embedder = get_embedder(embedding)
    return {
        "suite": "merging",
        "machine": cpu_name(),
        "embedding": embedder.model_id,
        **_pairs(embedder, data, sentences),
        "slices": [_slices(embedder, data, size, slices) for size in sizes],
    }


def changed_pairs(text: str, count: int, seed: int = 1) -> dict[str, list[Pair]]:
    """Returns pairs of a sentence and a changed copy, by the kind of change.

    Raises:
        InvalidRequest: The text has fewer than 100 sentences.
    """
    plain = re.sub(r" @(.)@ ", r"\1", text).replace(" 's", "'s")
    found = sorted({" ".join(one.split()) for one in _SENTENCE.findall(plain)})
    if len(found) < 100:
        raise InvalidRequest(f"The text has {len(found)} sentences.", hint="Take a longer text.")
    chooser = random.Random(seed)
    chosen = chooser.sample(found, min(count, len(found)))
    names = sorted({name for sentence in found for name in _NAME.findall(sentence)})
    words = sorted({word for sentence in found for word in _WORD.findall(sentence)})
    pairs: dict[str, list[Pair]] = {}
    for same, changes in ((True, _KEEPING), (False, _CHANGING)):
        for name, change in changes.items():
            made = ((sentence, change(sentence, chooser, names, words)) for sentence in chosen)
            pairs[name] = [Pair(a, b, same) for a, b in made if b is not None and b != a]
    return pairs


def _pairs(embedder: Embedder, data: Path, count: int) -> dict[str, Any]:
    try:
        text = data.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{data} cannot be read as text: {error}") from error
    kinds = changed_pairs(text, count)
    return {
        "pairs": {name: _counted(embedder, pairs) for name, pairs in kinds.items() if pairs},
        "calibration": measure(
            embedder, [pair for pairs in kinds.values() for pair in pairs]
        ).detail,
    }


def _counted(embedder: Embedder, pairs: Sequence[Pair]) -> dict[str, Any]:
    one, other = (embedder.embed([getattr(pair, side) for pair in pairs]) for side in ("a", "b"))
    near = np.sum(one * other, axis=1) >= MERGES
    verdicts = [agree(pair.a, pair.b).verdict for pair in pairs]
    merged = [bool(close) and says == "same" for close, says in zip(near, verdicts, strict=True)]
    return {
        "same": pairs[0].same,
        "pairs": len(pairs),
        "cosine_alone": int(near.sum()),
        "merged": sum(merged),
        "contradictions": verdicts.count("contradicts"),
        "wrong": [] if pairs[0].same else [
            [pair.a, pair.b] for pair, joined in zip(pairs, merged, strict=True) if joined
        ][:5],
    }  # fmt: skip


def _slices(embedder: Embedder, data: Path, size: int, count: int) -> dict[str, Any]:
    texts = passages(data)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'bench.db'}"
        with MemoryStore(url, embedder=embedder) as store:
            for start in range(0, size, _BATCH):
                batch = islice(texts, min(_BATCH, size - start))
                store.remember_many([Draft(text, tier="semantic") for text in batch])
            store.recall("warm")
            # The graph is built behind; a slice is timed as it is with the graph in place.
            store._facts.searcher.synced.wait()
            looked, seconds = 0, []
            for _ in range(count):
                began = perf_counter()
                report = store.consolidate(seconds=_SLICE)
                seconds.append(perf_counter() - began)
                looked += report.looked_at
                if report.done:
                    break
    middle, late, most = 1e3 * np.percentile(seconds, (50, 99, 100))
    return {
        "records": size,
        "looked_at": looked,
        "records_per_s": round(looked / sum(seconds), 1),
        "slice_ms_median": round(float(middle), 1),
        "slice_ms_p99": round(float(late), 1),
        "slice_ms_max": round(float(most), 1),
    }


def _respelt_number(
    text: str, chooser: random.Random, names: Sequence[str], words: Sequence[str]
) -> str | None:
    found = [one for one in _COUNT.finditer(text) if 2 <= int(one[0]) < len(_DIGITS)]
    return _put(text, found[0], _DIGITS[int(found[0][0])]) if found else None


def _contracted(
    text: str, chooser: random.Random, names: Sequence[str], words: Sequence[str]
) -> str | None:
    changed = re.sub(r"\b(did|was|were|is|are|had|could|would|does|do) not\b", r"\1n't", text)
    return changed if changed != text else None


def _redated(
    text: str, chooser: random.Random, names: Sequence[str], words: Sequence[str]
) -> str | None:
    changed = _DATE.sub(r"\2 \1, \3", text)
    return changed if changed != text else None


def _moved(
    text: str, chooser: random.Random, names: Sequence[str], words: Sequence[str]
) -> str | None:
    found = _FRONT.match(text)
    if found is None:
        return None
    phrase, rest = found[1], found[2].strip()
    return f"{rest[0].upper()}{rest[1:]} {phrase[0].lower()}{phrase[1:]}."


def _padded(
    text: str, chooser: random.Random, names: Sequence[str], words: Sequence[str]
) -> str | None:
    verb = _VERB.search(text)
    return _put(text, verb, f"{verb[0]} {chooser.choice(_EMPTY)}") if verb else None


def _renumbered(
    text: str, chooser: random.Random, names: Sequence[str], words: Sequence[str]
) -> str | None:
    found = list(_NUMBER.finditer(text))
    if not found:
        return None
    number = chooser.choice(found)
    return _put(text, number, str(int(number[0]) + chooser.randint(1, 9)))


def _renamed(
    text: str, chooser: random.Random, names: Sequence[str], words: Sequence[str]
) -> str | None:
    found = list(_NAME.finditer(text))
    return _put(text, chooser.choice(found), chooser.choice(names)) if found else None


def _exchanged(
    text: str, chooser: random.Random, names: Sequence[str], words: Sequence[str]
) -> str | None:
    found = list(_NAME.finditer(text))
    if len({one[0] for one in found}) < 2:
        return None
    first = found[0]
    last = next(one for one in found if one[0] != first[0])
    if _LISTED.fullmatch(text[first.end() : last.start()]):
        return None
    return _put(_put(text, last, first[0]), first, last[0])


def _denied(
    text: str, chooser: random.Random, names: Sequence[str], words: Sequence[str]
) -> str | None:
    verb = _VERB.search(text)
    return _put(text, verb, f"{verb[0]} not") if verb else None


def _reworded(
    text: str, chooser: random.Random, names: Sequence[str], words: Sequence[str]
) -> str | None:
    found = list(_WORD.finditer(text))
    return _put(text, chooser.choice(found), chooser.choice(words)) if found else None


def _extended(
    text: str, chooser: random.Random, names: Sequence[str], words: Sequence[str]
) -> str | None:
    found = list(_WORD.finditer(text))
    if not found:
        return None
    word = chooser.choice(found)
    return _put(text, word, f"{chooser.choice(words)} {word[0]}")


def _put(text: str, found: re.Match[str], new: str) -> str:
    return text[: found.start()] + new + text[found.end() :]


_KEEPING: dict[str, Change] = {
    "number in words": _respelt_number,
    "contraction": _contracted,
    "form of a date": _redated,
    "phrase moved": _moved,
    "empty adverb": _padded,
}
_CHANGING: dict[str, Change] = {
    "another number": _renumbered,
    "another name": _renamed,
    "names exchanged": _exchanged,
    "negation": _denied,
    "another word": _reworded,
    "a word more": _extended,
}
