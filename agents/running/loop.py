"""Runs one task: route, recall, look, act and observe, verify, answer, remember.

    route     the agent that fits; whom past runs favour, where several are close
    recall    facts and at most two past tasks like it     memory server
    look      what the task names, opened                  tools server     ┐
    act       tool, arguments, result, again, part by part  model and tools  │ working
              or, where code is asked for: asserts, code, run, reflection    │
    answer    from what was found                                            ┘
    verify    mathematics, logic and data checked again    tools server
    remember  how it went, and whether what was recalled helped              memory server

Every stage emits an event with the run's trace id, and the state behind every finished step is
handed out, so that another process can go on from there. A run ends by its answer, by its limits,
or by cancellation, which takes effect at any await and leaves no experience behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ryzanstein.agents.clients.services import Sampler, Services
from ryzanstein.agents.routing.complexity import estimate
from ryzanstein.agents.running import experience, state
from ryzanstein.agents.running.consult import consulted
from ryzanstein.agents.running.conversation import Budget, OutOfBudget
from ryzanstein.agents.running.persona import default_model, system_message, window_of
from ryzanstein.agents.running.plan import parts
from ryzanstein.agents.running.recalling import feed_back, recall
from ryzanstein.agents.running.run import Approve, Checkpoint, Run
from ryzanstein.agents.running.sections import TASK_SHARE, require_window
from ryzanstein.agents.running.step import Step
from ryzanstein.agents.running.working import work
from ryzanstein.agents.trust import Caller
from ryzanstein.agents.verification import verify
from ryzanstein.agents.verification.checks import Check, verdict
from ryzanstein.errors import (
    AgentInvocationError,
    AgentNotFound,
    InferenceError,
    InvalidRequest,
    RyzansteinError,
    TimedOut,
)
from ryzanstein.events import EventSink, new_id

if TYPE_CHECKING:
    from ryzanstein.agents.routing.route import Router
    from ryzanstein.registry import AgentProfile, Limits, Registry

__all__ = ["RunResult", "checked", "run_task"]


MOST_CHARACTERS = 100_000
# A run that used up its time may still wait so long for the memory.
REMEMBER_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """What came of a run.

    Attributes:
        run_id: Id of the run.
        agent: Codename of the agent that did it.
        answer: For the user, Markdown.
        verified: True or False where something could be checked, else None.
        checks: What was checked.
        steps: What was done.
        experiences: Past tasks and facts that were put into the prompt.
        tokens: Tokens generated.
        seconds: Wall time.
        model: The model that answered.
        failures: Why something failed on the way, a sentence each.
    """

    run_id: str
    agent: str
    answer: str
    verified: bool | None
    checks: tuple[Check, ...]
    steps: tuple[Step, ...]
    experiences: tuple[dict[str, Any], ...]
    tokens: int
    seconds: float
    model: str = ""
    failures: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The wire form."""
        return asdict(self)


