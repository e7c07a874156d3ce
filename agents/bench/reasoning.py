"""`ryzanstein bench reasoning`: one greedy answer against answers that are checked.

Both come from the same prompt. Of each problem a line is kept in the log, where one is asked for;
a run with the same log goes on after the last of them.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ryzanstein.agents.bench import gsm8k, humaneval
from ryzanstein.agents.bench.data import Log, find_data
from ryzanstein.agents.bench.intervals import difference, mcnemar, wilson
from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.running.conversation import Budget, Conversation
from ryzanstein.agents.running.persona import system_message, window_of
from ryzanstein.agents.verification.checks import verdict
from ryzanstein.errors import InvalidRequest

if TYPE_CHECKING:
    from ryzanstein.registry import Registry

__all__ = ["SUITES", "Outcome", "data_of", "run"]

AGENTS = {"humaneval": "APEX", "gsm8k": "AXIOM"}
TOKENS = 20_000
SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one problem went, directly and verified.

    Attributes:
        id: The problem.
        direct: Whether the first greedy answer was right.
        verified: Whether the chosen one was.
        holds: What the verifier said of the chosen one; None where it could not tell.
        candidates: How many there were.
        direct_tokens: Generated for the first answer.
        tokens: Generated for all of them.
        direct_seconds: Until the first answer.
        seconds: Until the choice.
        answers: The first answer and the chosen one.
    """

    id: str
    direct: bool
    verified: bool
    holds: bool | None
    candidates: int
    direct_tokens: int
    tokens: int
    direct_seconds: float
    seconds: float
    answers: tuple[str, str]


Solve = Callable[[Conversation, Services], Awaitable[Outcome]]


