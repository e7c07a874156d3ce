"""`ryzanstein route`: which agents fit a task, and why."""

from __future__ import annotations

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

    TASK is a text, or - to read it from stdin.
    """
    text = checked_task(read_text(task))
    result = call("orchestrator", "route_task", {"task": text, "top_k": top_k})
    rows = [
        (one["codename"], f"{one['score']:.3f}", "\n".join(map(str, one["reasons"])))
        for one in result["agents"]
    ]
    out.result(result, lambda: table(("agent", "score", "why"), rows))
