"""`ryzanstein agents`: the registry's agents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ryzanstein.cli._client import call
from ryzanstein.cli._group import command, group
from ryzanstein.cli._output import Output, table
from ryzanstein.errors import ConfigError

__all__ = ["agents"]

agents = group(
    "agents",
    "The agents: who there is, what each is for, and whether the registry is in order.",
    "ryzanstein agents list",
    "ryzanstein agents show CIPHER",
    "ryzanstein agents check --registry my-registry.yaml",
)


@agents.add
@command("list", "ryzanstein agents list", "ryzanstein agents list --json")
def list_agents(out: Output) -> None:
    """List every agent with its domain and what it is for."""
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = call("orchestrator", "search_agents", {"limit": 50, "cursor": cursor})
        found += page["agents"]
        cursor = page["next_cursor"]
    rows = [(one["id"], one["codename"], one["tier_name"], one["summary"]) for one in found]
    out.result(found, lambda: table(("id", "agent", "tier", "for"), rows))


@agents.add
@command("show", "ryzanstein agents show APEX", "ryzanstein agents show 40 --json")
@click.argument("codename")
def show(out: Output, codename: str) -> None:
    """Show one agent, by codename or id: prompt, tools, examples, whom it consults."""
    found = call("orchestrator", "describe_agent", {"codename": codename})
    out.result(found, lambda: _print(found))


@agents.add
@command("check", "ryzanstein agents check", "ryzanstein agents check --registry mine.yaml --json")
@click.option(
    "--registry",
    type=click.Path(dir_okay=False, path_type=Path),
    help="This file over the default one.",
)
def check(out: Output, registry: Path | None) -> None:
    """Check the registry; every fault is shown with its file and line."""
    from ryzanstein.registry import check_registry
    from ryzanstein.tools import all_tools, family_names

    names = [*(tool.name for tool in all_tools()), *family_names()]
    faults = check_registry(registry, tool_names=names)
    if faults and not out.as_json:
        for fault in faults:
            out.note(str(fault))
    if faults:
        lines = (
            "; ".join(str(fault) for fault in faults) if out.as_json else f"{len(faults)} faults."
        )
        raise ConfigError(lines, hint="Correct the lines above." if not out.as_json else "")
    out.result({"ok": True, "faults": []}, lambda: print("The registry is in order."))


def _print(found: dict[str, Any]) -> None:
    print(f"{found['codename']} ({found['id']}, {found['tier_name']}): {found['domain']}")
    print(f"{found['summary']}\n")
    for name in ("tools", "consults", "hands_on_to", "commands"):
        if found[name]:
            print(f"{name.replace('_', ' '):<12} {', '.join(found[name])}")
    limits = found["limits"]
    print(
        f"{'limits':<12} {limits['steps']} steps, {limits['tokens']} tokens, "
        f"{limits['seconds']:.0f} s"
    )
    print("\nFor instance:")
    for example in found["examples"]:
        print(f"  {example}")
    print(f"\n{found['prompt_text'].strip()}")
