"""What this process counted: tool calls and tokens, for `/metrics` and the analytics server.

Counters only grow and live as long as the process; what must last is in the runs table. METRICS
counts everybody's calls; a subject that is not the owner has counters of its own besides.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from time import time

from ryzanstein.mcp_servers._shared import shared
from ryzanstein.subject import current

__all__ = ["METRICS", "Metrics", "ToolTally", "counting", "shown"]

BUCKETS = (0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0)  # seconds


@dataclass
class ToolTally:
    """Calls of one tool."""

    calls: int = 0
    errors: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * len(BUCKETS))


class Metrics:
    """Thread-safe counters of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tools: dict[tuple[str, str], ToolTally] = {}
        self._tokens: Counter[tuple[str, str]] = Counter()
        self.started = time()

    def tool_call(self, server: str, tool: str, seconds: float, failed: bool) -> None:
        """Counts one call of a tool."""
        with self._lock:
            tally = self._tools.setdefault((server, tool), ToolTally())
            tally.calls += 1
            tally.errors += failed
            tally.seconds += seconds
            tally.longest = max(tally.longest, seconds)
            for index, bound in enumerate(BUCKETS):
                tally.buckets[index] += seconds <= bound

    def tokens(self, model: str, prompt: int, generated: int) -> None:
        """Counts the tokens of one generation."""
        with self._lock:
            self._tokens[model, "prompt"] += prompt
            self._tokens[model, "generated"] += generated

    def tools(self) -> dict[tuple[str, str], ToolTally]:
        """Returns a copy of the tallies by (server, tool)."""
        with self._lock:
            return {key: ToolTally(**vars(value)) for key, value in sorted(self._tools.items())}

    def token_counts(self) -> dict[tuple[str, str], int]:
        """Returns tokens by (model, "prompt" | "generated")."""
        with self._lock:
            return dict(sorted(self._tokens.items()))

    def prometheus(self) -> str:
        """Returns everything in Prometheus' text format, version 0.0.4."""
        calls, seconds = [], []
        for (server, tool), tally in self.tools().items():
            labels = f'server="{_escape(server)}",tool="{_escape(tool)}"'
            good = tally.calls - tally.errors
            calls.append(f'ryzanstein_tool_calls_total{{{labels},outcome="ok"}} {good}')
            calls.append(f'ryzanstein_tool_calls_total{{{labels},outcome="error"}} {tally.errors}')
            for bound, count in zip(BUCKETS, tally.buckets, strict=True):
                seconds.append(f'ryzanstein_tool_seconds_bucket{{{labels},le="{bound}"}} {count}')
            seconds.append(f'ryzanstein_tool_seconds_bucket{{{labels},le="+Inf"}} {tally.calls}')
            seconds.append(f"ryzanstein_tool_seconds_sum{{{labels}}} {tally.seconds:.6f}")
            seconds.append(f"ryzanstein_tool_seconds_count{{{labels}}} {tally.calls}")
        tokens = [
            f'ryzanstein_tokens_total{{model="{_escape(model)}",kind="{kind}"}} {count}'
            for (model, kind), count in self.token_counts().items()
        ]
        sections = (
            ("ryzanstein_tool_calls_total", "counter", "Calls of MCP tools.", calls),
            ("ryzanstein_tool_seconds", "histogram", "Duration of MCP tool calls.", seconds),
            ("ryzanstein_tokens_total", "counter", "Tokens read and generated.", tokens),
            (
                "process_start_time_seconds",
                "gauge",
                "Start time of the process since the epoch.",
                [f"process_start_time_seconds {self.started:.3f}"],
            ),
        )
        return "".join(
            "\n".join((f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines)) + "\n"
            for name, kind, text, lines in sections
        )


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


METRICS = Metrics()


def counting() -> tuple[Metrics, ...]:
    """Returns what counts the work at hand: the process's counters, and its subject's."""
    return (METRICS, shared().own("metrics", Metrics)) if current().key else (METRICS,)


def shown() -> Metrics:
    """Returns the counters that the current subject may see."""
    return METRICS if current().admin else counting()[-1]
