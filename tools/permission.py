"""Whether a call may go ahead: the stricter rule is always asked first.

    read-only            refuses every change, whatever else is allowed or granted
    allowed              names of tools and families
    destructive          a call that overwrites or deletes needs a grant for it
    open world           after outside text was read, only where the user pointed to

A grant is the name of a tool or a family, `tool:target` for one target, such as
`write_file:notes.txt`, or `*`. What a run made itself it may overwrite. Roots are dealt with by
`ryzanstein.tools.paths`, which no grant widens.
"""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ryzanstein.errors import ApprovalRequired

if TYPE_CHECKING:
    from ryzanstein.tools.context import ToolContext
    from ryzanstein.tools.toolbox import Tool

__all__ = ["approval", "granted", "refusal", "require_reach"]

_UNKNOWN = "an unknown place"


def refusal(ctx: ToolContext, item: Tool, wants_change: bool = False) -> str:
    """Says why a tool may not be called here at all, which no grant changes; empty if it may.

    Args:
        ctx: What is allowed.
        item: The tool.
        wants_change: Whether the flag is set without which it only reads.
    """
    if ctx.allowed is not None and not {item.name, item.family} & set(ctx.allowed):
        return "is not among the tools allowed here"
    if ctx.read_only and not item.read_only and (wants_change or not item.reads_unless):
        return "changes something, and only reading is allowed here"
    return ""


def approval(ctx: ToolContext, item: Tool, arguments: Mapping[str, Any]) -> ApprovalRequired | None:
    """Returns what has to be approved before this call, or None where nothing has.

    Args:
        ctx: What was granted, and what the run has read.
        item: The tool.
        arguments: Of the call, validated.
    """
    target = _destroys(ctx, item, arguments)
    if target and not granted(ctx.grants, item.name, item.family, target):
        return _foreign(item) if item.is_external else _loss(item, target)
    if not ctx.tainted or not item.annotations["open_world"]:
        return None
    for url in _reaches(item, arguments):
        if not _may_reach(ctx, item, url):
            return _unreachable(item.name, url)
    return None


def granted(grants: Iterable[str], name: str, family: str, target: str) -> bool:
    """Tells whether one of the grants covers a tool's work on a target."""
    patterns = []
    for grant in grants:
        tool, colon, pattern = grant.partition(":")
        if tool in {name, family, "*"}:
            if not colon:
                return True
            patterns.append(pattern)
    if any(pattern in {target, glob.escape(target)} for pattern in patterns):
        return True
    # A target may be several names, each of which has to be covered.
    return all(
        any(fnmatch.fnmatchcase(one, pattern) for pattern in patterns) for one in target.split(", ")
    )


def require_reach(ctx: ToolContext, url: str) -> None:
    """Checks an address that a call is led to on its way, such as by a redirect.

    Raises:
        ApprovalRequired: Outside text was read, and the user neither pointed to this host nor
            granted it.
    """
    if not ctx.tainted or _pointed_to(ctx, url):
        return
    if not granted(ctx.grants, "fetch_url", "web", _host(url) or _UNKNOWN):
        raise _unreachable("fetch_url", url)


def _loss(item: Tool, target: str) -> ApprovalRequired:
    return ApprovalRequired(
        f"{item.name} would overwrite or delete {target}, which needs approval.",
        hint="Ask the user, or take a way that keeps what is there. The user allows it with "
        f"`--yes`, `--grant {item.name}`, or `grants` in the configuration.",
        grant=f"{item.name}:{glob.escape(target)}",
    )


def _foreign(item: Tool) -> ApprovalRequired:
    return ApprovalRequired(
        f"{item.name} runs on the server {item.family}, which may change things, so it needs "
        "approval.",
        hint=f"Ask the user; he can grant {item.family} to an agent, or name the tools that only "
        f"read as `read_only` of the server {item.family} in the registry.",
        grant=item.name,
    )


def _destroys(ctx: ToolContext, item: Tool, arguments: Mapping[str, Any]) -> str:
    """What the call overwrites or deletes; empty for nothing."""
    if not item.annotations["destructive"]:
        return ""
    if item.reads_unless and not arguments.get(item.reads_unless):
        return ""
    if item.destroys is not None:
        target = item.destroys(ctx, arguments)
        return "" if target in ctx.made else target
    return str(arguments.get(item.main_argument, "")).strip()[:200] or "something"


def _reaches(item: Tool, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The addresses a call goes to; an unknown place where the tool does not say."""
    return ("",) if item.reaches is None else item.reaches(arguments)


def _may_reach(ctx: ToolContext, item: Tool, url: str) -> bool:
    if url and _pointed_to(ctx, url):
        return True
    return granted(ctx.grants, item.name, item.family, _host(url) or _UNKNOWN)


def _pointed_to(ctx: ToolContext, url: str) -> bool:
    """Whether the user named the host, or a search gave the whole address."""
    host = _host(url)
    return url in ctx.offered or (bool(host) and host in ctx.reachable)


def _host(url: str) -> str:
    """The host of an address that every reader of it agrees on; empty where they may not."""
    if "\\" in url or any(not letter.isprintable() or letter.isspace() for letter in url):
        return ""
    try:
        parts = urlsplit(url)
        return "" if parts.username is not None else (parts.hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


def _unreachable(name: str, url: str) -> ApprovalRequired:
    place = _host(url) or _UNKNOWN
    return ApprovalRequired(
        f"{name} would send a request to {place}, which the user did not name, after text from "
        "outside was read.",
        hint="Ask the user to name the address in the task, or go on without it.",
        grant=f"{name}:{place}",
    )
