"""What would make the work here faster or better, told from what was counted.

Each rule looks at one thing and yields what it found, what to do, and how much it matters, from 0
to 1. A rule says nothing where there is too little to tell from.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from ryzanstein.errors import RyzansteinError
from ryzanstein.mcp_servers._metrics import shown
from ryzanstein.mcp_servers._shared import Shared

if TYPE_CHECKING:
    from ryzanstein.memory.records import Run

__all__ = ["Advice", "Tally", "advice", "likely", "tallies"]

_FEW: Final = 5  # runs below which nothing is said about them
_CALLS: Final = 10
_MUCH: Final = 0.2
_Z: Final = 1.96  # 95 %


@dataclass(frozen=True, slots=True)
class Advice:
    """Something to change."""

    area: str
    finding: str
    action: str
    weight: float


@dataclass(frozen=True, slots=True)
class Tally:
    """The runs of one model: shares are of those that a check was run for, with their interval."""

    key: str
    runs: int
    failed: int
    checked: int
    verified: int
    low: float
    high: float
    seconds: float
    tokens: float
    tokens_per_second: float


def tallies(runs: Sequence[Run]) -> list[Tally]:
    """Returns one tally a model, the one most likely to pass its checks first."""
    by_model: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.model:
            by_model[run.model].append(run)
    found = [_tally(model, of) for model, of in by_model.items()]
    return sorted(found, key=lambda one: (-one.low, -one.runs, one.key))


def likely(passed: int, of: int) -> tuple[float, float]:
    """Returns the interval that holds a share with 95 %, after Wilson; (0, 1) of nothing."""
    if of == 0:
        return 0.0, 1.0
    share, spread = passed / of, _Z * _Z / of
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * sqrt(share * (1 - share) / of + spread / (4 * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def advice(parts: Shared, runs: Sequence[Run]) -> list[Advice]:
    """Returns everything there is to say, what matters most first."""
    found = [one for rule in _RULES for one in _said(rule, parts, runs)]
    return sorted(found, key=lambda one: (-one.weight, one.finding))


_Rule = Callable[[Shared, Sequence["Run"]], Iterator[Advice]]


def _said(rule: _Rule, parts: Shared, runs: Sequence[Run]) -> list[Advice]:
    try:
        return list(rule(parts, runs))
    except RyzansteinError:  # what cannot be looked at is the matter of system_health
        return []


def _tally(model: str, runs: Sequence[Run]) -> Tally:
    checked = [run for run in runs if run.result.get("verified") is not None]
    verified = sum(run.result["verified"] is True for run in checked)
    low, high = likely(verified, len(checked))
    ended = [run for run in runs if run.status == "done"]
    seconds, tokens = (
        [_number(run, name) for run in ended] or [0.0] for name in ("seconds", "tokens")
    )
    spent = sum(seconds)
    return Tally(
        key=model,
        runs=len(runs),
        failed=sum(run.status == "failed" for run in runs),
        checked=len(checked),
        verified=verified,
        low=round(low, 3),
        high=round(high, 3),
        seconds=round(median(seconds), 2),
        tokens=median(tokens),
        tokens_per_second=round(sum(tokens) / spent, 2) if spent else 0.0,
    )


def _number(run: Run, name: str) -> float:
    return float(run.result.get(name) or 0.0)


def _better_model(parts: Shared, runs: Sequence[Run]) -> Iterator[Advice]:
    """A model that passes its checks more often than the default, beyond chance."""
    by_name = {one.key: one for one in tallies(runs)}
    default = by_name.get(parts.catalogue.default())
    if default is None or default.checked < _FEW:
        return
    for one in by_name.values():
        if one.low > default.high:
            yield Advice(
                "model",
                f"{one.key} passes {one.verified} of {one.checked} checks, the default "
                f"{default.key} {default.verified} of {default.checked}.",
                f"Set default_model to {one.key}, or give model={one.key} to run_task.",
                1.0,
            )


def _weak_agents(parts: Shared, runs: Sequence[Run]) -> Iterator[Advice]:
    by_agent: dict[str, list[bool]] = defaultdict(list)
    for run in runs:
        if run.agent and run.result.get("verified") is not None:
            by_agent[run.agent].append(run.result["verified"])
    for agent, checks in by_agent.items():
        _, high = likely(sum(checks), len(checks))
        if len(checks) >= _FEW and high < 0.6:
            yield Advice(
                "agents",
                f"{agent} passed {sum(checks)} of {len(checks)} checks.",
                "Give its tasks a larger model (compare_models), or more steps (max_steps).",
                1 - sum(checks) / len(checks),
            )


def _failures(parts: Shared, runs: Sequence[Run]) -> Iterator[Advice]:
    codes = Counter(
        str((run.result.get("error") or {}).get("code", "unknown"))
        for run in runs
        if run.status == "failed"
    )
    for code, count in codes.items():
        if len(runs) >= _FEW and count / len(runs) >= _MUCH:
            yield Advice(
                "runs",
                f"{count} of {len(runs)} runs failed with {code}.",
                _MENDS.get(code, "describe_run shows why; system_health looks for the cause."),
                count / len(runs),
            )


_MENDS: Final = {
    "TIMEOUT": "Give run_task a larger max_seconds, or a smaller model.",
    "MODEL_NOT_FOUND": "Call pull_model for the model that was asked for.",
    "MODEL_LOAD_FAILED": "Call unload_model for what is not needed, or take a smaller model.",
    "SERVER_UNAVAILABLE": "system_health says which backend or server is down.",
}


def _interrupted(parts: Shared, runs: Sequence[Run]) -> Iterator[Advice]:
    left = [run for run in runs if run.status == "interrupted"]
    if left:
        yield Advice(
            "runs",
            f"{len(left)} runs were interrupted, the latest {left[0].id}.",
            f"Call run_task with run_id={left[0].id} to go on behind its last step.",
            0.6,
        )


def _repeated(parts: Shared, runs: Sequence[Run]) -> Iterator[Advice]:
    times = Counter(" ".join(run.task.split()) for run in runs if run.status == "done")
    for task, count in times.most_common(1):
        if count >= 3:
            yield Advice(
                "cache",
                f"The same task was run {count} times: {task[:80]}",
                "Call lookup_response before such a task, store_response after it.",
                0.5,
            )


def _prompts(parts: Shared, runs: Sequence[Run]) -> Iterator[Advice]:
    """Prompts that are read again although one that begins so was read before."""
    if not parts.has("engine"):
        return
    stats = parts.engine.cache_stats()
    read, cached = stats["prompt_tokens"], stats["cached_tokens"]
    if read >= 10_000 and cached / read < _MUCH:
        yield Advice(
            "cache",
            f"{100 * cached / read:.0f} % of {read:,} prompt tokens came from the cache.",
            "Put what changes at the end of prompts; save_state keeps a system prompt's state.",
            0.7,
        )


def _tools(parts: Shared, runs: Sequence[Run]) -> Iterator[Advice]:
    for (_, name), tally in shown().tools().items():
        if tally.calls >= _CALLS and tally.errors / tally.calls >= _MUCH:
            yield Advice(
                "tools",
                f"{tally.errors} of {tally.calls} calls of {name} failed.",
                f"Look at the arguments that {name} takes; query_metrics counts its calls.",
                tally.errors / tally.calls,
            )


def _memory(parts: Shared, runs: Sequence[Run]) -> Iterator[Advice]:
    from ryzanstein.machine import available_memory, total_memory

    free, total = available_memory(), total_memory()
    loaded: list[Any] = parts.engine.loaded() if parts.has("engine") else []
    if free < total / 10 and loaded:
        yield Advice(
            "machine",
            f"{free / 1e9:.1f} GB of {total / 1e9:.1f} GB are free, {len(loaded)} models loaded.",
            "Call unload_model, or clear_cache.",
            0.9,
        )


_RULES: Final[tuple[_Rule, ...]] = (
    _better_model,
    _weak_agents,
    _failures,
    _interrupted,
    _repeated,
    _prompts,
    _tools,
    _memory,
)
