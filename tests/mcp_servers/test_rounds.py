"""A run asks the client's own model, in both eras of the protocol."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client.session import ClientRequestContext
from mcp.server.mcpserver import Context
from mcp_types import (
    INVALID_PARAMS,
    CallToolResult,
    ClientCapabilities,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitationCapability,
    ElicitResult,
    ErrorData,
    TextContent,
    UrlElicitationCapability,
)

from ryzanstein.errors import ERROR_META
from ryzanstein.mcp_servers import _rounds, _running
from ryzanstein.mcp_servers._asking import approver
from ryzanstein.mcp_servers._factory import Reply, make_server
from ryzanstein.mcp_servers._orchestrator import TASKS, mcp
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.registry import Resilience, ServerSpec, load_registry
from ryzanstein.subject import Subject, acting
from tests.mcp_servers.tasks_client import Knows, ask, begin, until

TASK = "Which colour does the word green name?"


@pytest.fixture
def client_only() -> Iterator[None]:
    """A registry whose only backend is the client's own model."""
    shared().reset(keep=("engine",))
    declared = load_registry(user=False)
    backends = tuple(one for one in declared.backends if one.kind == "sampling")
    changes = {"backends": backends, "resilience": Resilience(first_wait=0.01, jitter=0)}
    shared().once("registry", lambda: declared.model_copy(update=changes))
    yield
    shared().reset(keep=("engine",))


class Said(Reply):
    """What was answered."""

    found: list[bool | None]


class Model:
    """The client's model."""

    def __init__(self, answer: str = "It is green.") -> None:
        self.answer = answer
        self.asked: list[CreateMessageRequestParams] = []
        self.pause = 0.0

    async def __call__(
        self, context: ClientRequestContext, params: CreateMessageRequestParams
    ) -> CreateMessageResult:
        self.asked.append(params)
        await anyio.sleep(self.pause)
        content = TextContent(type="text", text=self.answer)
        return CreateMessageResult(role="assistant", content=content, model="theirs")


async def call(client: Client, **arguments: Any) -> CallToolResult:
    given = {"task": TASK, "codename": "SCRIBE", "tools": False, **arguments}
    return await client.call_tool("run_agent", given)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_clients_model_answers(client_only: None, mode: str) -> None:
    model = Model()
    async with Client(mcp, mode=mode, sampling_callback=model) as client:
        result = await call(client)
    assert not result.is_error, result.content
    found = result.structured_content or {}
    assert found["answer"] == "It is green."
    assert found["model"] == "theirs"
    assert TASK in str(model.asked[0].messages[-1].content)
    assert model.asked[0].system_prompt
    assert shared().runs.get(found["run_id"]).status == "done"


async def test_without_a_model_of_the_client_the_run_says_that_nobody_answers(
    client_only: None,
) -> None:
    async with Client(mcp) as client:
        result = await call(client)
    error = (result.meta or {})[ERROR_META]
    assert error["code"] == "SERVER_UNAVAILABLE"
    assert "backend" in error["message"]


async def test_a_client_that_is_asked_too_often_ends_the_run_with_a_reason(
    client_only: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_rounds, "MOST_QUESTIONS", 0)
    async with Client(mcp, sampling_callback=Model()) as client:
        result = await call(client)
    assert "asked 0 times in one call" in str(result.content)


async def test_a_user_who_says_no_is_asked_once(client_only: None) -> None:
    asked = []

    async def says_no(context: ClientRequestContext, params: CreateMessageRequestParams) -> Any:
        asked.append(params)
        return ErrorData(code=-1, message="User rejected sampling request")

    for count in (1, 2, 3, 4):  # no circuit opens: another client may say yes
        async with Client(mcp, mode="legacy", sampling_callback=says_no) as client:
            result = await call(client)
        assert len(asked) == count
        assert "did not allow" in str(result.content)
    async with Client(mcp, mode="legacy", sampling_callback=Model()) as client:
        assert not (await call(client)).is_error


async def test_a_client_that_cannot_be_asked_any_more_was_not_asked(
    client_only: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_rounds, "MOST_QUESTIONS", 0)
    can = ClientCapabilities(elicitation=ElicitationCapability())
    rounds = _rounds.Rounds(SimpleNamespace(client_capabilities=can))
    ask = approver(rounds)
    assert ask is not None and await ask("May I?") is None


