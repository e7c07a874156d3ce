"""`ryzanstein tools`: what agents can do, calls by hand, the record of calls, and other servers."""

from __future__ import annotations

import json
from typing import Any

import click

from ryzanstein.cli._approval import at_terminal
from ryzanstein.cli._client import call
from ryzanstein.cli._group import command, group
from ryzanstein.cli._output import Output, table
from ryzanstein.errors import InvalidRequest

__all__ = ["tools"]

tools = group(
    "tools",
    "The tools: what there is, a call by hand, who called what, and those of other servers.",
    "ryzanstein tools list",
    'ryzanstein tools call read_file \'{"path": "notes.txt"}\'',
    "ryzanstein tools calls --run run-1a2b",
    "ryzanstein tools approve clock",
)


@tools.add
@command(
    "list",
    "ryzanstein tools list",
    'ryzanstein tools list "rename many files"',
    "ryzanstein tools list --external",
)
@click.argument("query", default="")
@click.option("--external", is_flag=True, help="Ask other servers, and show how their tools stand.")
def list_tools(out: Output, query: str, external: bool) -> None:
    """List the tools, those that fit a QUERY first."""
    if external:
        _list_external(out)
        return
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = call("tools", "search_tools", {"query": query, "limit": 50, "cursor": cursor})
        found += page["tools"]
        cursor = page["next_cursor"]
    rows = [(one["name"], one["family"], one["description"]) for one in found]
    out.result(found, lambda: table(("tool", "family", "what it does"), rows))


def _list_external(out: Output) -> None:
    from dataclasses import asdict

    import anyio

    from ryzanstein.mcp_servers._shared import shared

    found = [asdict(state) for state in anyio.run(shared().external.states)]
    rows = [(one["name"], one["standing"], one["description"]) for one in found]
    out.result(found, lambda: table(("tool", "standing", "its server says"), rows))


@tools.add
@command("show", "ryzanstein tools show read_file", "ryzanstein tools show fetch_url --json")
@click.argument("name")
def show(out: Output, name: str) -> None:
    """Show one tool: when to use it, its arguments and an example."""
    found = call("tools", "describe_tool", {"name": name})

    def lines() -> None:
        print(f"{found['name']} ({found['family']}): {found['title']}\n\n{found['description']}\n")
        print(json.dumps(found["input_schema"], indent=2, ensure_ascii=False))
        print(f"\nExample: {found['example']}")

    out.result(found, lines)


@tools.add
@command(
    "call",
    'ryzanstein tools call list_files "{}"',
    'ryzanstein tools call evaluate_expression \'{"expression": "2**64"}\'',
    'ryzanstein tools call delete_file \'{"path": "old.txt"}\' --yes',
)
@click.argument("name")
@click.argument("arguments", default="{}")
@click.option("--yes", is_flag=True, help="Let it overwrite and delete.")
def call_one(out: Output, name: str, arguments: str, yes: bool) -> None:
    """Call the tool NAME with ARGUMENTS, a JSON object."""
    import anyio

    from ryzanstein.agents.clients.services import Services
    from ryzanstein.mcp_servers._shared import shared

    try:
        given = json.loads(arguments)
    except ValueError as error:
        raise InvalidRequest(f"The arguments are no JSON: {error}.", hint=_EXAMPLE) from error
    if not isinstance(given, dict):
        raise InvalidRequest("The arguments are no JSON object.", hint=_EXAMPLE)

    async def run() -> dict[str, Any]:
        from ryzanstein.agents.trust import META

        elicit = at_terminal()
        async with Services(shared().registry, names=("tools",), elicit=elicit) as services:
            request = {"name": name, "arguments": given}
            meta = {f"{META}grants": ["*"]} if yes else None
            return await services.call("tools", "call_tool", request, meta=meta)

    found = anyio.run(run)
    out.result(found, lambda: print(found["text"]))


_EXAMPLE = 'For instance \'{"path": "notes.txt"}\'; `ryzanstein tools show NAME` has the fields.'


@tools.add
@command(
    "calls",
    "ryzanstein tools calls",
    "ryzanstein tools calls --run run-1a2b --json",
    "ryzanstein tools calls --tool write_file --limit 5",
)
@click.option("--run", "run_id", metavar="ID", help="Only those of this run.")
@click.option("--tool", help="Only those of this tool.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
def calls(out: Output, run_id: str | None, tool: str | None, limit: int) -> None:
    """Show the latest tool calls: who called what in which run, and what came of it."""
    from datetime import datetime

    from ryzanstein.mcp_servers._shared import shared

    found = shared().audit.read(run_id=run_id, tool=tool, limit=limit)
    rows = [
        (
            datetime.fromtimestamp(one["at"]).strftime("%Y-%m-%d %H:%M:%S"),
            one["agent"] or "-",
            one["tool"],
            "ok" if one["ok"] else one["message"][:80] or "failed",
        )
        for one in found
    ]
    out.result(found, lambda: table(("when", "agent", "tool", "outcome"), rows))


@tools.add
@command(
    "approve",
    "ryzanstein tools approve clock",
    "ryzanstein tools approve clock get_time",
)
@click.argument("server")
@click.argument("names", nargs=-1, metavar="[TOOL]...")
def approve(out: Output, server: str, names: tuple[str, ...]) -> None:
    """Approve new and changed tools of SERVER as they are now; all of them without a TOOL.

    Look at them first with `ryzanstein tools list --external`.
    """
    import anyio

    from ryzanstein.mcp_servers._shared import shared

    taken = anyio.run(shared().external.approve, server, names)
    result = {"server": server, "approved": taken}
    out.result(result, lambda: print(f"Approved: {', '.join(taken) or 'nothing waited'}."))