async def run_task(
    task: str,
    *,
    services: Services,
    registry: Registry,
    router: Router | None = None,
    agent: str | None = None,
    model: str | None = None,
    tools: bool = True,
    limits: Limits | None = None,
    on_event: EventSink | None = None,
    run_id: str | None = None,
    sampler: Sampler | None = None,
    approve: Approve | None = None,
    checkpoint: Checkpoint | None = None,
    resume: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> RunResult:
    """Runs a task through the agent that fits it, or through a named one.

    Where no agent was named and the one that fits fails for its own reasons, such as its model, the
    next one of the ranking takes over.

    Args:
        task: What the user asks.
        services: Connections to the servers.
        registry: Agents and models.
        router: Finds the agent; not needed where one is named.
        agent: Codename of the agent; None routes.
        model: Catalogue name or path; None is the agent's preference, else the default.
        tools: False answers from the model and memory alone.
        limits: In place of the agent's own.
        on_event: Hears of every stage.
        run_id: Id for the run; made where it is None.
        sampler: Asks the client's own model, where the client lets us.
        approve: Asked before a destructive call; None refuses it.
        checkpoint: Takes the state of the run after every finished step, as JSON.
        resume: Such a state: the run goes on behind its last finished step.
        notes: What others found out for it, shown as data beside what is recalled.

    Raises:
        InvalidRequest: The task is empty or too long.
        AgentNotFound: There is no agent of that name, or none fits the task.
        InferenceError: The model answered with nothing.
        TimedOut: The run took longer than its limit; it is kept as a failure.
        RyzansteinError: A server or the engine failed.
    """
    task = checked(task)
    agent = agent if resume is None else state.agent_of(resume)
    profile, route = await _routed(task, services, registry, router, agent)
    usual = None if model else await default_model(services)
    run_id = run_id or new_id("run")
    common: dict[str, Any] = {
        "run_id": run_id,
        "on_event": on_event,
        "approve": approve,
        "checkpoint": checkpoint,
        "notes": tuple(notes),
        "failures": [],
    }
    started = monotonic()
    profiles = [profile, *_substitutes(profile, registry, route)]
    for place, one in enumerate(profiles):
        bounds = _limits(task, one.limits, limits, used=monotonic() - started if place else 0.0)
        caller = Caller(task=task, agent=one.codename, run_id=run_id, grants=one.grants)
        bound = services.for_run(caller, sampler=sampler)
        run = _begun(task, one, bound, registry, bounds, model or one.model or usual, common)
        if resume is not None:
            state.restore(run, resume)
        await run.tell("route", f"{one.codename} takes the task", **route)
        found = await _tried(run, tools, bounds, last=place + 1 == len(profiles))
        if found is not None:
            return found
    raise AssertionError("the last agent ends the run by its result or its error")


def _begun(
    task: str,
    profile: AgentProfile,
    services: Services,
    registry: Registry,
    limits: Limits,
    model: str | None,
    common: Mapping[str, Any],
) -> Run:
    """A run at its beginning.

    Raises:
        InvalidRequest: No agent can work in the model's window.
    """
    window = window_of(model, registry)
    require_window(window, model)
    budget = Budget(limits.tokens, limits.seconds)
    run = Run(task, profile, services, budget, window, model, **common)
    services.on_failure = run.failed
    services.caller.tainted |= bool(run.notes)
    return run


def _substitutes(
    profile: AgentProfile, registry: Registry, route: Mapping[str, Any]
) -> list[AgentProfile]:
    """Who may take over where an agent fails for its own reasons: the next one of the ranking."""
    others = [name for name in route.get("agents", ()) if name != profile.codename]
    return [registry.agent(name) for name in others[:1]]


async def _tried(run: Run, tools: bool, limits: Limits, *, last: bool) -> RunResult | None:
    """The result of a run; None where its agent failed for its own reasons and is not the last."""
    try:
        return await _bounded(run, tools, limits)
    except (AgentInvocationError, InferenceError) as error:
        # Another agent would change again what this one changed.
        if last or run.changed or isinstance(error, OutOfBudget):
            raise
        await run.failed(f"{run.profile.codename} failed, and the next agent takes over: {error}")
        return None


async def _bounded(run: Run, tools: bool, limits: Limits) -> RunResult:
    """Runs the stages within the limits; what ends the run before its answer is remembered."""
    try:
        with anyio.fail_after(limits.seconds):
            await _stages(run, tools, limits.steps)
            return await _finish(run)
    except TimeoutError:
        if run.stage != "remembered":
            await _remember(run, "It ran out of time.")
        if run.answer:
            await run.failed("No time was left to check the answer.")
            return _result(run)
        raise TimedOut(
            f"The run took longer than its {limits.seconds:g} seconds.",
            hint="Raise the agent's limit of seconds, or ask for less at once.",
        ) from None
    except OutOfBudget:
        await _remember(run, "It ran out of tokens.")
        raise
    except InferenceError as error:
        await _remember(run, str(error))
        raise


async def _stages(run: Run, tools: bool, steps: int) -> None:
    """Every stage up to the answer, but those that a run had done before it was interrupted."""
    if not run.stage:
        await _prepare(run)
        await recall(run)
        run.stage = "recalled"
        await run.save()
    await work(run, tools, steps)


def _limits(task: str, own: Limits, given: Limits | None, *, used: float) -> Limits:
    """What the caller sets, else what the agent may spend, with the steps the task should need.

    Args:
        task: What is asked.
        own: What the agent may spend.
        given: What the caller sets.
        used: Seconds that another agent took of it before.
    """
    needed = own.steps if len(parts(task)) > 1 else estimate(task).steps
    steps = min(own.steps, needed)
    said = {name: getattr(given, name) for name in given.model_fields_set} if given else {}
    bounds = own.model_copy(update={"steps": steps, **said})
    return (
        bounds.model_copy(update={"seconds": max(1.0, bounds.seconds - used)}) if used else bounds
    )


def checked(task: str) -> str:
    """The task without white space around it.

    Raises:
        InvalidRequest: It is empty, too long for any model, or not text.
    """
    task = task.strip()
    if not task:
        raise InvalidRequest("The task is empty.", hint="Say what should be done.")
    if len(task) > MOST_CHARACTERS:
        raise InvalidRequest(
            f"The task has {len(task)} characters; {MOST_CHARACTERS} is the most.",
            hint="Put the long part into a file and name the file in the task.",
        )
    if any(0xD800 <= ord(char) <= 0xDFFF for char in task):
        raise InvalidRequest("The task is no valid Unicode text.", hint="Pass it as UTF-8.")
    return task


async def _routed(
    task: str, services: Services, registry: Registry, router: Router | None, agent: str | None
) -> tuple[AgentProfile, dict[str, Any]]:
    """The agent, and what the event of it says.

    Raises:
        AgentNotFound: None fits the task.
    """
    if agent is not None:
        return registry.agent(agent), {"reasons": ["asked for by name"]}
    if router is None:
        raise InvalidRequest("There is no router.", hint="Name the agent.")
    found = router.route(task, top_k=3)
    ranked = [one.codename for one in found.agents]
    if not found.fits:
        raise none_fits(ranked)
    chosen, why = await consulted(task, found.agents, services)
    told: dict[str, Any] = {"agents": ranked, "reasons": [*why, *map(str, chosen.reasons)]}
    if found.notes:
        told["notes"] = list(found.notes)
    return registry.agent(chosen.codename), told


def none_fits(ranked: Sequence[str]) -> AgentNotFound:
    """The refusal of a task that no agent fits, with the nearest, best first."""
    return AgentNotFound(
        f"No agent fits this task; the nearest are {', '.join(ranked)}.",
        hint=f"Name one to have it try all the same, such as {ranked[0]}, or say more.",
    )


async def _prepare(run: Run) -> None:
    """Opens the conversation with the agent's persona.

    Raises:
        InvalidRequest: The task takes too much of the model's window.
    """
    most = int(run.window * TASK_SHARE)
    size = await run.talk.count(run.task)
    if size > most:
        raise InvalidRequest(
            f"The task has {size} tokens; {run.model} has room for {most}.",
            hint="Put the long part into a file and name the file in the task.",
        )
    await run.talk.system(system_message(run.profile, run.window))


async def _finish(run: Run) -> RunResult:
    """Verifies, remembers, and returns the result."""
    if not any(made.kind == "check" for made in run.steps):
        await run.tell("verify", "checks the answer")
        run.checks += await verify(run.services, run.task, run.answer)
    await _remember(run)
    run.stage = "remembered"
    await feed_back(run, verdict(run.checks))
    return _result(run)


def _result(run: Run) -> RunResult:
    return RunResult(
        run_id=run.run_id,
        agent=run.profile.codename,
        answer=run.answer,
        verified=verdict(run.checks),
        checks=tuple(run.checks),
        steps=tuple(run.steps),
        experiences=tuple(run.used),
        tokens=run.budget.all_tokens,
        seconds=round(run.budget.all_seconds, 3),
        model=run.talk.answered_by or run.model or "",
        failures=tuple(run.failures),
    )


async def _remember(run: Run, stopped: str = "") -> None:
    """Keeps how it went, after it was checked; a run without an answer is a failure."""
    verified = verdict(run.checks)
    kept = experience.experience(
        run.task, run.steps, run.checks, verified, run.answer, stopped=stopped
    )
    await run.tell("remember", f"keeps the run as {kept['outcome']}")
    stored: dict[str, Any] = {}
    reason = "the memory took too long."
    with anyio.move_on_after(REMEMBER_SECONDS):
        try:
            stored = await run.services.record_experience(
                **kept,
                agent=run.profile.codename,
                run_id=run.run_id,
                trace_id=run.trace_id,
                tokens=run.budget.all_tokens,
                seconds=run.budget.all_seconds,
            )
        except RyzansteinError as error:
            reason = str(error)
    if not stored:
        # An answer is not lost because it cannot be remembered.
        await run.failed(f"The run could not be remembered: {reason}")
    if stored.get("breakthrough") is not None and not stored.get("refuted"):
        message = f"a breakthrough that tier {run.profile.tier} will hear of"
        await run.tell("breakthrough", message, id=stored["id"], score=stored["breakthrough"])
