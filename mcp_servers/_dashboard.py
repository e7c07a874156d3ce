"""The dashboard: runs, memory and tokens a second, as a page for hosts that show apps, and as text.

MCP Apps: `show_dashboard` carries the address of a page that a host puts into a sandboxed frame and
hands the tool's structured content; the page asks again through the host. Others read the text.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from mcp.server.apps import Apps
from pydantic.json_schema import SkipJsonSchema as Aside

from ryzanstein.mcp_servers import _kept_runs
from ryzanstein.mcp_servers._factory import READS, Reply
from ryzanstein.mcp_servers._metrics import shown
from ryzanstein.mcp_servers._shared import shared

if TYPE_CHECKING:
    from ryzanstein.memory.records import Run

__all__ = ["Dashboard", "apps", "look"]

URI = "ui://ryzanstein/dashboard.html"
DAYS = 30
LATEST = 12
_SHOWN_TASK = 200


class Dashboard(Reply):
    """How it goes here."""

    at: Aside[str]
    days: Aside[int]
    totals: dict[str, float]
    speeds: list[dict[str, Any]]
    runs: list[dict[str, Any]]
    memory: dict[str, Any]
    process: Aside[dict[str, Any]]

    def brief(self) -> str:
        """Returns it all in a few lines."""
        totals = {name: f"{value:.0f}" for name, value in self.totals.items()}
        lines = [
            f"Last {self.days} days: {totals['runs']} runs, {totals['running']} under way, "
            f"{totals['verified']} verified, {totals['failed']} failed, {totals['tokens']} tokens.",
            *(
                f"{one['model']}: {one['tokens_per_second']:.1f} tokens/s over {one['runs']} runs"
                for one in self.speeds
            ),
            f"Kept: {self.memory['memories']} memories, {self.memory['experiences']} experiences.",
            f"Since {self.process['started']}: {self.process['calls']} tool calls, "
            f"{self.process['errors']} of them failed; {self.process['generated_tokens']} tokens "
            "generated.",
        ]
        lines += [
            f"{run['run_id']} {run['status']}, {run['agent'] or 'no agent'}: {run['task'][:80]}"
            for run in self.runs
        ]
        return "\n".join(lines)


def show_dashboard() -> Dashboard:
    """Show the user runs, memory and tokens per second, as a live page where possible."""
    return look()


def apps() -> Apps:
    """The tool and its page."""
    made = Apps()
    made.tool(resource_uri=URI, title="Show the dashboard", annotations=READS)(show_dashboard)
    made.add_html_resource(
        URI,
        files("ryzanstein.mcp_servers").joinpath("dashboard.html").read_text("utf-8"),
        name="dashboard",
        title="Dashboard",
        description="Runs, memory and tokens per second, kept up to date.",
        prefers_border=True,
    )
    return made


def look() -> Dashboard:
    """Collects what the dashboard shows of the current subject."""
    now = datetime.now(UTC)
    latest = [_kept_runs.settled(run) for run in shared().runs.list(limit=LATEST)]
    recent = [_kept_runs.settled(run) for run in shared().runs.since(now - timedelta(days=DAYS))]
    return Dashboard(
        at=now.isoformat(timespec="seconds"),
        days=DAYS,
        totals=_totals(recent),
        speeds=_speeds(recent),
        runs=[_row(run) for run in latest],
        memory=_memory(),
        process=_process(),
    )


def _totals(runs: list[Run]) -> dict[str, float]:
    states = [run.status for run in runs]
    return {
        "runs": len(runs),
        "running": states.count("running"),
        "done": states.count("done"),
        "failed": states.count("failed"),
        "verified": sum(run.result.get("verified") is True for run in runs),
        "tokens": sum(_number(run, "tokens") for run in runs),
        "seconds": round(sum(_number(run, "seconds") for run in runs), 1),
    }


def _speeds(runs: list[Run]) -> list[dict[str, Any]]:
    """Generated tokens by wall time of the runs of each model, the most used one first."""
    by_model: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.model and _number(run, "seconds") > 0:
            by_model[run.model].append(run)
    speeds = [
        {
            "model": model,
            "runs": len(them),
            "tokens_per_second": round(
                sum(_number(run, "tokens") for run in them)
                / sum(_number(run, "seconds") for run in them),
                2,
            ),
        }
        for model, them in by_model.items()
    ]
    return sorted(speeds, key=lambda one: (-int(str(one["runs"])), str(one["model"])))


def _row(run: Run) -> dict[str, Any]:
    tokens, seconds = _number(run, "tokens"), _number(run, "seconds")
    return {
        "run_id": run.id,
        "task": run.task[:_SHOWN_TASK],
        "status": run.status,
        "agent": run.agent,
        "model": run.model,
        "verified": run.result.get("verified"),
        "tokens": int(tokens),
        "seconds": round(seconds, 1),
        "created": run.created.isoformat(timespec="seconds"),
    }


def _memory() -> dict[str, Any]:
    stats = shared().store.stats()
    return {
        "memories": stats.memories,
        "experiences": stats.experiences,
        "by_tier": dict(stats.by_tier),
    }


def _process() -> dict[str, Any]:
    counted = shown()
    tallies = counted.tools().values()
    tokens = counted.token_counts()
    return {
        "started": datetime.fromtimestamp(counted.started, UTC).isoformat(timespec="seconds"),
        "calls": sum(one.calls for one in tallies),
        "errors": sum(one.errors for one in tallies),
        "prompt_tokens": sum(n for (_, kind), n in tokens.items() if kind == "prompt"),
        "generated_tokens": sum(n for (_, kind), n in tokens.items() if kind == "generated"),
    }


def _number(run: Run, name: str) -> float:
    found = run.result.get(name)
    return float(found) if isinstance(found, int | float) else 0.0
