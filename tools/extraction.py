"""Finds things of a kind in a text: addresses, dates, numbers, JSON, tables; runs in a worker.

emails    ann@example.org
urls      https://example.org/a, www.example.org
dates     2026-11-21, 21.11.2026, 11/21/2026, 21 November 2026, November 21, 2026
numbers   -1,234.5  12%  1e-3        as numbers, thousands separators taken out
json      every object or list that can be parsed
tables    Markdown tables, as rows with their headings
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["KINDS", "extract"]

_MOST = 5000
_EMAIL = re.compile(r"(?<![\w.+-])[\w+-][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}")
_URL = re.compile(r"\b(?:https?://|ftp://|www\.)[^\s<>\"'`{}|\\^\[\]]+", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?<![\w.,])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?![\w]|[.,]\d)"
)
_OPENING = re.compile(r"[{\[]")
_MONTHS = (
    "january february march april may june july august september october november december"
).split()
_MONTH = "|".join(f"{month[:3]}(?:{month[3:]})?" if month[3:] else month for month in _MONTHS)
_DATES = (
    re.compile(r"\b(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})\b"),
    re.compile(r"\b(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})\b"),
    re.compile(r"\b(?P<m>\d{1,2})/(?P<d>\d{1,2})/(?P<y>\d{4})\b"),
    re.compile(
        rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\.? (?:of )?(?P<n>{_MONTH})\.?,? (?P<y>\d{{4}})\b",
        re.I,
    ),
    re.compile(rf"\b(?P<n>{_MONTH})\.? (?P<d>\d{{1,2}})(?:st|nd|rd|th)?,? (?P<y>\d{{4}})\b", re.I),
)


def extract(kind: str, text: str) -> list[Any]:
    """Returns what is found, in the order of the text, at most 5,000 of it."""
    found = []
    for one in _FINDERS[kind](text):
        found.append(one)
        if len(found) >= _MOST:
            break
    return found


def _emails(text: str) -> Iterator[str]:
    return (found.group() for found in _EMAIL.finditer(text))


def _urls(text: str) -> Iterator[str]:
    for found in _URL.finditer(text):
        url = found.group().rstrip(".,;:!?*")
        # A bracket at the end belongs to the sentence, unless it was opened in the address.
        while url.endswith(")") and url.count(")") > url.count("("):
            url = url[:-1].rstrip(".,;:!?")
        yield url


def _numbers(text: str) -> Iterator[int | float]:
    for found in _NUMBER.finditer(text):
        plain = found.group().replace(",", "")
        is_whole = plain.lstrip("+-").isdigit()
        yield int(plain[:400]) if is_whole else float(plain)


def _dates(text: str) -> Iterator[dict[str, str]]:
    found = [match for pattern in _DATES for match in pattern.finditer(text)]
    for match in sorted(found, key=lambda one: one.start()):
        parts = match.groupdict()
        name = parts.get("n")
        month = _month(name) if name else int(parts["m"])
        day = int(parts["d"])
        if "/" in match.group() and month > 12 >= day:
            month, day = day, month
        try:
            date = datetime.date(int(parts["y"]), month, day)
        except ValueError:
            continue
        yield {"text": match.group(), "date": date.isoformat()}


def _month(name: str) -> int:
    return next(i for i, month in enumerate(_MONTHS, 1) if month.startswith(name.lower()[:3]))


def _json(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    at = 0
    while True:
        opening = _OPENING.search(text, at)
        if opening is None:
            return
        try:
            value, at = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            at = opening.start() + 1
            continue
        yield value


def _tables(text: str) -> Iterator[list[dict[str, str]]]:
    lines = text.splitlines()
    for number, line in enumerate(lines[1:], 1):
        if (
            re.fullmatch(r"\s*\|?(\s*:?-+:?\s*\|)+(\s*:?-+:?\s*)?", line)
            and "|" in lines[number - 1]
        ):
            names = _cells(lines[number - 1])
            rows = []
            for row in lines[number + 1 :]:
                if "|" not in row:
                    break
                cells = _cells(row)
                rows.append(dict(zip(names, [*cells, *[""] * len(names)], strict=False)))
            yield rows


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


_FINDERS: dict[str, Callable[[str], Iterator[Any]]] = {
    "emails": _emails,
    "urls": _urls,
    "dates": _dates,
    "numbers": _numbers,
    "json": _json,
    "tables": _tables,
}
KINDS = tuple(_FINDERS)
