"""Regular expressions on a text, and things of a kind found in it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import anyio.to_thread
from pydantic import Field

from ryzanstein.tools import worker
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.file_io import given_text
from ryzanstein.tools.toolbox import tool

_SECONDS = 3.0
_Text = Annotated[str, Field(max_length=200_000)]
_Pattern = Annotated[
    str, Field(min_length=1, max_length=500, description=r"regular expression, such as \d+ (\w+)")
]
_FileText = Annotated[
    str, Field(max_length=4096, description="a file that holds the text, in place of text")
]


@tool(
    title="Match a pattern",
    read_only=True,
    untrusted=True,
    example={"pattern": r"(\w+)@(\w+)", "text": "ann@home, bob@work"},
    main=("pattern", "json"),
)
async def match_regex(
    ctx: ToolContext,
    pattern: _Pattern,
    text: Annotated[_Text, Field(description="the text itself")] = "",
    path: _FileText = "",
    ignore_case: Annotated[bool, Field(description="treat A and a as the same")] = False,
    multiline: Annotated[bool, Field(description="^ and $ also match at each line")] = True,
    limit: Annotated[int, Field(ge=1, le=1000, description="how many matches to show")] = 50,
) -> Output:
    """Find every match of a regular expression in a text, with its groups and line.

    Use to test a pattern, or to count and pick out parts of a text. search_files looks in many
    files.

    Raises:
        ToolError: The pattern cannot be read or takes too long.
    """
    given = await anyio.to_thread.run_sync(given_text, ctx, text, path)
    arguments = {"pattern": pattern, "text": given, "limit": limit, "seconds": _SECONDS}
    flags = {"ignore_case": ignore_case, "multiline": multiline}
    found = await worker.call("find_matches", {**arguments, **flags}, seconds=2 * _SECONDS)
    lines = [f"line {one['line']}: {one['text']}{_groups(one)}" for one in found["matches"]]
    shown = len(found["matches"])
    more = f", the first {shown} are shown" if found["count"] > shown else ""
    return Output("\n".join([*lines, f"[{found['count']} matches{more}]"]), found)


def _groups(match: dict[str, Any]) -> str:
    groups = ["-" if group is None else group for group in match["groups"]]
    return f"  ({' | '.join(groups)})" if groups else ""


@tool(
    title="Replace a pattern",
    read_only=True,
    untrusted=True,
    example={"pattern": r"(\d+)-(\d+)", "replacement": r"\2-\1", "text": "10-20, 30-40"},
    main=("pattern", "json"),
)
async def replace_regex(
    ctx: ToolContext,
    pattern: _Pattern,
    replacement: Annotated[
        str, Field(max_length=2000, description=r"what to put there; \1 means the first group")
    ],
    text: Annotated[_Text, Field(description="the text itself")] = "",
    path: _FileText = "",
    ignore_case: Annotated[bool, Field(description="treat A and a as the same")] = False,
    multiline: Annotated[bool, Field(description="^ and $ also match at each line")] = True,
    limit: Annotated[
        int, Field(ge=0, le=1_000_000, description="how many to replace, 0 for all")
    ] = 0,
) -> Output:
    """Replace the matches of a regular expression in a text and return the new text.

    Use to rewrite many places in the same way. A file stays as it is: edit_file or write_file
    changes it.

    Raises:
        ToolError: The pattern or the replacement cannot be read, or it takes too long.
    """
    given = await anyio.to_thread.run_sync(given_text, ctx, text, path)
    arguments = {"pattern": pattern, "replacement": replacement, "text": given, "limit": limit}
    flags = {"ignore_case": ignore_case, "multiline": multiline, "seconds": _SECONDS}
    done = await worker.call("replace_matches", {**arguments, **flags}, seconds=2 * _SECONDS)
    return Output(f"{done['text']}\n[{done['count']} replaced]", done)


@tool(
    title="Extract from a text",
    read_only=True,
    untrusted=True,
    example={"kind": "emails", "text": "Write to ann@example.org or bob@example.org."},
    main=("kind", "json"),
    forms={"kind": "line"},
)
async def extract_data(
    ctx: ToolContext,
    kind: Annotated[
        Literal["emails", "urls", "dates", "numbers", "json", "tables"],
        Field(description="what to look for"),
    ],
    text: Annotated[_Text, Field(description="the text itself")] = "",
    path: _FileText = "",
    unique: Annotated[bool, Field(description="each only once")] = False,
    limit: Annotated[int, Field(ge=1, le=5000, description="how many at most")] = 200,
) -> Output:
    """Find all e-mail addresses, URLs, dates, numbers, JSON or tables in a text.

    Use instead of reading them off by eye. Dates come as year-month-day, numbers as numbers,
    Markdown tables as rows.

    Raises:
        ToolError: Neither text nor path is given, or it takes too long.
    """
    given = await anyio.to_thread.run_sync(given_text, ctx, text, path)
    found = await worker.call("extract", {"kind": kind, "text": given}, seconds=2 * _SECONDS)
    if unique:
        found = list({json.dumps(one, sort_keys=True): one for one in found}.values())
    shown = [_shown(one) for one in found[:limit]]
    more = f", the first {limit} are shown" if len(found) > limit else ""
    note = f"[{len(found)} {kind}{more}]"
    return Output("\n".join([*shown, note]), {"found": found[:limit], "count": len(found)})


def _shown(one: Any) -> str:
    if isinstance(one, dict) and set(one) == {"text", "date"}:
        return one["date"] if one["date"] == one["text"] else f"{one['date']}  ({one['text']})"
    return one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)
