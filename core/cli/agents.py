"""`ryzanstein agents`: the registry's agents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ryzanstein.cli._client import call
from ryzanstein.cli._group import command, group
from ryzanstein.cli._output import Output, table
from ryzanstein.cli._progress import Steps
from ryzanstein.errors import ConfigError

if TYPE_CHECKING:
    from ryzanstein.registry import AgentProfile

__all__ = ["agents"]

agents = group(
    "agents",
    "The agents: who there is, what each is for, and whether the registry is in order.",
    "ryzanstein agents list",
    "ryzanstein agents show CIPHER",
    "ryzanstein agents check --registry my-registry.yaml",
    "ryzanstein agents warm",
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


@agents.add
@command(
    "warm",
    "ryzanstein agents warm",
    "ryzanstein agents warm --model ./rwkv7-g1-0.4b.gguf",
    "ryzanstein agents warm APEX CIPHER --json",
)
@click.argument("codenames", nargs=-1, metavar="[CODENAME]...")
@click.option("--model", metavar="NAME|PATH", help="Another model than each agent's own.")
def warm(out: Output, codenames: tuple[str, ...], model: str | None) -> None:
    """Have the model read the agents' prompts now, so that none of them is read again.

    The state after each prompt is kept on disk; without a CODENAME, those of all agents. What is
    kept already is left as it is, and RYZANSTEIN_STATES_MB bounds them all together.
    """
    from ryzanstein.cli.ask import bring_model
    from ryzanstein.mcp_servers._shared import shared

    registry = shared().registry
    chosen = [registry.agent(name) for name in codenames] or list(registry.agents)
    name = bring_model(model)
    with Steps("Reading prompts") as steps:
        found = _warmed(chosen, name, steps)
    rows = [
        (one["agent"], one["model"], one["tokens"], f"{one['bytes'] / 1e6:.1f} MB") for one in found
    ]
    out.result(found, lambda: table(("agent", "model", "tokens", "size"), rows))


def _warmed(agents: list[AgentProfile], model: str | None, steps: Steps) -> list[dict[str, Any]]:
    import anyio

    from ryzanstein.agents.clients.services import Services
    from ryzanstein.agents.running.persona import warm
    from ryzanstein.mcp_servers._shared import shared

    async def run() -> list[dict[str, Any]]:
        registry = shared().registry
        async with Services(registry, names=("inference", "cache")) as services:
            return await warm(services, registry, agents, model=model, on_done=steps.report)

    return anyio.run(run)


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
