"""`ryzanstein bench calls`: how often a model calls the right function with the right arguments.

The tasks and the judgement are the Berkeley Function Calling Leaderboard's own. `well_formed` is
the share of answers that name a function there is with arguments that fit its schema; under a
grammar it is all of them, whatever the model.
"""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import anyio
import jsonschema

from ryzanstein.agents.bench.bfcl import SUITES, Checker, Problem, load
from ryzanstein.agents.bench.data import Log
from ryzanstein.agents.bench.intervals import wilson
from ryzanstein.agents.calls.decode import MOST, Decoded, Way, decode_calls
from ryzanstein.agents.calls.schema import decodable
from ryzanstein.agents.clients.services import Services
from ryzanstein.errors import AgentInvocationError

if TYPE_CHECKING:
    from ryzanstein.registry import Registry

__all__ = ["SUITES", "Outcome", "run"]

NO_CALL: Final = "no_call"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one problem went.

    Attributes:
        id: The problem.
        fault: The checker's kind of mistake, empty where the calls are right.
        well_formed: Whether every call names a function and fits its schema.
        calls: What was called, as [name, arguments].
        tokens: Generated.
        prompt_tokens: Read, cached ones included.
        seconds: In the model.
    """

    id: str
    fault: str
    well_formed: bool
    calls: list[Any]
    tokens: int
    prompt_tokens: int
    seconds: float


def run(
    *,
    suite: str,
    registry: Registry,
    model: str | None = None,
    limit: int | None = None,
    bfcl: Path | None = None,
    way: Way = "joint",
    log: Path | None = None,
    servers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measures one set and returns its figures.

    Args:
        suite: simple, multiple or parallel.
        registry: Says where the servers run.
        model: Name or path; None is the server's default.
        limit: So many problems, spread evenly over the set; None takes all.
        bfcl: Folder that bfcl-eval was installed into; None imports it.
        way: How calls are decoded.
        log: File of results that a run adds to, and goes on from.
        servers: In place of the registry's, by name.

    Raises:
        InvalidRequest: The package is not there, or the log is of something else.
    """
    problems = load(suite, bfcl, limit)
    checker = Checker(suite, bfcl)
    head = {"suite": suite, "model": model, "way": way}
    started = monotonic()
    work = partial(_measured, problems, checker, registry, head, log, servers)
    outcomes = anyio.run(work)
    return {**head, **_summary(outcomes), "wall_seconds": round(monotonic() - started, 1)}


async def _measured(
    problems: Sequence[Problem],
    checker: Checker,
    registry: Registry,
    head: Mapping[str, Any],
    log: Path | None,
    servers: Mapping[str, Any] | None,
) -> list[Outcome]:
    kept = Log(log, head)
    known = {line["id"]: Outcome(**line) for line in kept.lines(*Outcome.__slots__)}
    outcomes: list[Outcome] = []
    async with Services(registry, servers=servers, names=("inference",)) as services:
        for number, problem in enumerate(problems, 1):
            outcome = known.get(problem.id)
            if outcome is None:
                outcome = await _solved(problem, checker, services, head)
                kept.add(asdict(outcome))
            outcomes.append(outcome)
            _tell(number, len(problems), outcomes)
    return outcomes


async def _solved(
    problem: Problem, checker: Checker, services: Services, head: Mapping[str, Any]
) -> Outcome:
    most = MOST if head["suite"] == "parallel" else 1
    try:
        found = await decode_calls(
            services,
            problem.task,
            problem.functions,
            most=most,
            way=head["way"],
            model=head["model"],
        )
    except AgentInvocationError:
        return Outcome(problem.id, NO_CALL, False, [], 0, 0, 0.0)
    return Outcome(
        id=problem.id,
        fault=checker.fault(problem, found.calls),
        well_formed=_fits(problem, found),
        calls=[[call.tool, dict(call.arguments)] for call in found.calls],
        tokens=found.tokens,
        prompt_tokens=found.prompt_tokens,
        seconds=round(found.seconds, 3),
    )


def _fits(problem: Problem, found: Decoded) -> bool:
    schemas = {one.name: decodable(one.schema) for one in problem.functions}
    return bool(found.calls) and all(
        call.tool in schemas
        and jsonschema.Draft202012Validator(schemas[call.tool]).is_valid(dict(call.arguments))
        for call in found.calls
    )


def _tell(number: int, total: int, outcomes: Sequence[Outcome]) -> None:
    last = outcomes[-1]
    right = sum(not one.fault for one in outcomes)
    print(
        f"{number}/{total} {last.id}: {right} right; {last.fault or 'right'}, "
        f"{last.tokens} tokens, {last.seconds:.1f} s",
        file=sys.stderr,
        flush=True,
    )


def _summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    count = len(outcomes)
    right = sum(not one.fault for one in outcomes)
    low, high = wilson(right, count)
    calls = max(1, sum(len(one.calls) for one in outcomes))
    return {
        "problems": count,
        "right": right,
        "accuracy": _percent(right / max(1, count)),
        "interval": [_percent(low), _percent(high)],
        "well_formed": _percent(sum(one.well_formed for one in outcomes) / max(1, count)),
        "faults": dict(Counter(one.fault for one in outcomes if one.fault).most_common()),
        "cost": {
            "calls": calls,
            "tokens_per_call": round(sum(one.tokens for one in outcomes) / calls, 1),
            "seconds_per_call": round(sum(one.seconds for one in outcomes) / calls, 2),
            "prompt_tokens": round(statistics.fmean([one.prompt_tokens for one in outcomes]), 1),
        },
    }


def _percent(share: float) -> float:
    return round(100 * share, 1)
