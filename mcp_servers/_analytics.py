"""The analytics server: runs, what they cost, and how this machine is doing."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ryzanstein.mcp_servers import _kept_runs
from ryzanstein.mcp_servers._factory import READS, Reply, make_server, page
from ryzanstein.mcp_servers._metrics import shown
from ryzanstein.mcp_servers._shared import shared

if TYPE_CHECKING:
    from ryzanstein.memory.records import Run

__all__ = ["mcp"]

INSTRUCTIONS = """What was done here and what it cost.

list_runs and describe_run for single runs, summarize_usage for totals by agent, model, status or
day, query_metrics for tool calls of this process, system_health for memory, disk, database and
models."""

mcp = make_server("analytics", "Ryzanstein analytics", INSTRUCTIONS)

MAX_RUNS = 1000  # as many as the store gives at once
Status = Literal["running", "interrupted", "done", "failed", "cancelled"]
Days = Annotated[int, Field(ge=1, le=3650, description="Only the last so many days.")]


class RunBrief(Reply):
    """A run in one line."""

    run_id: str
    task: str
    status: str
    agent: str | None
    model: str | None
    verified: bool | None = None
    tokens: int = 0
    seconds: float = 0.0
    created: str

    def brief(self) -> str:
        """Returns it in one line."""
        checked = {True: ", verified", False: ", check failed", None: ""}[self.verified]
        return f"{self.run_id} {self.status}{checked}, {self.agent or 'no agent'}: {self.task[:80]}"


class RunPage(Reply):
    """Runs, newest first."""

    runs: list[RunBrief]
    next_cursor: str | None = None

    def brief(self) -> str:
        """Returns one line a run."""
        lines = [run.brief() for run in self.runs]
        if self.next_cursor:
            lines.append(f"More with cursor={self.next_cursor}.")
        return "\n".join(lines) or "No runs."


class RunDescription(RunBrief):
    """A run with everything that was kept of it."""

    updated: str
    result: dict[str, Any]

    def brief(self) -> str:
        """Returns the line and the answer."""
        return f"{super().brief()}\n{self.result.get('answer', '')}".strip()


class Usage(Reply):
    """Totals of one group."""

    key: str
    runs: int
    done: int
    verified: int
    failed: int
    tokens: int
    seconds: float


class UsageSummary(Reply):
    """Totals by group, the one with most runs first."""

    by: str
    days: int
    groups: list[Usage]

    def brief(self) -> str:
        """Returns one line a group."""
        return (
            "\n".join(
                f"{g.key}: {g.runs} runs, {g.verified} verified, {g.failed} failed, "
                f"{g.tokens} tokens, {g.seconds:.0f} s"
                for g in self.groups
            )
            or f"No runs in the last {self.days} days."
        )


class ToolMetric(Reply):
    """Calls of one tool in this process."""

    server: str
    tool: str
    calls: int
    errors: int
    mean_ms: float
    max_ms: float


class TokenMetric(Reply):
    """Tokens of one model in this process."""

    model: str
    kind: str
    tokens: int


class MetricsAnswer(Reply):
    """What this process counted since it started."""

    started: str
    tools: list[ToolMetric]
    tokens: list[TokenMetric]

    def brief(self) -> str:
        """Returns one line a tool and a model."""
        lines = [
            f"{t.tool}: {t.calls} calls, {t.errors} errors, "
            f"mean {t.mean_ms:.1f} ms, max {t.max_ms:.1f} ms"
            for t in self.tools
        ]
        lines += [f"{t.model}: {t.tokens} {t.kind} tokens" for t in self.tokens]
        return "\n".join(lines) or "Nothing was called yet."


class Check(Reply):
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


class Health(Reply):
    """Whether everything a run needs is in order."""

    ok: bool
    checks: list[Check]

    def brief(self) -> str:
        """Returns one line a check."""
        return "\n".join(
            f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}"
            for check in self.checks
        )


@mcp.tool(title="List runs", annotations=READS)
def list_runs(
    status: Status | None = None,
    agent: Annotated[str | None, Field(max_length=32, description="Codename.")] = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    cursor: Annotated[str, Field(max_length=20)] = "",
) -> RunPage:
    """List runs, newest first, with how each ended."""
    found = [
        run
        for run in _runs()
        if (status is None or run.status == status)
        and (agent is None or run.agent == agent.upper())
    ]
    runs, following = page(found, limit, cursor)
    return RunPage(runs=[RunBrief(**_brief(run)) for run in runs], next_cursor=following)


@mcp.tool(title="Describe a run", annotations=READS)
def describe_run(run_id: Annotated[str, Field(min_length=1, max_length=64)]) -> RunDescription:
    """Show one run in full: steps, checks, answer, what it cost."""
    run = _kept_runs.found(run_id)
    return RunDescription(**_brief(run), updated=_time(run.updated), result=run.result)


@mcp.tool(title="Summarise usage", annotations=READS)
def summarize_usage(
    by: Literal["agent", "model", "status", "day"] = "agent", days: Days = 30
) -> UsageSummary:
    """Total runs, successes, tokens and seconds by agent, model, status or day."""
    since = datetime.now(UTC) - timedelta(days=days)
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in _runs():
        if run.created >= since:
            key = run.created.date().isoformat() if by == "day" else getattr(run, by)
            groups[key or "none"].append(run)
    totals = [_usage(key, runs) for key, runs in groups.items()]
    totals.sort(key=lambda group: (-group.runs, group.key))
    return UsageSummary(by=by, days=days, groups=totals)


@mcp.tool(title="Query metrics", annotations=READS)
def query_metrics(
    tool: Annotated[str, Field(max_length=64, description="Only names with this in them.")] = "",
) -> MetricsAnswer:
    """Show how often and how fast each tool ran in this process, and the tokens of each model."""
    metrics = shown()
    tools = [
        ToolMetric(
            server=server,
            tool=name,
            calls=tally.calls,
            errors=tally.errors,
            mean_ms=round(1000 * tally.seconds / tally.calls, 3),
            max_ms=round(1000 * tally.longest, 3),
        )
        for (server, name), tally in metrics.tools().items()
        if tool in name
    ]
    tokens = [
        TokenMetric(model=model, kind=kind, tokens=count)
        for (model, kind), count in metrics.token_counts().items()
    ]
    started = datetime.fromtimestamp(metrics.started, UTC)
    return MetricsAnswer(started=_time(started), tools=tools, tokens=tokens)


@mcp.tool(title="System health", annotations=READS)
def system_health() -> Health:
    """Check memory, disk, database, default model and sandbox."""
    from ryzanstein.mcp_servers._health import checks

    found = [Check(name=name, ok=ok, detail=detail) for name, ok, detail in checks(shared())]
    return Health(ok=all(check.ok for check in found), checks=found)


@mcp.resource("analytics://dashboard", mime_type="application/json", title="Dashboard")
def dashboard() -> str:
    """Usage of the last 30 days, the latest runs and this process's metrics."""
    return json.dumps(
        {
            "usage": summarize_usage().model_dump(),
            "runs": list_runs(limit=10).model_dump(),
            "metrics": query_metrics().model_dump(),
        }
    )


def _runs() -> list[Run]:
    return [_kept_runs.settled(run) for run in shared().runs.list(limit=MAX_RUNS)]


def _brief(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "task": run.task,
        "status": run.status,
        "agent": run.agent,
        "model": run.model,
        "verified": run.result.get("verified"),
        "tokens": int(run.result.get("tokens") or 0),
        "seconds": float(run.result.get("seconds") or 0.0),
        "created": _time(run.created),
    }


def _usage(key: str, runs: list[Run]) -> Usage:
    results = [run.result for run in runs]
    return Usage(
        key=key,
        runs=len(runs),
        done=sum(run.status == "done" for run in runs),
        verified=sum(result.get("verified") is True for result in results),
        failed=sum(run.status == "failed" for run in runs),
        tokens=sum(int(result.get("tokens") or 0) for result in results),
        seconds=round(sum(float(result.get("seconds") or 0.0) for result in results), 3),
    )


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
