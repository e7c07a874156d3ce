"""Runs one task: route, recall, look, act and observe, verify, answer, remember.

    route     the agent that fits                          Router
    recall    facts and at most two past tasks like it     memory server
    look      what the task names, opened                  tools server
    act       tool, arguments, result, again               model and tools server
              or, where code is asked for: asserts, code, run, one reflection
    verify    code run, arithmetic done again              sandbox
    answer    from what was found
    remember  how it went                                  memory server

Every stage emits an event with the run's trace id. A run ends by its answer, by its limits, or by
cancellation, which takes effect at any await and leaves no experience behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import anyio

from ryzanstein.agents import coding, experience, ground, menu, prompting, verify
from ryzanstein.agents.act import act
from ryzanstein.agents.conversation import Budget, OutOfBudget
from ryzanstein.agents.persona import default_model, system_message, window_of
from ryzanstein.agents.run import Approve, Checkpoint, Run
from ryzanstein.agents.services import Services
from ryzanstein.agents.step import Step
from ryzanstein.agents.verify import Check
from ryzanstein.errors import InvalidRequest, TimedOut
from ryzanstein.events import EventSink, new_id

if TYPE_CHECKING:
    from ryzanstein.agents.route import Router
    from ryzanstein.registry import AgentProfile, Limits, Registry

__all__ = ["RunResult", "Sampler", "checked", "run_task"]

# Asks the client's own model: messages in, its text out; options are those of the `chat` tool.
Sampler = Callable[..., Awaitable[Any]]

MOST_CHARACTERS = 100_000
FACTS = 2


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
) -> RunResult:
    """Runs a task through the agent that fits it, or through a named one.

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

    Raises:
        InvalidRequest: The task is empty or too long.
        AgentNotFound: There is no agent of that name.
        TimedOut: The run took longer than its limit; it is kept as a failure.
        RyzansteinError: A server or the engine failed.
    """
    task = checked(task)
    profile, route = _routed(task, registry, router, agent)
    limits = limits or profile.limits
    model = model or profile.model or await default_model(services)
    budget = Budget(limits.tokens, limits.seconds)
    window = window_of(model, registry)
    run_id = run_id or new_id("run")
    run = Run(task, profile, services, budget, window, model, run_id, on_event)
    run.approve, run.checkpoint = approve, checkpoint
    await run.tell("route", f"{profile.codename} takes the task", **route)
    try:
        with anyio.fail_after(limits.seconds):
            await _prepare(run)
            await _recall(run)
            await _work(run, tools, limits.steps)
            return await _finish(run)
    except TimeoutError:
        await _remember(run, "It ran out of time.")
        raise TimedOut(
            f"The run took longer than its {limits.seconds:g} seconds.",
            hint="Raise the agent's limit of seconds, or ask for less at once.",
        ) from None
    except OutOfBudget:
        await _remember(run, "It ran out of tokens.")
        raise


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


def _routed(
    task: str, registry: Registry, router: Router | None, agent: str | None
) -> tuple[AgentProfile, dict[str, Any]]:
    """The agent, and what the event of it says."""
    if agent is not None:
        return registry.agent(agent), {"reasons": ["asked for by name"]}
    if router is None:
        raise InvalidRequest("There is no router.", hint="Name the agent.")
    found = router.route(task, top_k=3)
    best = found.agents[0]
    ranked = [one.codename for one in found.agents]
    reasons = [str(reason) for reason in best.reasons]
    return registry.agent(best.codename), {"agents": ranked, "reasons": reasons}


async def _prepare(run: Run) -> None:
    """Opens the conversation with the agent's persona.

    Raises:
        InvalidRequest: The task takes too much of the model's window.
    """
    most = int(run.window * prompting.TASK_SHARE)
    size = await run.talk.count(run.task)
    if size > most:
        raise InvalidRequest(
            f"The task has {size} tokens; {run.model} has room for {most}.",
            hint="Put the long part into a file and name the file in the task.",
        )
    await run.talk.system(system_message(run.profile, run.window))


async def _recall(run: Run) -> None:
    facts = await run.services.recall(run.task, limit=FACTS)
    hits = await run.services.find_experiences(
        run.task, tier=run.profile.tier, limit=experience.MOST
    )
    near = experience.chosen(facts, experience.LEAST_FACT_SIMILARITY)
    alike = experience.chosen(hits)
    run.facts = [fact["text"] for fact in near]
    run.told = bool(near) and near[0].get("similarity", 0.0) >= experience.TOLD_SIMILARITY
    run.reminders = [experience.reminder(hit) for hit in alike]
    run.used = [*alike, *map(experience.as_used, near)]
    ids = [one["id"] for one in run.used]
    await run.tell("recall", f"{len(alike)} past tasks and {len(near)} facts fit", used=ids)


async def _work(run: Run, tools: bool, steps: int) -> None:
    """Finds the answer: by code, by tools, or from what is known."""
    if not tools:
        await run.say(prompting.plain_question(run.task, await _known(run)))
        return
    await _look(run)
    allowed = await menu.allowed_tools(run.profile, run.around.named, run.services)
    known = await _known(run)
    if run.told and not run.around.named and not run.computes and prompting.only_asks(run.task):
        await run.say(prompting.plain_question(run.task, known))
        return
    if prompting.asks_for_code(run.task) and any(one.name == "run_python" for one in allowed):
        await _code(run, known)
    else:
        await act(run, known, allowed, steps)


async def _look(run: Run) -> None:
    run.around = await ground.look(run.task, run.services)
    for one in run.around.named:
        run.steps.append(Step("look", arguments={"path": one.path}, observation=one.text))
        await run.tell("observe", f"{one.path} is a {one.kind}")


async def _known(run: Run) -> str:
    """What was looked up and recalled, within its share of the window."""
    text = prompting.known_text(run.around.named, [*run.facts, *run.reminders])
    return await run.talk.fit(text, int(run.window * prompting.KNOWN_SHARE))


async def _code(run: Run, known: str) -> None:
    """Writes code, checks it, and explains it; the code in the answer is the code that was run."""
    since = run.mark()
    opening = prompting.task_text(run.task, known)
    attempt = await coding.write_code(run, opening, _original(run))
    run.checks = list(attempt.checks)
    said = "\n".join(f"{check.name}: {check.detail}" for check in attempt.failed)
    run.note(Step("check", "run_python", {"code": attempt.code}, said, not said), since)
    await run.say(prompting.EXPLAIN)
    explained = run.answer.partition("```")[0].strip()
    run.answer = f"```python\n{attempt.code.strip()}\n```\n\n{explained}".strip()


def _original(run: Run) -> str:
    """The code a task wants corrected, where it names a Python file."""
    if not prompting.asks_to_correct(run.task):
        return ""
    texts = [one.text for one in run.around.named if one.path.endswith(".py")]
    return texts[0] if len(texts) == 1 else ""


async def _finish(run: Run) -> RunResult:
    """Verifies, remembers, and returns the result."""
    if not any(made.kind == "check" for made in run.steps):
        await run.tell("verify", "checks the answer")
        run.checks += await verify.check_arithmetic(run.services, run.answer)
    await _remember(run)
    return RunResult(
        run_id=run.run_id,
        agent=run.profile.codename,
        answer=run.answer,
        verified=verify.verdict(run.checks),
        checks=tuple(run.checks),
        steps=tuple(run.steps),
        experiences=tuple(run.used),
        tokens=run.budget.spent,
        seconds=round(run.budget.elapsed, 3),
        model=run.model or "",
        failures=tuple(run.failures),
    )


async def _remember(run: Run, stopped: str = "") -> None:
    """Keeps how it went, after it was checked; a run without an answer is a failure."""
    verified = verify.verdict(run.checks)
    kept = experience.experience(
        run.task, run.steps, run.checks, verified, run.answer, stopped=stopped
    )
    await run.tell("remember", f"keeps the run as {kept['outcome']}")
    stored = await run.services.record_experience(
        **kept,
        agent=run.profile.codename,
        run_id=run.run_id,
        trace_id=run.trace_id,
        tokens=run.budget.spent,
        seconds=run.budget.elapsed,
    )
    if stored.get("breakthrough") is not None and not stored.get("refuted"):
        message = f"a breakthrough that tier {run.profile.tier} will hear of"
        await run.tell("breakthrough", message, id=stored["id"], score=stored["breakthrough"])
