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

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ryzanstein.agents import coding, experience, ground, menu, prompting, step, verify
from ryzanstein.agents.conversation import Budget, Conversation, OutOfBudget
from ryzanstein.agents.ground import Surroundings
from ryzanstein.agents.profile import system_prompt
from ryzanstein.agents.services import Services, ToolSpec
from ryzanstein.agents.step import Call, Step
from ryzanstein.agents.verify import Check
from ryzanstein.errors import InvalidRequest, RyzansteinError, TimedOut
from ryzanstein.events import Event, EventSink, new_id

if TYPE_CHECKING:
    from ryzanstein.agents.route import Router
    from ryzanstein.registry import AgentProfile, Limits, Registry

__all__ = ["RunResult", "run_task"]

WINDOW = 6144
MOST_CHARACTERS = 100_000
ANSWER_TOKENS = 200
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

    Raises:
        InvalidRequest: The task is empty or too long.
        AgentNotFound: There is no agent of that name.
        TimedOut: The run took longer than its limit; it is kept as a failure.
        RyzansteinError: A server or the engine failed.
    """
    task = checked(task)
    run = _Run(task, services, on_event, run_id or new_id("run"))
    profile = await run.route(registry, router, agent)
    limits = limits or profile.limits
    try:
        with anyio.fail_after(limits.seconds):
            await run.prepare(profile, registry, model or profile.model, limits)
            await run.work(tools, limits.steps)
            return await run.finish()
    except TimeoutError:
        await run.remember("")
        raise TimedOut(
            f"The run took longer than its {limits.seconds:g} seconds.",
            hint="Raise the agent's limit of seconds, or ask for less at once.",
        ) from None
    except OutOfBudget:
        await run.remember("")
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


@dataclass
class _Run:
    """The state of one run; its methods are the stages."""

    task: str
    services: Services
    on_event: EventSink | None
    run_id: str
    trace_id: str = field(default_factory=lambda: new_id("trace"))
    stage: str = "route"
    steps: list[Step] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    recalled: list[dict[str, Any]] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    reminders: list[str] = field(default_factory=list)
    answer: str = ""

    @property
    def computes(self) -> bool:
        """Whether the answer is to be counted or calculated, by a tool and not by the model."""
        return prompting.asks_to_compute(self.task)

    async def tell(self, stage: str, message: str, **data: Any) -> None:
        """Emits an event; a new stage begins with it."""
        self.stage = stage
        if self.on_event is not None:
            await self.on_event(Event(self.run_id, self.trace_id, stage, message, data=data))

    async def _generated(self, progress: float, total: float | None, message: str | None) -> None:
        if self.on_event is not None:
            text = message or f"{progress:g} tokens"
            event = Event(self.run_id, self.trace_id, "generate", text, progress, total)
            await self.on_event(event)

    async def route(
        self, registry: Registry, router: Router | None, agent: str | None
    ) -> AgentProfile:
        """Finds the agent."""
        if agent is None and router is not None:
            found = router.route(self.task, top_k=3)
            agent = found.agents[0].codename
            reasons = [str(reason) for reason in found.agents[0].reasons]
            ranked = [one.codename for one in found.agents]
            await self.tell("route", f"{agent} fits best", agents=ranked, reasons=reasons)
        else:
            await self.tell("route", f"{agent or registry.agents[0].codename} was asked for")
        self.profile = registry.agent(agent) if agent else registry.agents[0]
        return self.profile

    async def prepare(
        self, profile: AgentProfile, registry: Registry, model: str | None, limits: Limits
    ) -> None:
        """Opens the conversation with the agent's persona, sized to the model's window."""
        self.model = model or await _default_model(self.services)
        window = min([WINDOW, *(m.context for m in registry.models if m.name == self.model)])
        self.budget = Budget(limits.tokens, limits.seconds)
        self.talk = Conversation(
            self.services,
            self.budget,
            window=window,
            model=self.model,
            progress=self._generated,
        )
        self.task = await self._whole_task(window)
        # A token is some four characters of English; the persona is no place to be exact.
        persona = system_prompt(profile, budget=int(4 * window * prompting.PERSONA_SHARE))
        await self.talk.system(prompting.system_text(persona))
        await self._recall()

    async def _whole_task(self, window: int) -> str:
        most = int(window * prompting.TASK_SHARE)
        size = await self.talk.count(self.task)
        if size > most:
            raise InvalidRequest(
                f"The task has {size} tokens; {self.model} has room for {most}.",
                hint="Put the long part into a file and name the file in the task.",
            )
        return self.task

    async def _recall(self) -> None:
        facts = await self.services.recall(self.task, limit=FACTS)
        hits = await self.services.find_experiences(self.task, limit=experience.MOST)
        near = experience.chosen(facts, experience.LEAST_FACT_SIMILARITY)
        self.facts = [fact["text"] for fact in near]
        self.reminders = [experience.reminder(hit) for hit in experience.chosen(hits)]
        self.recalled = [*experience.chosen(hits), *map(experience.as_used, near)]
        names = [used["id"] for used in self.recalled]
        await self.tell("recall", f"{len(names)} memories fit", used=names)

    async def work(self, tools: bool, steps: int) -> None:
        """Finds the answer: by code, by tools, or from what is known."""
        self.around = await ground.look(self.task, self.services) if tools else Surroundings()
        named = self.around.named
        allowed = await menu.allowed_tools(self.profile, named, self.services) if tools else ()
        names = {tool.name for tool in allowed}
        for one in named:
            self.steps.append(Step("look", observation=one.text, arguments={"path": one.path}))
            await self.tell("observe", f"{one.path} is a {one.kind}")
        known = await self._known()
        if prompting.asks_for_code(self.task) and "run_python" in names:
            await self._code(known)
        elif allowed:
            await self._act(known, allowed, steps)
        else:
            question = f"{prompting.opening(self.task, known, ())}"
            await self._say(question)

    async def _known(self) -> str:
        memories = [*self.facts, *self.reminders]
        text = prompting.known_text(self.around.named, memories)
        return await self.talk.fit(text, int(self.talk.window * prompting.KNOWN_SHARE))

    async def _code(self, known: str) -> None:
        began, spent = monotonic(), self.budget.spent
        opening = prompting.task_text(self.task, known)
        attempt = await coding.write_code(
            self.task, opening, self.talk, self.services, self._told, self._original()
        )
        self.checks = list(attempt.checks)
        said = "\n".join(f"{check.name}: {check.detail}" for check in attempt.failed)
        self._note(
            Step("check", "run_python", {"code": attempt.code}, said, not said), began, spent
        )
        await self.tell("answer", "explains the code")
        found = await self.talk.ask(
            "Now say in one or two sentences how the code works. No code.",
            max_tokens=coding.EXPLAIN_TOKENS,
            stop=["```"],
        )
        self.answer = f"```python\n{attempt.code.strip()}\n```\n\n{found.text.strip()}".strip()

    def _original(self) -> str:
        """The code a task wants corrected, where it names a Python file."""
        if not prompting.asks_to_correct(self.task):
            return ""
        texts = [one.text for one in self.around.named if one.path.endswith(".py")]
        return texts[0] if len(texts) == 1 else ""

    async def _told(self, stage: str, message: str) -> None:
        await self.tell(stage, message)

    def _note(self, made: Step, began: float, spent: int) -> None:
        values = {name: getattr(made, name) for name in Step.__slots__}
        values |= {"tokens": self.budget.spent - spent, "seconds": monotonic() - began}
        self.steps.append(Step(**values))

    async def _act(self, known: str, allowed: Sequence[ToolSpec], most: int) -> None:
        """Chooses and calls tools until the model has what it needs, or repeats itself."""
        shown = await menu.menu(
            self.task, self.around.named, allowed, self.services, computes=self.computes
        )
        by_name = {tool.name: tool for tool in shown}
        question = f"{prompting.opening(self.task, known, shown)}\n\n{prompting.first_question()}"
        must_act = self.computes and not self.facts
        seen: set[str] = set()
        repeated = False
        notes: dict[str, str] = {}
        for _ in range(most):
            names = list(by_name) if must_act else [*by_name, prompting.ANSWER]
            await self.tell("think", "chooses a tool")
            began, spent = monotonic(), self.budget.spent
            name = await step.choose(self.talk, question, names)
            if name == prompting.ANSWER:
                break
            call = await self._call(by_name[name], notes.pop(name, ""))
            if call.key in seen:
                del by_name[name]
                if repeated or not by_name:
                    break
                repeated = True
                question = prompting.repeated_question(name, self.task)
                continue
            seen.add(call.key)
            made = await self._observe(call)
            self._note(made, began, spent)
            must_act = must_act and not menu.settles(made.tool, made.ok, made.observation)
            if not made.ok:
                notes[name] = prompting.retry_note(name, made.observation)
            result = prompting.result_text(call.tool, made.ok, made.observation)
            question = f"{result}\n\n{prompting.next_question(self.task)}"
        if must_act:
            await self._say(prompting.unknown_question(self.task))
            return
        await self._recalculate()
        await self._say(prompting.answer_question(self.task))
        await self._compare()

    async def _recalculate(self) -> None:
        """Lets a calculated number be found a second way; where both differ, the model decides."""
        last = self.steps[-1] if self.steps else None
        if self.around.named or last is None or last.tool != "run_python" or not last.ok:
            return
        found = verify.numbers(last.observation)
        if len(found) != 1:
            return
        await self.tell("verify", "calculates it again")
        began, spent = monotonic(), self.budget.spent
        line = await self.talk.ask(
            prompting.again_question(self.task), max_tokens=step.LINE_TOKENS, stop=["\n"]
        )
        expression = step.bare(line.text, "evaluate_expression")
        outcome = await self.services.call_tool("evaluate_expression", {"expression": expression})
        values = verify.numbers(outcome.text.splitlines()[-1]) if outcome.ok else []
        if len(values) != 1:
            return
        held = verify.close(found[0], values[0])
        name = f"{expression} gives the same"
        self.checks.append(Check(name, held or None, outcome.text.strip()))
        arguments = {"expression": expression}
        self._note(
            Step("check", "evaluate_expression", arguments, outcome.text, held), began, spent
        )
        if not held:
            await self._decide(last, self.steps[-1])

    async def _decide(self, first: Step, second: Step) -> None:
        """Asks which of two results is right; the second becomes a result like any other."""
        await self.tell("reflect", "two ways gave two results")
        began, spent = monotonic(), self.budget.spent
        expression = second.arguments["expression"]
        ways = {
            "A": f"{first.tool} gave {first.observation}",
            "B": f"{expression} gave {second.observation}",
        }
        letter = await step.choose(
            self.talk, prompting.decide_question(self.task, ways), list(ways)
        )
        chosen = first if letter == "A" else second
        self._note(
            Step("tool", chosen.tool, chosen.arguments, chosen.observation, True), began, spent
        )

    async def _compare(self) -> None:
        """Has the answer state the number that was found; one more try where it does not."""
        results = [made for made in self.steps if made.kind == "tool" and made.ok]
        if not results or verify.agrees(self.answer, results[-1].observation) is not False:
            return
        await self.tell("reflect", "the answer does not state the result")
        stated = prompting.restate_question(self.task, results[-1].observation)
        await self._say(stated)

    async def _call(self, tool: ToolSpec, note: str) -> Call:
        await self.tell("act", f"uses {tool.name}")
        known = menu.clear_arguments(tool.name, self.around.named)
        choices = menu.options(tool.name, self.around)
        named = self.around.named
        only_files = all(one.kind == "file" for one in named)
        paths = [one.path for one in named] if only_files else None

        def question(argument: str) -> str:
            return note + prompting.argument_question(tool, argument, self.task, paths)

        # Greedy decoding would write the call that just failed again.
        heat = 0.6 if note else 0.0
        found = await step.fill(self.talk, tool, question, known, choices, temperature=heat)
        return Call(tool.name, found)

    async def _observe(self, call: Call) -> Step:
        outcome = await self.services.call_tool(call.tool, call.arguments)
        share = int(self.talk.window * prompting.RESULT_SHARE)
        text = await self.talk.fit(outcome.text, min(share, max(64, self.talk.room // 3)))
        await self.tell("observe", f"{call.tool} {'answered' if outcome.ok else 'failed'}")
        return Step("tool", call.tool, call.arguments, text, outcome.ok)

    async def _say(self, question: str) -> None:
        await self.tell("answer", "writes the answer")
        found = await self.talk.ask(question, max_tokens=ANSWER_TOKENS)
        self.answer = found.text.strip()

    async def finish(self) -> RunResult:
        """Verifies, remembers, and returns the result."""
        if not any(s.kind == "check" for s in self.steps):
            await self.tell("verify", "checks the answer")
            self.checks += await verify.check_arithmetic(self.services, self.answer)
        verified = verify.verdict(self.checks)
        await self.remember(self.answer)
        return RunResult(
            run_id=self.run_id,
            agent=self.profile.codename,
            answer=self.answer,
            verified=verified,
            checks=tuple(self.checks),
            steps=tuple(self.steps),
            experiences=tuple(self.recalled),
            tokens=self.budget.spent,
            seconds=self.budget.elapsed,
            model=self.model or "",
        )

    async def remember(self, answer: str) -> None:
        """Keeps how it went, after it was checked."""
        verified = verify.verdict(self.checks)
        kept = experience.experience(self.task, self.steps, self.checks, verified, answer)
        await self.tell("remember", f"keeps the run as {kept['outcome']}")
        await self.services.record_experience(
            **kept,
            agent=self.profile.codename,
            run_id=self.run_id,
            tokens=self.budget.spent,
            seconds=self.budget.elapsed,
        )


async def _default_model(services: Services) -> str | None:
    try:
        status = await services.read_json("inference", "inference://status")
    except RyzansteinError:
        return None
    return status.get("default_model")
