"""Edits members of objects in JSON text; everything else stays as it is written.

    {                                 // comments, trailing commas and order of others stay
      "servers": {
        "other": {"command": "x"},    <- not touched
        "ryzanstein": {…},            <- put, replaced or taken out
      }
    }

VS Code's own files are JSON with comments and trailing commas, which no parser of the standard
library reads and no writer of it keeps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["parse", "put", "take_out"]

_STRING = r'"(?:[^"\\\n]|\\.)*"'
_COMMENT = re.compile(rf"{_STRING}|//[^\n]*|/\*.*?\*/", re.DOTALL)
_COMMA = re.compile(rf"{_STRING}|[{{\[]\s*,|,(?=\s*[}}\]])")
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class _Member:
    """Where a member is: its key from `start`, its value from `value` to `end`."""

    key: str
    start: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class _Object:
    """An object in a text, from its `{` to its `}`."""

    members: list[_Member]
    open: int
    close: int


def parse(text: str) -> Any:
    """Reads JSON with comments and trailing commas.

    Raises:
        ValueError: It is something else.
    """
    return json.loads(_plain(text))


def put(text: str, path: Sequence[str], key: str, value: Any) -> str:
    """Returns the text with a member put into the object at `path`, in place of one of its name.

    Args:
        text: JSON whose root is an object.
        path: Keys that lead to the object; what is missing on the way is made.
        key: Name of the member.
        value: What it is to be.
    """
    if path and path[-1] not in _value(text, path[:-1]):
        text = put(text, path[:-1], path[-1], {})
    found = _find(text, path)
    outer = _indent(text, found.open)
    unit = _unit(text)
    inner = _indent(text, found.members[0].start) if found.members else outer + unit
    if len(inner) <= len(outer):  # all of it is on one line
        inner = outer + unit
    dumped = json.dumps(value, indent=unit, ensure_ascii=False).replace("\n", "\n" + inner)
    same = [member for member in found.members if member.key == key]
    if same:  # of several the last one counts
        return text[: same[-1].value] + dumped + text[same[-1].end :]
    return _added(text, found, f"\n{inner}{json.dumps(key, ensure_ascii=False)}: {dumped}", outer)


def take_out(text: str, path: Sequence[str], key: str) -> str:
    """Returns the text without a member of the object at `path`."""
    while True:
        found = _find(text, path)
        where = [at for at, member in enumerate(found.members) if member.key == key]
        if not where:
            return text
        text = _without(text, found.members, where[-1])


def _added(text: str, found: _Object, member: str, outer: str) -> str:
    """Puts a member behind the last one and the comments that follow it."""
    behind = len(text[: found.close].rstrip())
    closing = "" if "\n" in text[behind : found.close] else f"\n{outer}"
    comma = ""
    last = found.open + 1
    if found.members:
        last = found.members[-1].end
        comma = "" if "," in _uncommented(text)[last : found.close] else ","
    return text[:last] + comma + text[last:behind] + member + closing + text[behind:]


def _without(text: str, members: list[_Member], at: int) -> str:
    code = _uncommented(text)
    start, end = members[at].start, members[at].end
    following = _SPACE.match(code, end)
    assert following is not None
    if code[following.end()] == ",":
        end = following.end() + 1
    elif at:
        comma = code.index(",", members[at - 1].end)
        text, start, end = text[:comma] + text[comma + 1 :], start - 1, end - 1
    before = text[:start].rstrip(" \t")
    if before.endswith("\n") and text[end : end + 1] == "\n":  # it had these lines for itself
        before = before[:-1]
    return before + text[end:]


def _find(text: str, path: Sequence[str]) -> _Object:
    plain = _plain(text)
    found = _members(plain, _skip(plain, 0))
    for key in path:
        member = next(one for one in reversed(found.members) if one.key == key)
        found = _members(plain, member.value)
    return found


def _value(text: str, path: Sequence[str]) -> Any:
    value = parse(text)
    for key in path:
        value = value[key]
    return value


def _members(plain: str, start: int) -> _Object:
    """Reads the members of the object that begins at `start`; the text is known to be JSON."""
    decoder = json.JSONDecoder()
    found = []
    at = _skip(plain, start + 1)
    while plain[at] != "}":
        key, colon = decoder.raw_decode(plain, at)
        value = _skip(plain, _skip(plain, colon) + 1)
        _, end = decoder.raw_decode(plain, value)
        found.append(_Member(key, at, value, end))
        at = _skip(plain, end)
        if plain[at] == ",":
            at = _skip(plain, at + 1)
    return _Object(found, start, at)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _plain(text: str) -> str:
    """Returns JSON of the same length: comments and trailing commas are spaces."""
    # A comma with nothing before it is matched too, and left for the parser to refuse.
    return _COMMA.sub(lambda one: one[0].replace(",", " ", one[0] == ","), _uncommented(text))


def _uncommented(text: str) -> str:
    return _COMMENT.sub(_blanked, text)


def _blanked(match: re.Match[str]) -> str:
    found = match.group()
    return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)


def _indent(text: str, at: int) -> str:
    """Returns the white space at the beginning of the line that `at` is in."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


def _unit(text: str) -> str:
    """Returns what this text indents by."""
    found = re.search(r"\n([ \t]+)\S", text)
    if found is None:
        return "  "
    return "\t" if "\t" in found.group(1) else found.group(1)[:8]
