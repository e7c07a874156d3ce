"""Comparing, counting and sorting texts."""

from __future__ import annotations

import collections
import re
from typing import Annotated, Literal

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools import worker
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.file_io import given_text
from ryzanstein.tools.toolbox import tool

_SECONDS = 10.0
_Text = Annotated[str, Field(max_length=200_000)]
_FileText = Annotated[
    str, Field(max_length=4096, description="a file that holds the text, in place of text")
]


@tool(
    title="Compare two texts",
    read_only=True,
    example={"old": "one\ntwo\n", "new": "one\nthree\n"},
    main=("new", "json"),
    forms={"old": "code", "new": "code"},
)
async def diff_texts(
    ctx: ToolContext,
    old: Annotated[_Text, Field(description="the text before")],
    new: Annotated[_Text, Field(description="the text after")],
    context: Annotated[int, Field(ge=0, le=50, description="equal lines around a change")] = 3,
) -> Output:
    """Show line by line how two texts differ, as a unified diff.

    Use for texts that are at hand; compare_files compares two files.

    Raises:
        ToolTimeout: The texts are too long and too different.
    """
    if old == new:
        return Output("The texts are equal.", {"equal": True})
    arguments = {"old": old, "new": new, "names": ["old", "new"], "context": context}
    found = await worker.call("unified", arguments, seconds=_SECONDS)
    text = found["diff"] or "They differ only in the ends of their lines."
    note = f"[{found['added']} lines added, {found['removed']} removed]"
    return Output(f"{text}\n{note}", {"equal": False, **found})


@tool(
    title="Count in a text",
    read_only=True,
    example={"text": "The cat saw the dog.", "of": "the"},
    main=("text", "code"),
)
async def count_text(
    ctx: ToolContext,
    text: Annotated[_Text, Field(description="the text itself")] = "",
    path: _FileText = "",
    of: Annotated[
        str, Field(max_length=500, description="also count this letter, word or phrase")
    ] = "",
    ignore_case: Annotated[bool, Field(description="for of: A and a are the same")] = True,
) -> Output:
    """Count characters, words, lines, sentences and paragraphs of a text.

    Use for every question how many of them there are, or how often a letter or word occurs: give
    it as of.

    Raises:
        ToolError: Neither text nor path is given, or both.
    """
    given = await anyio.to_thread.run_sync(given_text, ctx, text, path)
    words = re.findall(r"\w+(?:['’-]\w+)*", given)
    counts = {
        "characters": len(given),
        "letters": sum(map(str.isalpha, given)),
        "words": len(words),
        "different words": len({word.casefold() for word in words}),
        "lines": len(given.splitlines()),
        "sentences": len(re.findall(r"(?<![.!?…])[.!?…]++(?=[\s\"')\]]|$)", given)),
        "paragraphs": len(re.findall(r"\S[^\n]*(?:\n[^\n]*\S[^\n]*)*", given)),
        "bytes": len(given.encode("utf-8")),
    }
    if of:
        within, wanted = (given.casefold(), of.casefold()) if ignore_case else (given, of)
        counts[f"times {of!r}"] = within.count(wanted)
        whole = re.findall(rf"(?<!\w){re.escape(wanted)}(?!\w)", within)
        if len(of) > 1:
            counts[f"times {of!r} as a whole word"] = len(whole)
    return Output("\n".join(f"{name}: {count:,}" for name, count in counts.items()), counts)


@tool(
    title="Sort lines",
    read_only=True,
    untrusted=True,
    example={"text": "pear\napple\npear\n", "unique": True},
    main=("text", "code"),
)
async def sort_lines(
    ctx: ToolContext,
    text: Annotated[_Text, Field(description="the lines themselves")] = "",
    path: _FileText = "",
    by: Annotated[
        Literal["text", "number", "length", "frequency", "none"],
        Field(description="number: the first number of a line; frequency: the most often first"),
    ] = "text",
    descending: Annotated[bool, Field(description="largest first")] = False,
    unique: Annotated[bool, Field(description="each line only once")] = False,
    ignore_case: Annotated[bool, Field(description="treat A and a as the same")] = False,
    limit: Annotated[int, Field(ge=1, le=5000, description="how many lines at most")] = 500,
) -> Output:
    """Sort the lines of a text, drop repeated ones, or count how often each occurs.

    Use for lists. by=frequency shows each line once with its count, by=none keeps the order.

    Raises:
        ToolError: Neither text nor path is given, or both.
    """
    given = await anyio.to_thread.run_sync(given_text, ctx, text, path)
    lines = [line for line in given.splitlines() if line.strip()]
    if not lines:
        raise ToolError("There are no lines.", hint="Give one item a line.")
    if by == "frequency":
        counted = collections.Counter(line.casefold() if ignore_case else line for line in lines)
        pairs = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
        done = [f"{count} {line}" for line, count in (pairs[::-1] if descending else pairs)]
    else:
        done = _sorted(_once(lines, ignore_case) if unique else lines, by, ignore_case, descending)
    more = f", the first {limit} are shown" if len(done) > limit else ""
    shown = done[:limit]
    data = {"lines": shown, "count": len(done), "given": len(lines)}
    return Output("\n".join([*shown, f"[{len(done)} of {len(lines)} lines{more}]"]), data)


def _once(lines: list[str], ignore_case: bool) -> list[str]:
    found: dict[str, str] = {}
    for line in lines:
        found.setdefault(line.casefold() if ignore_case else line, line)
    return list(found.values())


def _sorted(lines: list[str], by: str, ignore_case: bool, descending: bool) -> list[str]:
    if by == "none":
        return lines[::-1] if descending else lines
    if by == "length":
        return sorted(lines, key=len, reverse=descending)
    if by == "text":
        key = str.casefold if ignore_case else str
        return sorted(lines, key=key, reverse=descending)
    numbered = [(line, _number(line)) for line in lines]
    found = [(number, line) for line, number in numbered if number is not None]
    in_order = [line for _, line in sorted(found, key=lambda pair: pair[0], reverse=descending)]
    return in_order + [line for line, number in numbered if number is None]


def _number(line: str) -> float | None:
    found = re.search(r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d{1,3})?", line)
    return float(found.group().replace(",", "")) if found else None
