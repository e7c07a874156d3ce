"""The analytics server: runs, what they cost, and how this machine is doing."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ryzanstein.errors import InvalidRequest
from ryzanstein.mcp_servers import _advice, _kept_runs, _traces
from ryzanstein.mcp_servers._analytics_replies import (
    Check,
    Comparison,
    Exported,
    Health,
    MetricsAnswer,
    ModelRuns,
    RunBrief,
    RunDescription,
    RunPage,
    Suggestion,
    Suggestions,
    TokenMetric,
    ToolMetric,
    Usage,
    UsageSummary,
)
from ryzanstein.mcp_servers._dashboard import apps, look
from ryzanstein.mcp_servers._factory import CHANGES, READS, make_server, page
from ryzanstein.mcp_servers._metrics import shown
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.subject import current

if TYPE_CHECKING:
    from ryzanstein.memory.records import Run

__all__ = ["mcp"]

INSTRUCTIONS = """What was done here and what it cost.

list_runs and describe_run for single runs, summarize_usage for totals by agent, model, status or
day, compare_models for which model does best, query_metrics for tool calls of this process,
system_health for memory, disk, database and models. suggest_optimizations looks at all of it and
says what to change. export_traces hands runs to other tools, as OpenTelemetry traces."""

mcp = make_server("analytics", "Ryzanstein analytics", INSTRUCTIONS, extensions=[apps()])

MAX_RUNS = 1000  # as many as the store gives at once
Status = Literal["running", "interrupted", "done", "failed", "cancelled"]
Days = Annotated[int, Field(ge=1, le=3650)]
Cursor = Annotated[str, Field(max_length=20)]


@mcp.tool(title="List runs", annotations=READS)
def list_runs(
    status: Status | None = None,
    agent: Annotated[str | None, Field(max_length=32, description="Codename.")] = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    cursor: Cursor = "",
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
    by: Literal["agent", "model", "status", "day"] = "agent",
    days: Days = 30,
    limit: Annotated[int, Field(ge=1, le=100)] = 50,
    cursor: Cursor = "",
) -> UsageSummary:
    """Total runs, successes, tokens and seconds by agent, model, status or day."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in _since(days):
        key = run.created.date().isoformat() if by == "day" else getattr(run, by)
        groups[key or "none"].append(run)
    totals = [_usage(key, runs) for key, runs in groups.items()]
    totals.sort(key=lambda group: (-group.runs, group.key))
    listed, following = page(totals, limit, cursor)
    return UsageSummary(by=by, days=days, groups=listed, next_cursor=following)


@mcp.tool(title="Compare models", annotations=READS)
def compare_models(
    models: Annotated[
        list[Annotated[str, Field(max_length=500)]],
        Field(max_length=20, description="None: all that ran."),
    ] = [],  # noqa: B006
    days: Days = 30,
) -> Comparison:
    """Compare models by their runs: checks passed, failures, time. For speed, benchmark_model."""
    known = _advice.tallies(_since(days))
    missing = sorted(set(models) - {one.key for one in known})
    if missing:
        there = ", ".join(one.key for one in known) or "none"
        raise InvalidRequest(
            f"No runs of {', '.join(missing)[:200]} in {days} days.", hint=f"There are: {there}."
        )
    chosen = [one for one in known if not models or one.key in models]
    return Comparison(models=[ModelRuns(**asdict(one)) for one in chosen])


@mcp.tool(title="Suggest optimizations", annotations=READS)
def suggest_optimizations(
    days: Days = 30, limit: Annotated[int, Field(ge=1, le=20)] = 5
) -> Suggestions:
    """Say what would make the work here faster or better, and which call mends it."""
    runs = _since(days)
    found = _advice.advice(shared(), runs)[:limit]
    return Suggestions(
        suggestions=[
            Suggestion(area=one.area, finding=one.finding, action=one.action) for one in found
        ],
        runs=len(runs),
    )


@mcp.tool(title="Export traces", annotations=CHANGES)
def export_traces(
    run_id: Annotated[str, Field(max_length=64, description="Empty: the latest.")] = "",
    days: Days = 7,
    limit: Annotated[int, Field(ge=1, le=1000)] = 100,
) -> Exported:
    """Write runs as OpenTelemetry traces (OTLP/JSON) to a file, and link to it."""
    since = datetime.now(UTC) - timedelta(days=days)
    latest = [_kept_runs.found(run_id)] if run_id else _runs()
    runs = [run for run in latest if run_id or run.created >= since][:limit]
    if not runs:
        raise InvalidRequest(f"There are no runs of the last {days} days.", hint="Give more days.")
    path = _traces.keep(_traces_folder(), _traces.trace(runs))
    return Exported(
        uri=f"traces://{path.stem}",
        runs=len(runs),
        spans=sum(1 for run in runs for _ in _traces.spans(run)),
        bytes=path.stat().st_size,
        path="" if current().key else str(path),
    )


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


@mcp.resource("traces://{name}", mime_type="application/json", title="Exported traces")
def traces(name: str) -> str:
    """Runs as OTLP/JSON, as export_traces wrote them."""
    return _traces.kept(_traces_folder(), name)


@mcp.resource("analytics://dashboard", mime_type="application/json", title="Dashboard")
def dashboard() -> str:
    """Runs of the last 30 days, tokens per second, memory, and this process's counters."""
    return look().model_dump_json()


def _runs() -> list[Run]:
    return [_kept_runs.settled(run) for run in shared().runs.list(limit=MAX_RUNS)]


def _since(days: int) -> list[Run]:
    """The runs of the last days, the latest first, with what there is to count of them."""
    since = datetime.now(UTC) - timedelta(days=days)
    return [_kept_runs.settled(run) for run in shared().runs.since(since)]


def _traces_folder() -> Path:
    return shared().settings.own_dir / "traces"


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
