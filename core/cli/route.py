"""`ryzanstein route`: which agents fit a task, and why."""

from __future__ import annotations

from typing import Any

import click

from ryzanstein.cli._client import call, read_text
from ryzanstein.cli._group import command
from ryzanstein.cli._output import Output, table
from ryzanstein.cli.ask import checked_task

__all__ = ["route"]


@command(
    "route",
    'ryzanstein route "Review this Terraform module"',
    'ryzanstein route "Prove that the loop terminates" --top-k 3 --json',
)
@click.argument("task")
@click.option("--top-k", type=click.IntRange(1, 50), default=5, show_default=True)
def route(out: Output, task: str, top_k: int) -> None:
    """Rank the agents for TASK with scores and reasons, without running anything.

    A mention (@CIPHER) or a slash command (/review) decides. Where no agent fits, the nearest are
    shown and said to be no more than that; `routing.out_of_scope: nearest` gives it to them.

    TASK is a text, or - to read it from stdin.
    """
    text = checked_task(read_text(task))
    result = call("orchestrator", "route_task", {"task": text, "top_k": top_k})
    out.result(result, lambda: _shown(result))


def _shown(result: dict[str, Any]) -> None:
    if not result["fits"]:
        print(f"No agent fits (in scope with {result['scope']:.0%}); these are the nearest.\n")
    rows = [
        (one["codename"], f"{one['score']:.3f}", "\n".join(map(str, one["reasons"])))
        for one in result["agents"]
    ]
    table(("agent", "score", "why"), rows)
