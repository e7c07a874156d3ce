"""What one tool call may do: settings and the agent's profile, and what the request says of itself.

A request of an agent's run carries, as metadata beside its arguments, the agent, the run, grants
for this one call, the hosts the user named, and whether the run has read text from outside. A
direct client carries none of that; it is asked to approve where it can be (elicitation), and its
roots narrow what its calls may touch.
"""

from __future__ import annotations

import dataclasses
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import anyio.to_thread
from mcp.server.elicitation import (
    AcceptedElicitation,
    CancelledElicitation,
    DeclinedElicitation,
)
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit, ListRoots, Resolve
from mcp_types import ListRootsResult
from pydantic import BaseModel, Field

from ryzanstein.agents.trust import META
from ryzanstein.errors import AgentNotFound, RyzansteinError, ToolError
from ryzanstein.mcp_servers._asking import can_ask
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.subject import current

if TYPE_CHECKING:
    from ryzanstein.tools import CallRecord, Tool, ToolContext

__all__ = [
    "Approved",
    "Roots",
    "ask_server",
    "context_of",
    "every_tool",
    "find_tool",
    "is_approved",
    "keep",
    "require_profile",
    "run_state",
]

_MOST_RUNS = 512


@dataclass
class RunState:
    """What a run made, which addresses a search gave it, and whether it read outside text."""

    made: set[str] = field(default_factory=set)
    offered: set[str] = field(default_factory=set)
    tainted: bool = False


def run_state(run_id: str | None) -> RunState:
    """Returns the state of a run, a new one where it is unknown or there is none."""
    if run_id is None:
        return RunState()
    states: OrderedDict[str, RunState] = shared().own("tool_runs", OrderedDict)
    state = states.setdefault(run_id, RunState())
    states.move_to_end(run_id)
    while len(states) > _MOST_RUNS:
        states.popitem(last=False)
    return state


def context_of(
    context: Context[Any, Any] | None, roots: ListRootsResult | None = None
) -> ToolContext:
    """Returns what a call may reach.

    Args:
        context: Of the request; None where there is none.
        roots: Those of a direct client.
    """
    base = shared().tool_context
    meta = _meta(context)
    agent, run_id = _text(meta, "agent"), _text(meta, "run")
    state = run_state(run_id)
    grants = (*shared().settings.grants, *_profile_grants(agent), *_texts(meta, "grants"))
    return dataclasses.replace(
        base,
        roots=_narrowed(context, base.roots, roots),
        agent=agent,
        run_id=run_id,
        grants=frozenset(grants),
        made=state.made,
        tainted=state.tainted or meta.get(f"{META}tainted") is True,
        offered=state.offered,
        reachable=frozenset(_texts(meta, "hosts")),
        own_words=meta.get(f"{META}own") is True,
    )


def _meta(context: Context[Any, Any] | None) -> Mapping[str, Any]:
    if context is None:
        return {}
    try:
        return context.request_context.meta or {}
    except ValueError:  # outside of a request
        return {}


def _text(meta: Mapping[str, Any], key: str) -> str | None:
    value = meta.get(f"{META}{key}")
    return value[:200] if isinstance(value, str) and value else None


