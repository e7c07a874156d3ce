"""The loop over real tools and memory, with a scripted model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.routing.route import Router
from ryzanstein.agents.running.loop import RunResult, run_task
from ryzanstein.errors import AgentNotFound, InferenceError, InvalidRequest, StorageError
from ryzanstein.events import Event
from ryzanstein.registry import Limits, Registry
from tests.agents.scripted import Ask, Scripted

LISTED = "Describe what is here.\n1. Calculate 3 * 4\n2. Calculate 5 * 6"


class Loop:
    """Runs tasks with a scripted model."""

    def __init__(self, declared: Registry) -> None:
        self.declared = declared
        self.states: list[dict[str, Any]] = []
        self.events: list[Event] = []

    async def __call__(
        self, task: str, model: Scripted, *, agent: str | None = "OMNISCIENT", **options: Any
    ) -> RunResult:
        async def keep(state: dict[str, Any]) -> None:
            self.states.append(json.loads(json.dumps(state)))

        async def hear(event: Event) -> None:
            self.events.append(event)

        given: dict[str, Any] = {"checkpoint": keep, "on_event": hear, **options}
        async with Services(self.declared, servers={"inference": model.server}) as services:
            return await run_task(
                task,
                services=services,
                registry=self.declared,
                agent=agent,
                model="scripted",
                **given,
            )


@pytest.fixture
def loop(place: Path, declared: Registry) -> Loop:
    return Loop(declared)


def calculates(ask: Ask) -> str:
    """A model that calculates each part with the tool for it and then answers."""
    if ask.choices:
        if "Result of" in ask.text and "answer" in ask.choices:
            return "answer"
        return "evaluate_expression" if "evaluate_expression" in ask.choices else ask.choices[0]
    if "as one expression" in ask.text:
        return "3 * 4" if "3 * 4" in ask.text else "5 * 6"
    return "12 is the first, 30 the second."


async def test_a_task_of_several_parts_is_worked_on_part_by_part(loop: Loop) -> None:
    model = Scripted(calculates)
    result = await loop(LISTED, model)
    done = [(made.tool, made.observation.strip()) for made in result.steps]
    assert [tool for tool, _ in done] == ["evaluate_expression"] * 2
    assert "12" in done[0][1] and "30" in done[1][1]
    assert result.answer == "12 is the first, 30 the second."
    assert "part of the task: Calculate 5 * 6" in "".join(ask.text for ask in model.asks)
    assert "plan" in {event.stage for event in loop.events}


async def test_a_run_goes_on_behind_every_finished_step_and_does_none_twice(loop: Loop) -> None:
    whole = Scripted(calculates)
    first = await loop(LISTED, whole)
    states = list(loop.states)
    assert len(states) >= 4
    asked = [ask.text for ask in whole.asks]
    for state in states:
        again = Scripted(calculates)
        result = await loop(LISTED, again, resume=state, run_id=first.run_id, agent=None)
        assert [(one.tool, one.observation) for one in result.steps] == [
            (one.tool, one.observation) for one in first.steps
        ]
        assert result.answer == first.answer and result.agent == first.agent
        assert [ask.text for ask in again.asks] == asked[len(asked) - len(again.asks) :]
        assert result.tokens == first.tokens
    assert len(again.asks) == 1  # only the answer was left


async def test_a_call_that_changes_something_is_not_made_twice(loop: Loop, place: Path) -> None:
    def writes(ask: Ask) -> str:
        if ask.choices:
            return "write_file" if "write_file" in ask.choices else ask.choices[0]
        return "hello" if ask.prefix else "It is written."

    task, file = "Write the word hello into the file out.txt", place / "out.txt"
    first = await loop(task, Scripted(writes))
    assert file.read_text().strip() == "hello"
    under_way = [one for one in loop.states if one["acting"] and one["acting"]["pending"]]
    assert under_way[0]["acting"]["pending"]["tool"] == "write_file"
    file.write_text("changed by others meanwhile")
    again = await loop(task, Scripted(writes), resume=under_way[0], run_id=first.run_id, agent=None)
    assert file.read_text() == "changed by others meanwhile"
    assert "write_file was interrupted" in again.failures[0]
    assert "may have been done" in again.steps[0].observation and not again.steps[0].ok


async def test_what_the_task_allows_is_allowed_to_a_resumed_run(loop: Loop, place: Path) -> None:
    def writes(ask: Ask) -> str:
        if ask.choices:
            return "write_file" if "write_file" in ask.choices else ask.choices[0]
        return "new" if ask.prefix else "It is written."

    task, file = "Write the word new into the file there.txt", place / "there.txt"
    file.write_text("old")
    first = await loop(task, Scripted(writes))
    assert file.read_text().strip() == "new"
    file.write_text("old")
    looked = next(one for one in loop.states if one["stage"] == "looked")
    await loop(task, Scripted(writes), resume=looked, run_id=first.run_id, agent=None)
    assert file.read_text().strip() == "new"


@pytest.mark.parametrize("broken", [{}, {"version": 99, "agent": "APEX"}, {"version": 1}])
async def test_a_state_that_cannot_be_read_is_refused(loop: Loop, broken: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        await loop("Say hello", Scripted(calculates), resume=broken)


async def test_a_state_that_cannot_be_kept_ends_nothing_and_is_told(loop: Loop) -> None:
    async def full(state: dict[str, Any]) -> None:
        raise StorageError("The disk is full.")

    result = await loop("Calculate 3 * 4", Scripted(calculates), checkpoint=full)
    assert "12" in result.answer
    assert result.failures == ("The state of the run could not be kept: The disk is full.",)


async def test_a_model_that_does_the_same_again_is_stopped(loop: Loop, place: Path) -> None:
    (place / "a.txt").write_text("one\n")

    def again(ask: Ask) -> str:
        if ask.choices:
            return "list_files" if "list_files" in ask.choices else ask.choices[0]
        return "*" if "Write the" in ask.text else "There is a.txt."

    limits = Limits(steps=50)
    result = await loop("Describe this workspace of mine", Scripted(again), limits=limits)
    keys = [(made.tool, json.dumps(dict(made.arguments))) for made in result.steps]
    assert len(keys) == len(set(keys)) <= 4
    assert result.answer == "There is a.txt."


async def test_a_choice_that_was_not_offered_ends_the_use_of_tools(loop: Loop) -> None:
    model = Scripted(lambda ask: "format_disk" if ask.choices else "It is done.")
    result = await loop("Describe this workspace of mine", model)
    assert not [made for made in result.steps if made.kind == "tool"]
    assert "'format_disk', which is no tool" in result.failures[0]


def silent(after: Callable[[Ask], str]) -> Callable[[Ask], str]:
    """A model that uses tools, and says nothing where it should answer."""
    return lambda ask: after(ask) if ask.choices or "as one expression" in ask.text else " \n"


async def test_where_the_model_says_nothing_what_was_found_is_the_answer(loop: Loop) -> None:
    result = await loop("Calculate 3 * 4", Scripted(silent(calculates)))
    assert "evaluate_expression: 12" in result.answer
    assert "The model answered with nothing." in result.failures


async def test_an_answer_that_repeats_the_question_is_asked_for_once_more(loop: Loop) -> None:
    replies = iter(["The task was: Calculate 3 * 4\nIf the result says so, reply: answer.", "12"])

    def echoes(ask: Ask) -> str:
        return calculates(ask) if ask.choices or "as one expression" in ask.text else next(replies)

    result = await loop("Calculate 3 * 4", Scripted(echoes))
    assert result.answer == "12"
    assert "The model answered with the question." in result.failures


async def test_where_nothing_was_found_either_the_run_fails_and_is_kept_so(loop: Loop) -> None:
    with pytest.raises(InferenceError, match="answered with nothing"):
        await loop("Say hello", Scripted(silent(calculates)), tools=False)
    async with Services(loop.declared) as services:
        kept = await services.find_experiences("Say hello")
    assert [one["outcome"] for one in kept] == ["failed"]


async def test_a_model_that_talks_for_ever_is_cut_and_says_so(loop: Loop) -> None:
    model = Scripted(lambda ask: ask.choices[0] if ask.choices else "I will help you now. " * 999)
    result = await loop("Say hello", model, tools=False)
    assert len(result.answer) < 200
    assert "times more" in result.answer


async def test_an_answer_in_another_language_is_asked_for_again(loop: Loop) -> None:
    said = iter(["这是您要的答案，请查看一下这个文件。", "The harbour has six berths."])
    model = Scripted(lambda ask: next(said))
    result = await loop("How are the berths of the harbour?", model, tools=False)
    assert result.answer == "The harbour has six berths."
    assert result.verified is None
    assert "Chinese" in result.failures[0]
    assert model.asks[1].temperature > 0


async def test_an_answer_that_stays_in_another_language_is_a_failed_check(loop: Loop) -> None:
    model = Scripted(lambda ask: "这是您要的答案，请查看一下这个文件。")
    result = await loop("How are the berths of the harbour?", model, tools=False)
    assert result.verified is False
    assert result.checks[0].name == "the answer is in the language of the task"


@pytest.mark.parametrize(
    ("window", "words"), [(1024, 5), (1024, 100), (1500, 60), (1500, 100), (4096, 60)]
)
async def test_no_request_is_ever_longer_than_the_window(
    loop: Loop, place: Path, window: int, words: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RYZANSTEIN_CONTEXT_TOKENS", str(window))
    for name in ("one.txt", "two.txt", "three.txt"):
        (place / name).write_text("".join(f"line {at} of {name} is long\n" for at in range(500)))
    async with Services(loop.declared) as services:
        for at in range(3):
            await services.remember(f"The files one.txt and two.txt hold lines, fact {at}. " * 20)
    filler = "word " * (window * 4 * words // 100 * 35 // 100 // 5)
    numbers = iter(range(1000))

    def reads(ask: Ask) -> str:
        if ask.choices:
            return "read_file" if "read_file" in ask.choices else ask.choices[0]
        if ask.prefix:
            return f"print('x' * 5000, {next(numbers)})"
        return f"long {next(numbers)} " + "answer " * 400

    model = Scripted(reads)
    task = f"What do one.txt, two.txt and three.txt say about berths? {filler}"
    result = await loop(task, model, limits=Limits(steps=30, tokens=20_000))
    assert result.answer
    assert all(ask.prompt_tokens + ask.max_tokens <= window for ask in model.asks)
    assert all(ask.max_tokens > 0 for ask in model.asks)


async def test_a_window_that_no_agent_can_work_in_is_refused(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RYZANSTEIN_CONTEXT_TOKENS", "256")
    with pytest.raises(InvalidRequest, match="needs a window of 1024 tokens"):
        await loop("Say hello", Scripted(calculates))


async def test_a_model_sees_at_most_eight_tools_of_all(loop: Loop) -> None:
    every = loop.declared.agent("OMNISCIENT").model_copy(
        update={"tools": ("files", "git", "database", "text", "mathematics", "code", "memory")}
    )
    loop.declared = loop.declared.model_copy(update={"agents": (every,)})
    model = Scripted(lambda ask: "answer" if "answer" in ask.choices else "It is so.")
    await loop("Describe this workspace of mine", model)
    offered = [ask.choices for ask in model.asks if ask.choices]
    assert offered and all(2 <= len(choices) <= 9 for choices in offered)
    assert not {"delete_file", "git_restore", "execute_sql"} & set(offered[0])


@pytest.mark.parametrize("allows", [True, False, None])
async def test_what_would_be_destroyed_is_asked_about(
    loop: Loop, place: Path, allows: bool | None
) -> None:
    (place / "notes.txt").write_text("precious")
    asked: list[str] = []

    async def approve(message: str) -> bool | None:
        asked.append(message)
        return allows

    def writes(ask: Ask) -> str:
        if ask.choices:
            return "write_file" if "write_file" in ask.choices else ask.choices[0]
        if ask.prefix:
            return "gone"
        return "notes.txt" if "one line" in ask.text else "It is written."

    task = "Write a poem into a new file."
    result = await loop(task, Scripted(writes), agent="SCRIBE", approve=approve)
    assert len(asked) >= 1 and "notes.txt" in asked[0]
    assert (place / "notes.txt").read_text().strip() == ("gone" if allows else "precious")
    assert bool(result.failures) is not allows


async def test_a_task_that_names_the_file_to_change_has_allowed_it(loop: Loop, place: Path) -> None:
    (place / "notes.txt").write_text("old")

    def writes(ask: Ask) -> str:
        if ask.choices:
            return "write_file" if "write_file" in ask.choices else "answer"
        return "new" if ask.prefix else "It is written."

    await loop("Write 'new' into notes.txt.", Scripted(writes), agent="SCRIBE")
    assert (place / "notes.txt").read_text().strip() == "new"


async def test_how_a_run_went_is_told_to_what_it_recalled(loop: Loop) -> None:
    async with Services(loop.declared) as services:
        kept = await services.remember("The answer to what seven times six makes is 42.")

        def answers(right: bool) -> Scripted:
            return Scripted(lambda ask: f"7 * 6 = {42 if right else 43}")

        task = "What does seven times six make, as told?"
        before = await services.call("memory", "rate_experience", {"id": kept["id"], "rating": 0.5})
        result = await loop(task, answers(right=True), tools=False)
        assert result.verified is True and result.experiences[0]["id"] == kept["id"]
        praised = (await services.recall(task))[0]
        await loop(task, answers(right=False), tools=False)
        blamed = (await services.recall(task))[0]
    assert praised["importance"] > before["importance"] > 0
    assert blamed["importance"] < praised["importance"]


async def test_a_task_that_no_agent_fits_ends_with_the_nearest_ones(
    loop: Loop, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = router.route

    def nobody(task: str, top_k: int = 5, files: tuple[str, ...] = ()) -> Any:
        from dataclasses import replace

        return replace(route(task, top_k, files), fits=False)

    monkeypatch.setattr(router, "route", nobody)
    task = "Prove that the sum of two even numbers is even"
    with pytest.raises(AgentNotFound, match="nearest are AXIOM") as caught:
        await loop(task, Scripted(calculates), agent=None, router=router)
    assert "AXIOM" in caught.value.hint
    named = await loop(task, Scripted(lambda ask: "It is even."), agent="AXIOM", tools=False)
    assert named.answer == "It is even."


async def test_an_answer_that_there_is_no_time_to_check_is_given_all_the_same(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def out_of_time(*_: object) -> list[object]:
        raise TimeoutError  # as the run's own limit raises it

    monkeypatch.setattr("ryzanstein.agents.running.loop.verify", out_of_time)
    result = await loop("Say hello", Scripted(lambda ask: "Hello."), tools=False)
    assert result.answer == "Hello."
    assert result.failures == ("No time was left to check the answer.",)


async def test_an_order_to_remember_is_carried_out_in_the_users_words(loop: Loop) -> None:
    model = Scripted(lambda ask: ask.choices[0] if ask.choices else "It is kept.")
    result = await loop("Remember that my locker code is 4417.", model)
    assert [(made.tool, dict(made.arguments)) for made in result.steps] == [
        ("remember", {"text": "My locker code is 4417."})
    ]
    async with Services(loop.declared) as services:
        assert "4417" in (await services.recall("locker code"))[0]["text"]