def run(
    *,
    suite: str,
    registry: Registry,
    limit: int | None = None,
    model: str | None = None,
    data: Path | None = None,
    log: Path | None = None,
    servers: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Measures one suite and returns its figures.

    Args:
        suite: humaneval or gsm8k.
        registry: Says where the servers run.
        limit: The first so many problems; None takes all.
        model: Name or path; None is the server's default.
        data: The suite's file; None looks where it usually lies.
        log: File of results that a run adds to, and goes on from.
        servers: In place of the registry's, by name.

    Raises:
        InvalidRequest: There is no data, or the log is of another suite or model.
    """
    file = data_of(suite, data)
    problems = SUITES[suite](file, limit)
    if not problems:
        raise InvalidRequest(f"{file} has no problems.", hint="Is it the right file, and whole?")
    started = monotonic()
    work = partial(_measured, suite, problems, registry, model, log, servers)
    outcomes = anyio.run(work)
    return {
        "suite": suite,
        "model": model,
        **_summary(outcomes),
        "wall_seconds": round(monotonic() - started, 1),
    }


def data_of(suite: str, given: Path | None) -> Path:
    """The file of a suite: the one given, or where it usually lies.

    Raises:
        InvalidRequest: It is not there.
    """
    module = humaneval if suite == "humaneval" else gsm8k
    return find_data(given, module.FILE, module.SOURCE)


def _humaneval(path: Path, limit: int | None) -> list[tuple[str, Solve]]:
    pairs = humaneval.load(path, limit)
    return [(one.id, partial(_function, one, hidden)) for one, hidden in pairs]


def _gsm8k(path: Path, limit: int | None) -> list[tuple[str, Solve]]:
    return [(one.id, partial(_word_problem, one, gold)) for one, gold in gsm8k.load(path, limit)]


SUITES: dict[str, Callable[[Path, int | None], list[tuple[str, Solve]]]] = {
    "humaneval": _humaneval,
    "gsm8k": _gsm8k,
}


async def _function(
    problem: humaneval.Problem, hidden: humaneval.Hidden, talk: Conversation, services: Services
) -> Outcome:
    started = monotonic()
    found = await humaneval.solve(problem, talk, services)
    seconds = monotonic() - started
    first = next(one for one in found if one.plan.number == 0)
    answers = (first.value.code, found[0].value.code)
    direct, verified = await humaneval.judge(services, answers, hidden)
    return Outcome(
        id=problem.id,
        direct=direct,
        verified=verified,
        holds=verdict(found[0].checks) if len(found[0].checks) > 1 else None,
        candidates=len(found),
        direct_tokens=first.value.tokens,
        tokens=talk.budget.spent,
        direct_seconds=round(first.value.seconds, 3),
        seconds=round(seconds, 3),
        answers=answers,
    )


async def _word_problem(
    question: gsm8k.Question, gold: float, talk: Conversation, services: Services
) -> Outcome:
    started = monotonic()
    found = await gsm8k.solve(question, talk, services)
    return Outcome(
        id=question.id,
        direct=gsm8k.right(found.direct, gold),
        verified=gsm8k.right(found.verified, gold),
        holds=None,
        candidates=len(found.votes),
        direct_tokens=found.direct_tokens,
        tokens=talk.budget.spent,
        direct_seconds=round(found.direct_seconds, 3),
        seconds=round(monotonic() - started, 3),
        answers=(str(found.direct), str(found.verified)),
    )


async def _measured(
    suite: str,
    problems: Sequence[tuple[str, Solve]],
    registry: Registry,
    model: str | None,
    log: Path | None,
    servers: dict[str, Any] | None,
) -> list[Outcome]:
    kept = Log(log, {"suite": suite, "model": model})
    known = {
        line["id"]: Outcome(**{**line, "answers": tuple(line["answers"])})
        for line in kept.lines(*Outcome.__slots__)
    }
    window = window_of(model, registry)
    system = system_message(registry.agent(AGENTS[suite]), window)
    outcomes = []
    names = ("inference", "tools")
    async with Services(registry, servers=servers, names=names) as services:
        for number, (id, solve) in enumerate(problems, 1):
            outcome = known.get(id)
            if outcome is None:
                talk = Conversation(services, Budget(TOKENS, SECONDS), window=window, model=model)
                await talk.system(system)
                outcome = await solve(talk, services)
                kept.add(asdict(outcome))
            outcomes.append(outcome)
            _tell(number, len(problems), outcomes)
    return outcomes


def _tell(number: int, total: int, outcomes: Sequence[Outcome]) -> None:
    direct = sum(one.direct for one in outcomes)
    verified = sum(one.verified for one in outcomes)
    last = outcomes[-1]
    print(
        f"{number}/{total} {last.id}: direct {direct}, verified {verified} right; "
        f"{last.candidates} candidates, {last.tokens} tokens, {last.seconds:.1f} s",
        file=sys.stderr,
        flush=True,
    )


def _summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    direct = [one.direct for one in outcomes]
    verified = [one.verified for one in outcomes]
    gain, low, high = difference(direct, verified)
    return {
        "problems": len(outcomes),
        "direct": _share(direct),
        "verified": _share(verified),
        "gain": {
            "points": _percent(gain),
            "interval": [_percent(low), _percent(high)],
            "p": round(mcnemar(direct, verified), 6),
            "won": sum(b < a for b, a in zip(direct, verified, strict=True)),
            "lost": sum(b > a for b, a in zip(direct, verified, strict=True)),
        },
        "cost": {
            "direct_tokens": _mean([one.direct_tokens for one in outcomes]),
            "verified_tokens": _mean([one.tokens for one in outcomes]),
            "direct_seconds": _mean([one.direct_seconds for one in outcomes]),
            "verified_seconds": _mean([one.seconds for one in outcomes]),
            "candidates": _mean([one.candidates for one in outcomes]),
        },
        "verifier": _verifier(outcomes),
    }


def _share(right: Sequence[bool]) -> dict[str, Any]:
    low, high = wilson(sum(right), len(right))
    return {
        "right": sum(right),
        "pass_at_1": _percent(sum(right) / max(1, len(right))),
        "interval": [_percent(low), _percent(high)],
    }


def _verifier(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How often what the verifier says of its choice is so."""
    return {
        "passed_right": sum(one.holds is True and one.verified for one in outcomes),
        "passed_wrong": sum(one.holds is True and not one.verified for one in outcomes),
        "failed_right": sum(one.holds is False and one.verified for one in outcomes),
        "failed_wrong": sum(one.holds is False and not one.verified for one in outcomes),
    }


def _percent(share: float) -> float:
    return round(100 * share, 1)


def _mean(values: Sequence[float]) -> float:
    return round(statistics.fmean(values), 1) if values else 0.0