def _texts(meta: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = meta.get(f"{META}{key}")
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _profile_grants(agent: str | None) -> tuple[str, ...]:
    if agent is None:
        return ()
    try:
        return shared().registry.agent(agent).grants
    except AgentNotFound:
        return ()


def _narrowed(
    context: Context[Any, Any] | None, allowed: tuple[Path, ...], roots: ListRootsResult | None
) -> tuple[Path, ...]:
    """What the client's roots and the settings' share, or the client's own where none are set.

    Roots that share nothing allow nothing; folders that are not on this machine do not count.
    Over HTTP the client may be another machine, and whoever has a folder of its own stays there:
    their roots only narrow. What else is on this machine they are not even told by what is refused.
    """
    named = [path for root in (roots.roots if roots else ()) if (path := _path(str(root.uri)))]
    if current().key:
        named = [path for path in named if any(path.is_relative_to(one) for one in allowed)]
    wanted = [path for path in named if path.is_dir()]
    if not wanted:
        return allowed
    local = context is not None and context.headers is None and not current().key
    if not shared().settings.roots and local:
        return tuple(wanted)
    both = [_within(path, one) for path in wanted for one in allowed]
    return tuple(dict.fromkeys(path for path in both if path is not None))


def _within(one: Path, other: Path) -> Path | None:
    """The one of two folders that lies in the other; None where neither does."""
    inner, outer = one.resolve(), other.resolve()
    if inner.is_relative_to(outer):
        return one
    return other if outer.is_relative_to(inner) else None


def _path(uri: str) -> Path | None:
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"}:
        return None
    path = Path(os.path.normpath(url2pathname(unquote(parts.path))))
    return path if path.is_absolute() and "\0" not in str(path) else None


def _client_roots(ctx: Context[Any, Any]) -> ListRoots | ListRootsResult:
    """Asks a direct client for its roots, where it has any."""
    capabilities = ctx.client_capabilities
    if _text(_meta(ctx), "run") or capabilities is None or capabilities.roots is None:
        return ListRootsResult(roots=[])
    return ListRoots()


Roots = Annotated[ListRootsResult, Resolve(_client_roots)]


class Approval(BaseModel):
    """The question a direct client is asked before something is overwritten or deleted."""

    approve: bool = Field(default=True, description="Let this one call go ahead.")


async def _approval(
    ctx: Context[Any, Any], name: str, arguments: dict[str, Any], roots: Roots
) -> Elicit[Approval] | Approval:
    """Asks a direct client to approve a call that needs it; runs ask their own client."""
    from ryzanstein.tools import missing_approval

    if _text(_meta(ctx), "run") or not can_ask(ctx.client_capabilities):
        return Approval(approve=False)
    try:
        item = await find_tool(name)
        missing = await missing_approval(context_of(ctx, roots), item, arguments)
    except RyzansteinError:
        return Approval(approve=False)  # the call itself says what is wrong
    if missing is None:
        return Approval(approve=False)
    return Elicit(f"{missing.message} Let it go ahead?", Approval)


Approved = Annotated[
    AcceptedElicitation[Approval] | DeclinedElicitation | CancelledElicitation, Resolve(_approval)
]


def is_approved(outcome: Any) -> bool:
    """Tells whether the client said yes."""
    return isinstance(outcome, AcceptedElicitation) and bool(outcome.data.approve)


async def find_tool(name: str) -> Tool:
    """Returns a tool of this machine, or of an external server.

    Raises:
        ToolNotFound: There is none of that name.
    """
    from ryzanstein.errors import ToolNotFound
    from ryzanstein.nearest import did_you_mean
    from ryzanstein.tools import get_tool

    if "." not in name:  # a tool of ours never has one, those of other servers always do
        return get_tool(name)
    found = {one.name: one for one in await shared().external.tools()}
    if name not in found:
        hint = (
            did_you_mean(name, found)
            or "`ryzanstein tools list --external` shows how its tools stand."
        )
        raise ToolNotFound(f"There is no tool {name!r}.", hint=hint)
    return found[name]


async def every_tool() -> tuple[Tool, ...]:
    """Returns the tools of this machine, then those of external servers."""
    from ryzanstein.tools import all_tools

    return (*all_tools(), *await shared().external.tools())


def require_profile(ctx: ToolContext, item: Tool) -> None:
    """Holds an agent to its profile: tools of others are used by those that name them.

    Raises:
        ToolError: The agent's profile has neither the server nor the tool.
    """
    if ctx.agent is None or not item.is_external:
        return
    try:
        named = shared().registry.agent(ctx.agent).tools
    except AgentNotFound:
        named = ()
    if not {item.name, item.family} & set(named):
        raise ToolError(
            f"{item.name} is not among the tools of {ctx.agent}.",
            hint=f"The user can add {item.family} to the agent's `tools` in the registry.",
        )


async def keep(record: CallRecord) -> None:
    """Writes the audit record of a call."""
    await anyio.to_thread.run_sync(shared().audit.keep, record)


async def ask_server(server: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Calls a tool of another server, wherever the registry says it runs.

    Raises:
        RyzansteinError: What that server raised, or what went wrong on the way to it.
    """
    from ryzanstein.agents.clients.services import Services

    async with Services(shared().registry, names=(server,)) as services:
        return await services.call(server, tool, arguments)
