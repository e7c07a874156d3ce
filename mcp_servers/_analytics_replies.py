"""What the analytics server answers: runs, totals, counts, advice and traces."""

from __future__ import annotations

from typing import Any

from mcp_types import ResourceLink
from pydantic.json_schema import SkipJsonSchema as Aside

from ryzanstein.mcp_servers._factory import Reply, linked

__all__ = [
    "Check",
    "Comparison",
    "Exported",
    "Health",
    "MetricsAnswer",
    "ModelRuns",
    "RunBrief",
    "RunDescription",
    "RunPage",
    "Suggestion",
    "Suggestions",
    "TokenMetric",
    "ToolMetric",
    "Usage",
    "UsageSummary",
]


class RunBrief(Reply):
    """A run in one line."""

    run_id: str
    task: str
    status: str
    agent: str | None
    model: Aside[str | None]
    verified: bool | None = None
    tokens: Aside[int] = 0
    seconds: Aside[float] = 0.0
    created: Aside[str]

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

    updated: Aside[str]
    result: dict[str, Any]

    def brief(self) -> str:
        """Returns the line and the answer."""
        return f"{super().brief()}\n{self.result.get('answer', '')}".strip()


class Usage(Reply):
    """Totals of one group."""

    key: str
    runs: int
    done: Aside[int]
    verified: int
    failed: int
    tokens: int
    seconds: Aside[float]


class UsageSummary(Reply):
    """Totals by group, the one with most runs first."""

    by: Aside[str]
    days: Aside[int]
    groups: list[Usage]
    next_cursor: str | None = None

    def brief(self) -> str:
        """Returns one line a group."""
        lines = [
            f"{g.key}: {g.runs} runs, {g.verified} verified, {g.failed} failed, "
            f"{g.tokens} tokens, {g.seconds:.0f} s"
            for g in self.groups
        ]
        if self.next_cursor:
            lines.append(f"More with cursor={self.next_cursor}.")
        return "\n".join(lines) or f"No runs in the last {self.days} days."


class ToolMetric(Reply):
    """Calls of one tool in this process."""

    server: Aside[str]
    tool: str
    calls: int
    errors: int
    mean_ms: float
    max_ms: Aside[float]


class TokenMetric(Reply):
    """Tokens of one model in this process."""

    model: str
    kind: Aside[str]
    tokens: int


class MetricsAnswer(Reply):
    """What this process counted since it started."""

    started: Aside[str]
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


class ModelRuns(Reply):
    """The runs of one model; `low` to `high` holds the share verified with 95 %."""

    key: str
    runs: int
    failed: Aside[int]
    checked: Aside[int]
    verified: int
    low: float
    high: float
    seconds: float
    tokens: float
    tokens_per_second: Aside[float]


class Comparison(Reply):
    """Models by how likely their runs pass the checks; seconds and tokens are medians."""

    models: list[ModelRuns]

    def brief(self) -> str:
        """Returns one line a model."""
        return (
            "\n".join(
                f"{m.key}: {m.verified} of {m.checked} checked runs verified "
                f"({100 * m.low:.0f} to {100 * m.high:.0f} %), {m.failed} of {m.runs} failed, "
                f"{m.seconds:.1f} s and {m.tokens:.0f} tokens a run"
                for m in self.models
            )
            or "No model has run anything. benchmark_model measures speed."
        )


class Suggestion(Reply):
    """Something to change, and why."""

    area: Aside[str]
    finding: str
    action: str


class Suggestions(Reply):
    """What would help most, first."""

    suggestions: list[Suggestion]
    runs: int

    def brief(self) -> str:
        """Returns one line a suggestion."""
        lines = [f"{one.finding} {one.action}" for one in self.suggestions]
        return "\n".join(lines) or f"Nothing stands out in {self.runs} runs."


class Exported(Reply):
    """A file of traces, and the resource that holds the same."""

    uri: str
    runs: int
    spans: Aside[int]
    bytes: Aside[int]
    path: str = ""

    def brief(self) -> str:
        """Returns one sentence."""
        where = f", {self.path}" if self.path else ""
        return f"{self.runs} runs as {self.spans} spans, OTLP/JSON: {self.uri}{where}"

    def elsewhere(self) -> list[ResourceLink]:
        """Returns the resource."""
        return [linked(self.uri, self.uri.rpartition("/")[2], self.bytes)]