async def test_a_client_that_goes_away_between_rounds_leaves_a_row_that_says_why(
    client_only: None,
) -> None:
    async with Client(mcp, sampling_callback=Model()) as client:
        given = {"task": TASK, "codename": "SCRIBE", "tools": False, "max_seconds": 1.0}
        first = await client.session.call_tool("run_agent", given, allow_input_required=True)
        assert first.result_type == "input_required"
        with anyio.fail_after(20):
            while (run := shared().runs.list(limit=1)[0]).status == "running":
                await anyio.sleep(0.05)
        assert run.status == "failed"
        assert "1 seconds" in run.result["error"]["message"]
        late = await client.call_tool("run_agent", given, request_state=first.request_state)
        assert late.is_error


async def test_a_state_that_was_made_up_leads_nowhere(client_only: None) -> None:
    async with Client(mcp, sampling_callback=Model()) as client:
        with pytest.raises(MCPError):
            await client.call_tool(
                "run_agent", {"codename": "SCRIBE", "task": TASK}, request_state="made-up"
            )


async def test_a_run_goes_on_without_a_memory_that_is_gone(client_only: None) -> None:
    registry = shared().registry
    gone = ServerSpec(name="memory", transport="http", url="http://127.0.0.1:9/mcp")
    others = tuple(one for one in registry.servers if one.name != "memory")
    shared().reset(keep=("engine",))
    shared().once("registry", lambda: registry.model_copy(update={"servers": (*others, gone)}))
    async with Client(mcp, sampling_callback=Model()) as client:
        result = await client.call_tool("run_task", {"task": TASK, "tools": False})
    found = result.structured_content or {}
    assert found["answer"] == "It is green."
    assert any("memory" in reason for reason in found["failures"])
    reasons = [
        one["message"]
        for one in shared().runs.get(found["run_id"]).result["events"]
        if one["stage"] == "failure"
    ]
    assert any(reason.startswith("Routed without experience") for reason in reasons)


async def _never(context: Any, params: Any) -> Any:
    raise AssertionError("a task is answered by tasks/update")


async def _answered(client: Client, task: str) -> dict[str, Any]:
    """Answers what a task asks the client's model until the task ends."""
    said = {"role": "assistant", "content": {"type": "text", "text": "Green."}, "model": "theirs"}
    while True:
        found = await until(client, task, "input_required")
        if found["status"] != "input_required":
            return found
        assert all(
            one["method"] == "sampling/createMessage" for one in found["inputRequests"].values()
        )
        await ask(
            client, "tasks/update", task, inputResponses=dict.fromkeys(found["inputRequests"], said)
        )


async def test_a_task_asks_the_clients_model_and_goes_on_behind_its_server(
    client_only: None,
) -> None:
    given = {"task": TASK, "codename": "SCRIBE", "tools": False}
    async with Client(mcp, sampling_callback=_never, extensions=[Knows()]) as client:
        made = await begin(client, "run_agent", **given)
        task = made["taskId"]
        assert (await until(client, task, "input_required"))["status"] == "input_required"
        assert shared().runs.get(task).status == "running"
        await _running.hand_back()
        assert shared().runs.get(task).status == "interrupted"
        TASKS._tasks.clear()  # as in another process
        assert (await ask(client, "tasks/get", task))["status"] == "working"
        done = await _answered(client, task)
        assert done["status"] == "completed"
        assert done["result"]["structuredContent"]["answer"] == "Green."
        assert done["result"]["structuredContent"]["model"] == "theirs"
        assert shared().runs.get(task).status == "done"


async def test_a_task_that_asks_is_cancelled_with_its_run(client_only: None) -> None:
    async with Client(mcp, sampling_callback=_never, extensions=[Knows()]) as client:
        given = {"task": TASK, "codename": "SCRIBE", "tools": False}
        task = (await begin(client, "run_agent", **given))["taskId"]
        await until(client, task, "input_required")
        await ask(client, "tasks/cancel", task)
        assert (await until(client, task))["status"] == "cancelled"
        with anyio.fail_after(20):
            while shared().runs.get(task).status == "running":
                await anyio.sleep(0.02)
        assert shared().runs.get(task).status == "cancelled"
        assert not _rounds._PARKED


