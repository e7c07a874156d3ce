"""What a tool call may reach, and what it gives back."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ryzanstein.errors import ApprovalRequired, ToolError
from ryzanstein.tools.limits import Limits

__all__ = ["CallRecord", "Output", "Store", "ToolContext", "ToolResult", "ToolTimeout"]


class ToolTimeout(ToolError):
    """A tool took longer than its limit and was stopped."""

    code = "TIMEOUT"


class Store(Protocol):
    """The memory that `remember` and `recall` use; its methods may be plain or async."""

    def remember(self, text: str, **options: Any) -> Any:
        """Keeps a text; options: kind, agent, tags, source, importance."""
        ...

    def recall(self, query: str, **options: Any) -> Any:
        """Finds texts; options: limit, agent, tags, kind."""
        ...


@dataclass(frozen=True, slots=True)
class CallRecord:
    """The audit record of one call, made whether it succeeded or not.

    Attributes:
        tool: Its name.
        arguments: As given, long texts shortened.
        ok: Whether the tool did what was asked.
        code: Wire code of the error, or None.
        message: The error's text, or an empty string.
        seconds: How long it took.
        changes: Whether the tool may change something.
        agent: On whose behalf, where known.
        run_id: In which run, where known.
        at: Seconds since the epoch.
    """

    tool: str
    arguments: Mapping[str, Any]
    ok: bool
    code: str | None
    message: str
    seconds: float
    changes: bool
    agent: str | None
    run_id: str | None
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Permissions and surroundings of a call.

    Attributes:
        roots: Directories that tools may touch; the first is where relative paths start.
        read_only: Refuse every tool that changes something, whatever else is allowed.
        store: Memory, or None where there is none.
        limits: Limits of sandboxed code.
        allowed: Names of tools or families that may be called; None means all.
        allow_private_hosts: Host names or addresses that fetch_url may reach although private.
        search_url: Address of the search engine, with {query} where the words go; or None.
        search_header: A header that it wants, "Name: value"; or None.
        output_chars: Longest text of a result; the middle of a longer one is left out.
        time_limit: Seconds one call may take; None leaves each tool its own limit.
        agent: On whose behalf.
        run_id: In which run.
        grants: What may be overwritten or deleted, as `permission` reads it.
        made: What this run made, which it may overwrite; `call_tool` adds to it.
        offered: Whole addresses that a search gave; `call_tool` adds to it.
        approve: Asked where a grant is missing; None where nobody can be asked.
        tainted: The run has read text from outside: calls reach only where the user pointed to.
        reachable: Hosts that the user named.
        own_words: The arguments of this call are in the user's own words.
        ask_server: Calls a tool of another server: server, tool, arguments -> its fields.
        on_call: Awaited with the record of every call.
    """

    roots: tuple[Path, ...] = ()
    read_only: bool = False
    store: Store | None = None
    limits: Limits = field(default_factory=Limits)
    allowed: Sequence[str] | None = None
    allow_private_hosts: frozenset[str] = frozenset()
    search_url: str | None = None
    search_header: str | None = None
    output_chars: int = 8000
    time_limit: float | None = None
    agent: str | None = None
    run_id: str | None = None
    grants: frozenset[str] = frozenset()
    made: set[str] = field(default_factory=set)
    offered: set[str] = field(default_factory=set)
    approve: Callable[[ApprovalRequired], Awaitable[bool]] | None = None
    tainted: bool = False
    reachable: frozenset[str] = frozenset()
    own_words: bool = False
    ask_server: Callable[[str, str, dict[str, Any]], Awaitable[dict[str, Any]]] | None = None
    on_call: Callable[[CallRecord], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """What a tool function returns: text for the model, data for programs.

    Attributes:
        text: Short and plain.
        data: The same in full, JSON-serialisable.
        ok: False where the tool worked but what it ran failed, such as a test.
        made: What is there now and was not before, by the names that `destroys` gives.
        offered: Addresses that a search found, which a run may then fetch.
    """

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    ok: bool = True
    made: tuple[str, ...] = ()
    offered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call gives back.

    Attributes:
        text: For the model; never longer than the context allows.
        data: For programs.
        ok: False where the tool worked but what it ran failed.
        seconds: How long it took.
        untrusted: Whether the text comes from outside and must not be obeyed.
        left_out: Characters of the text that were left out.
    """

    text: str
    data: Mapping[str, Any]
    ok: bool
    seconds: float
    untrusted: bool = False
    left_out: int = 0
