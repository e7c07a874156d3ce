"""A text as the list of what it says: terms with their part in the sentence, and its standing.

    "Anna doesn't live in Paris."  ->  anna · live (denied) · paris (in)      markers: none

Function words become attributes of the next term: "in" its role, "not" denies it. What is left
out (articles, greetings) says nothing that a comparison needs. English; words of other languages
are terms like any other, so texts in them must agree word for word.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import takewhile
from typing import Any

from ryzanstein.memory.agreement.lexicon import (
    BE,
    EXACT_DAYS,
    FORMERLY,
    LIGHT,
    MARKERS,
    NEGATIONS,
    PEOPLE,
    ROLES,
    canonical,
    is_past,
)
from ryzanstein.memory.agreement.quantities import (
    MONTHS,
    date_key,
    number_key,
    numeral_value,
    rank_key,
    time_key,
    unit_of,
)
from ryzanstein.memory.agreement.tokens import tokens

__all__ = ["Statement", "Term", "parse"]

_SHORT_TEXT = 500
_LOOK = 8
_ASKING = frozenset(
    "what how when where who why which whose can could does did is are will would should".split()
)
_ANSWERED = frozenset(("that", "it", "this", "there", "that's", *PEOPLE))
# Words that capitals alone make names.
_SHOUTED = frozenset(("IT", "US", "WHO"))
_INNER = re.compile(r"[\d_#@/+&:]|\w\.\w|[a-z][A-Z]")


@dataclass(frozen=True, slots=True)
class Term:
    """One thing a text says.

    Attributes:
        key: What is compared.
        kind: word, name, number, date, person or code (identifiers, paths, quotations).
        text: As it stands in the text.
        role: Preposition before it, "of" after a genitive, "" for none.
        denied: A negation stands before it.
        past: A past form.
        joined: "and" or a comma stands before it.
        stated: A form of "to be" stands before it.
        helped: An auxiliary verb stands before it, so that it has no -s of its own.
    """

    key: str
    kind: str
    text: str
    role: str = ""
    denied: bool = False
    past: bool = False
    joined: bool = False
    stated: bool = False
    helped: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """What a text says, in order, and how it stands to it (may, will, was, a question)."""

    terms: tuple[Term, ...]
    markers: Counter[str]


@dataclass(slots=True)
class _Reader:
    """Collects terms; what function words said waits here for the next term."""

    terms: list[Term] = field(default_factory=list)
    markers: Counter[str] = field(default_factory=Counter)
    waiting: dict[str, Any] = field(default_factory=dict)
    begins: bool = True  # no term of the sentence yet
    first: bool = True  # no word of it either

    def add(self, key: str, kind: str, text: str, **more: Any) -> None:
        self.terms.append(Term(key, kind, text, **{**self.waiting, **more}))
        self.waiting = {}
        self.begins = False

    def expect(self, **attributes: Any) -> None:
        """Keeps an attribute for the next term; a preposition that has no noun is a word."""
        role = self.waiting.get("role")
        if "role" in attributes and role:
            self.waiting.pop("role")
            self.add(f"{role}", "word", f"{role}")
        self.waiting.update(attributes)

    def finish(self) -> None:
        """Ends a sentence; "she does not." still denies something."""
        denied = self.waiting.get("denied", False)
        role = self.waiting.pop("role", "not" if denied else None)
        if role:
            self.add(f"{role}", "word", f"{role}")
        self.waiting = {}
        self.begins = self.first = True


def parse(text: str) -> Statement:
    """Reads a text; short ones are kept, since each is compared with many."""
    return _parse_short(text) if len(text) <= _SHORT_TEXT else _parse(text)


@lru_cache(4096)
def _parse_short(text: str) -> Statement:
    return _parse(text)


def _parse(text: str) -> Statement:
    reader = _Reader()
    found = tokens(text)
    at = 0
    while at < len(found):
        at += _read(reader, found, at)
    reader.finish()
    return Statement(tuple(reader.terms), reader.markers)


def _read(reader: _Reader, found: list[re.Match[str]], at: int) -> int:
    """Reads the token at `at`; returns how many it took."""
    token = found[at]
    kind = str(token.lastgroup)
    if token["word"]:
        return _read_word(reader, found, at)
    if token["number"]:
        return _read_number(reader, found, at)
    if token["mark"]:
        _read_mark(reader, token["mark"])
    elif token["symbol"]:
        # Punctuation of other scripts is no term; "<", "+" and pictures are.
        if unicodedata.category(token["symbol"])[0] == "S" or token["symbol"] in "%&*@#":
            reader.add(token["symbol"], "code", token["symbol"])
    elif token["genitive"]:
        _mark_genitive(reader)
    elif kind in ("day", "month", "year", "day2", "month2", "year2", "month3", "year3"):
        day = (token["day"] or token["day2"] or "").rstrip("stndrh") or None
        month = token["month"] or token["month2"] or token["month3"]
        year = token["year"] or token["year2"] or token["year3"]
        _add_date(reader, date_key(day and int(day), month, year), token[0])
    elif token["iso"]:
        year, month, day = (int(part) for part in token["iso"].split("-"))
        _add_date(reader, f"date:{year}-{month:02}-{day}", token[0])
    elif token["clock"] or token["hour"]:
        hours, minutes, seconds = [*map(int, (token["clock"] or token["hour"]).split(":")), 0, 0][
            :3
        ]
        key = time_key(hours, minutes, seconds, token["half"] or token["half2"])
        _add_date(reader, key, token[0])
    elif token["stroke"]:
        _add_date(reader, token[0], token[0])
    else:
        _read_code(reader, token)
    return 1


def _read_mark(reader: _Reader, mark: str) -> None:
    if mark == "?":
        reader.markers["question"] = 1
    if mark in ".?!;":
        reader.finish()
    elif mark == ",":
        # "No, Anna likes tea" denies nothing.
        if reader.begins:
            reader.waiting = {}
        reader.expect(joined=True)


def _read_code(reader: _Reader, token: re.Match[str]) -> None:
    inner = token["quoted"] or token["code"]
    if inner and re.search(r"\s", inner.strip()):
        reader.add(" ".join(inner.split()).casefold(), "code", token[0])
        return
    word = (inner or token[0]).strip().rstrip(".,;:!?)")
    path = bool(token["path"]) or "/" in word
    if inner and not _INNER.search(word):
        reader.add(canonical(word.casefold()), "name", word)
    else:
        version = token["version"] and re.fullmatch(r"v(\d.*)", word)
        reader.add(version[1] if version else word if path else word.casefold(), "code", word)


def _add_date(reader: _Reader, key: str, text: str) -> None:
    # "on Monday", "Monday" and "at Monday" are one; "before Monday" is not.
    if reader.waiting.get("role") in ("on", "at", "in"):
        reader.waiting.pop("role")
    reader.add(key, "date", text)


def _read_number(reader: _Reader, found: list[re.Match[str]], at: int) -> int:
    token = found[at]
    sign, digits, attached = token["sign"], token["number"], token["attached"]
    rank = rank_key(f"{digits}{attached or ''}".casefold())
    if rank:
        reader.add(rank, "number", token[0])
        return 1
    units = [sign] if sign else []
    if attached and not unit_of(attached):
        reader.add(token[0].strip().casefold(), "code", token[0].strip())
        return 1
    units += [attached] if attached else []
    taken = 1
    while at + taken < len(found) and (not attached or _is_factor(attached)):
        attached = found[at + taken]["word"]
        if not attached or not unit_of(attached):
            break
        units.append(attached)
        taken += 1
    last = reader.terms[-1].text if reader.terms and not reader.waiting else ""
    if "." in digits and not units and (last[:1].isupper() or last in ("version", "release")):
        # 3.10 and 3.1 are two versions.
        reader.add(digits, "code", digits)
    else:
        text = " ".join([digits, *units[bool(sign) :]])
        reader.add(number_key(digits, units), "number", f"{sign or ''}{text}")
    return taken


def _is_factor(unit: str) -> bool:
    return (unit_of(unit) or ("none",))[0] == ""


def _read_word(reader: _Reader, found: list[re.Match[str]], at: int) -> int:
    raw = found[at]["word"].rstrip(":")
    word = raw.casefold()
    near = takewhile(bool, (token["word"] for token in found[at : at + _LOOK]))
    words = [following.casefold() for following in near]
    if reader.first and _asks(words):
        reader.markers["question"] = 1
    reader.first = False
    if _INNER.search(raw) or raw in _SHOUTED:
        reader.add(raw.casefold(), "code", raw)
        return 1
    numeral = numeral_value(_split_numerals(words))
    if numeral and not (word == "second" or (word == "one" and words[1:2] == ["of"])):
        return _add_numeral(reader, found, at, numeral)
    if rank_key(word):
        reader.add(rank_key(word) or "", "number", raw)
        return 1
    if _is_function_word(reader, word, words):
        return 2 if word == "used" else 1
    _add_word(reader, raw, word)
    return 1


def _asks(words: Sequence[str]) -> bool:
    """Says whether a sentence that begins so is a question, with its mark or without."""
    follows = words[1] if len(words) > 1 else ""
    return words[0] in _ASKING or (words[0] in ("do", "have") and follows in PEOPLE)


def _split_numerals(words: list[str]) -> list[str]:
    """Takes "twenty-five" apart, but not "three-sided"."""
    split: list[str] = []
    for word in words:
        parts = word.split("-")
        read = numeral_value(parts)
        split += parts if read is not None and read[1] == len(parts) else [word]
    return split


def _add_numeral(
    reader: _Reader, found: list[re.Match[str]], at: int, numeral: tuple[int, int]
) -> int:
    value, parts = numeral
    taken = counted = 0
    while counted < parts:
        counted += len(found[at + taken]["word"].split("-"))
        taken += 1
    units: list[str] = []
    if at + taken < len(found) and unit_of(found[at + taken]["word"] or ""):
        units = [found[at + taken]["word"]]
        taken += 1
    text = found[at].string[found[at].start() : found[at + taken - 1].end()]
    reader.add(number_key(str(value), units), "number", text)
    return taken


def _mark_genitive(reader: _Reader) -> None:
    """Turns "Anna" of "Anna's boss" into what "of Anna" would be."""
    if reader.terms:
        last = reader.terms.pop()
        reader.waiting = {}
        begins = reader.begins
        reader.add(
            last.key, last.kind, last.text, role="of", denied=last.denied, joined=last.joined,
            stated=last.stated,
        )  # fmt: skip
        reader.begins = begins


def _is_function_word(reader: _Reader, word: str, words: list[str]) -> bool:
    """Handles a word that says something about others; False where it is a term itself."""
    following = next((later for later in words[1:] if later not in LIGHT), "")
    if word == "no" and reader.begins and words[1:2] and words[1] in _ANSWERED:
        return True  # "No that is wrong"
    if word in NEGATIONS:
        reader.expect(denied=not reader.waiting.get("denied", False))
        if word == "cannot":
            reader.markers["can"] += 1
        elif word == "without":
            reader.expect(role="with")
    elif word in BE:
        if word in ("was", "were"):
            reader.markers["was"] += 1
        if word in ("are", "were"):
            reader.markers["several"] += 1
        reader.expect(stated=True)
    elif word in ("and", "but"):
        reader.expect(joined=True)
    elif word == "used" and following == "to" and not reader.waiting.get("stated"):
        reader.markers["formerly"] += 1
        reader.expect(helped=True)
    elif word in FORMERLY:
        reader.markers["formerly"] += 1
    elif word in MARKERS:
        reader.markers[MARKERS[word]] += 1
        reader.expect(helped=True)
    elif word == "did":
        reader.expect(past=True, helped=True)
    elif word in ("do", "does"):
        reader.expect(helped=True)
    elif word in ("has", "have", "had") and (is_past(following) or following in ("been", "not")):
        reader.expect(past=True)
    elif word == "of":
        reader.expect(role="of")
    elif word in ROLES:
        reader.expect(role=ROLES[word])
    else:
        # "not always" is something else than "not".
        always = word == "always" and not reader.waiting.get("denied")
        return always or word in LIGHT
    return True


def _add_word(reader: _Reader, raw: str, word: str) -> None:
    capital = raw[0].isupper() and not reader.begins
    if word in PEOPLE:
        reader.add(PEOPLE[word], "person", raw)
    elif word.removesuffix("s") in EXACT_DAYS:
        _add_date(reader, word.removesuffix("s"), raw)
    elif word in MONTHS and len(word) > 3 and raw[0].isupper() and word not in ("march", "may"):
        _add_date(reader, f"date:*-{MONTHS[word]:02}-*", raw)
    elif word in ("noon", "midnight", "midday"):
        _add_date(reader, "clock:00:00" if word == "midnight" else "clock:12:00", raw)
    elif capital:
        reader.add(canonical(word), "name", raw)
    else:
        past = bool(reader.waiting.pop("past", False)) or is_past(word)
        reader.add(canonical(word), "word", raw, past=past)
