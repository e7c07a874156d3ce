"""`ryzanstein runs`: the runs there were and are; watch one, stop one, go on with one."""

from __future__ import annotations

import time
from typing import Any

import click

from ryzanstein.cli._client import call
from ryzanstein.cli._group import command, group
from ryzanstein.cli._output import Output, table
from ryzanstein.cli._progress import Live
from ryzanstein.cli.ask import failures, goes_on, limits, show

__all__ = ["runs"]

STATUSES = ("running", "interrupted", "done", "failed", "cancelled")
LOOKS_EVERY = 0.5
_SHOWN = 60

runs = group(
    "runs",
    "The runs there were and are: list, show, watch, cancel, resume.",
    "ryzanstein runs list --status interrupted",
    "ryzanstein runs watch run-3f0c2a9d81b64e75",
    "ryzanstein runs resume run-3f0c2a9d81b64e75",
)


@runs.add
@command("list", "ryzanstein runs list", "ryzanstein runs list --status interrupted --json")
@click.option("--status", type=click.Choice(STATUSES), help="Only those that are so.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
def list_(out: Output, status: str | None, limit: int) -> None:
    """List runs, newest first."""
    found = call("analytics", "list_runs", {"status": status, "limit": limit})["runs"]
    rows = [
        (one["run_id"], one["status"], one["agent"] or "", one["created"][:16], _short(one["task"]))
        for one in found
    ]
    out.result(found, lambda: table(("run", "status", "agent", "began", "task"), rows))


@runs.add
@command("show", "ryzanstein runs show run-3f0c2a9d81b64e75")
@click.argument("run_id")
def show_(out: Output, run_id: str) -> None:
    """Show where a run is, or how it ended."""
    state = _state(run_id)
    out.result(state, lambda: _show(state))


@runs.add
@command("watch", "ryzanstein runs watch run-3f0c2a9d81b64e75")
@click.argument("run_id")
def watch(out: Output, run_id: str) -> None:
    """Follow a run of any process until it ends."""
    said = 0
    while True:
        state = _state(run_id)
        for event in state["events"][said:]:
            out.note(f"{event['stage']}: {event['message']}")
        said = len(state["events"])
        if state["status"] != "running":
            break
        time.sleep(LOOKS_EVERY)
    out.result(state, lambda: _show(state))


@runs.add
@command("cancel", "ryzanstein runs cancel run-3f0c2a9d81b64e75")
@click.argument("run_id")
def cancel(out: Output, run_id: str) -> None:
    """Stop a run of any process; what it has done to files stays."""
    stopped = call("orchestrator", "cancel_run", {"run_id": run_id})
    told = (
        "is stopping" if stopped["cancelled"] else f"is not under way: {_state(run_id)['status']}"
    )
    out.result(stopped, lambda: print(f"{run_id} {told}."))


@runs.add
@command(
    "resume",
    "ryzanstein runs resume run-3f0c2a9d81b64e75",
    "ryzanstein runs resume run-3f0c2a9d81b64e75 --tokens 20000",
)
@click.argument("run_id")
@limits
def resume(
    out: Output, run_id: str, steps: int | None, tokens: int | None, seconds: float | None
) -> None:
    """Go on with a run behind its last finished step, within other limits where they are given."""
    spend = {"max_steps": steps, "max_tokens": tokens, "max_seconds": seconds}
    with Live() as live, goes_on(live, out):
        request = {"run_id": run_id, **spend}
        result = call("orchestrator", "run_task", request, live.report, live.paused)
    out.result(result, lambda: show(result))


def _state(run_id: str) -> dict[str, Any]:
    return call("orchestrator", "get_run", {"run_id": run_id})


def _show(state: dict[str, Any]) -> None:
    result = state["result"] or {}
    if "answer" in result:
        show({"run_id": state["run_id"], **result})
        return
    events = state["events"]
    rows = [
        ("run", state["run_id"]),
        ("status", state["status"]),
        ("task", state["task"]),
        ("agent", state["agent"] or ""),
        ("stage", f"{events[-1]['stage']}: {events[-1]['message']}" if events else ""),
        *failures([one["message"] for one in events if one["stage"] == "failure"]),
        ("error", result.get("error", {}).get("message", "")),
        ("hint", state["hint"]),
    ]
    for name, text in rows:
        if text:
            print(f"{name:<12}{text}")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 3]}..."
