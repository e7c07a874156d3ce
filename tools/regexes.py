"""Regular expressions on one text; runs in a worker, so that time and memory are bounded.

The `regex` package looks at the clock while it matches; compiling a pattern and building a long
result it does not, which the worker's own limits stop.
"""

from __future__ import annotations

from typing import Any

from ryzanstein.errors import ToolError

__all__ = ["find_matches", "replace_matches"]

_LONGEST_RESULT = 2_000_000
# Characters of all matches and their groups that are given back.
_MOST_SHOWN = 200_000


def find_matches(
    pattern: str, text: str, ignore_case: bool, multiline: bool, limit: int, seconds: float
) -> dict[str, Any]:
    """Returns the matches with line, position and groups, and how many there are in all."""
    compiled = _compiled(pattern, ignore_case, multiline)
    matches: list[dict[str, Any]] = []
    count, room = 0, _MOST_SHOWN
    try:
        for found in compiled.finditer(text, timeout=seconds):
            count += 1
            if count <= limit and room > 0:
                matches.append(_described(found, text))
                room -= _size(matches[-1])
    except TimeoutError:
        raise _too_slow(seconds) from None
    return {"matches": matches, "count": count}


def _described(found: Any, text: str) -> dict[str, Any]:
    about = {
        "text": found.group()[:1000],
        "line": text.count("\n", 0, found.start()) + 1,
        "start": found.start(),
        "groups": [None if group is None else group[:1000] for group in found.groups()],
    }
    named = {name: value and value[:1000] for name, value in found.groupdict().items()}
    return {**about, "named": named} if named else about


def _size(described: dict[str, Any]) -> int:
    texts = [described["text"], *described["groups"], *described.get("named", {}).values()]
    return sum(len(text or "") + 1 for text in texts)


def replace_matches(
    pattern: str,
    replacement: str,
    text: str,
    ignore_case: bool,
    multiline: bool,
    limit: int,
    seconds: float,
) -> dict[str, Any]:
    """Returns the text with the matches replaced, and how many were; a limit of 0 means all."""
    import regex

    compiled = _compiled(pattern, ignore_case, multiline)
    pieces: list[str] = []
    length = last = count = 0
    try:
        for found in compiled.finditer(text, timeout=seconds):
            if limit and count >= limit:
                break
            count += 1
            put = found.expand(replacement)
            pieces += (text[last : found.start()], put)
            last = found.end()
            length += len(put)
            if length > _LONGEST_RESULT:
                raise ToolError(
                    f"The result is longer than {_LONGEST_RESULT:,} characters.",
                    hint="Use a shorter replacement or a smaller text.",
                )
    except TimeoutError:
        raise _too_slow(seconds) from None
    except (regex.error, IndexError) as error:
        raise ToolError(
            f"The replacement cannot be used: {error}.",
            hint=r"Write \1 or \g<name> for a group, and \\ for a backslash.",
        ) from error
    return {"text": "".join([*pieces, text[last:]]), "count": count}


def _compiled(pattern: str, ignore_case: bool, multiline: bool) -> Any:
    import regex

    flags = regex.IGNORECASE * ignore_case | regex.MULTILINE * multiline
    try:
        return regex.compile(pattern, flags)
    except (regex.error, OverflowError) as error:
        raise ToolError(
            f"{pattern!r} is no regular expression: {error}.",
            hint=r"Put a backslash before each of .*+?()[]{}|^$ that is meant as it is.",
        ) from error


def _too_slow(seconds: float) -> ToolError:
    return ToolError(
        f"The pattern took longer than {seconds:g} s.",
        hint="Use a simpler expression without nested repeats.",
    )