async def test_what_no_model_said_is_no_answer(client_only: None) -> None:
    async with Client(mcp, sampling_callback=_never, extensions=[Knows()]) as client:
        given = {"task": TASK, "codename": "SCRIBE", "tools": False}
        task = (await begin(client, "run_agent", **given))["taskId"]
        with anyio.fail_after(30):
            while True:
                found = await until(client, task, "input_required")
                if found["status"] != "input_required":
                    break
                said = {name: {"action": "accept"} for name in found["inputRequests"]}
                await ask(client, "tasks/update", task, inputResponses=said)
        assert found["result"]["isError"]
        assert "something else than a message" in str(found["result"])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_overwritten_file_is_asked_about_in_one_sentence(mode: str) -> None:
    asked: list[str] = []

    async def says(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"approve": len(asked) == 1})

    async def work(client: Any) -> list[bool | None]:
        question = approver(client)
        assert question is not None
        return [await question("It would overwrite a.txt.") for _ in range(3)]

    server = make_server("trial", "Trial", "For tests.")

    @server.tool()
    async def overwrite(context: Context[Any, Any]) -> Any:
        """Ask three times."""
        found = await _rounds.in_rounds(context, work)
        return Said(found=found) if isinstance(found, list) else found

    async with Client(server, mode=mode, elicitation_callback=says) as client:
        result = await client.call_tool("overwrite", {})
    assert result.structured_content == {"found": [True, False, False]}
    assert asked == ["It would overwrite a.txt."] * 3


async def test_an_answer_that_fits_no_form_is_no_yes() -> None:
    async def says(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"approve": "perhaps"})

    server = make_server("trial", "Trial", "For tests.")

    @server.tool()
    async def overwrite(context: Context[Any, Any]) -> Said:
        """Ask."""
        question = approver(context)
        assert question is not None
        return Said(found=[await question("It would overwrite a.txt.")])

    async with Client(server, mode="legacy", elicitation_callback=says) as client:
        result = await client.call_tool("overwrite", {})
    assert result.structured_content == {"found": [False]}


def test_a_client_that_shows_links_only_is_asked_nothing() -> None:
    can = ClientCapabilities(elicitation=ElicitationCapability(url=UrlElicitationCapability()))
    assert approver(SimpleNamespace(client_capabilities=can)) is None


async def test_only_the_state_that_was_given_goes_on_with_a_call(
    client_only: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"task": TASK, "codename": "SCRIBE", "tools": False}
    said = CreateMessageResult(
        role="assistant", content=TextContent(type="text", text="Green."), model="theirs"
    )
    async with Client(mcp, sampling_callback=_never) as client:
        first = await client.session.call_tool("run_agent", given, allow_input_required=True)
        assert first.result_type == "input_required"
        state, answers = first.request_state, dict.fromkeys(first.input_requests, said)

        async def refused(one: Client, state: str, arguments: Any) -> None:
            with pytest.raises(MCPError) as error:
                await one.session.call_tool(
                    "run_agent", arguments, input_responses=answers, request_state=state
                )
            assert error.value.code == INVALID_PARAMS
            assert error.value.message == "Invalid or expired requestState"

        for tampered in (state[:-2] + "xx", state + "A", state.upper(), "v1." + "A" * 80, "\0"):
            await refused(client, tampered, given)
        await refused(client, state, {**given, "task": "Something else"})
        with acting(Subject("another", "another")):
            async with Client(mcp, sampling_callback=_never) as other:
                await refused(other, state, given)
        with monkeypatch.context() as later:
            in_an_hour = SimpleNamespace(time=lambda: time.time() + 3600)
            later.setattr("mcp.server.request_state.time", in_an_hour)
            await refused(client, state, given)
        while first.result_type == "input_required":
            first = await client.session.call_tool(
                "run_agent",
                given,
                input_responses=dict.fromkeys(first.input_requests, said),
                request_state=first.request_state,
                allow_input_required=True,
            )
        assert (first.structured_content or {})["answer"] == "Green."
