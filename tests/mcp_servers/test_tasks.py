"""The Tasks extension, on a server of its own: every status, every refusal."""

from __future__ import annotations

from typing import Annotated, Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client.extension import NotificationBinding
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp_types import INVALID_PARAMS, MISSING_REQUIRED_CLIENT_CAPABILITY, Request
from pydantic import BaseModel

from ryzanstein.errors import InvalidRequest
from ryzanstein.mcp_servers import _background, _tasks
from ryzanstein.mcp_servers._factory import Reply, Server, make_server
from ryzanstein.mcp_servers._subject import Subject, acting
from ryzanstein.mcp_servers._tasks import IDENTIFIER, Tasks
from tests.mcp_servers.tasks_client import Knows, Loose, ask, begin, until

TOOLS = ("sleep", "fail", "break_protocol", "greet_user", "greet_first", "only_task")


class Said(Reply):
    """A text."""

    text: str

    def brief(self) -> str:
        return self.text


class Name(BaseModel):
    """A name."""

    name: str


class Stops:
    """What the sleeping tool did last."""

    ended = ""


def _ask_name(ctx: Context[Any, Any]) -> Elicit[Name]:
    return Elicit("Who are you?", Name)


def served() -> Server:
    server = make_server(
        "trial",
        "Trial",
        "For tests.",
        extensions=[Tasks(TOOLS, only=("only_task",), first=("greet_first",))],
    )

    @server.tool()
    async def sleep(seconds: float, context: Context[Any, Any]) -> Said:
        """Sleep."""
        await context.report_progress(1, 2, "half asleep")
        try:
            await anyio.sleep(seconds)
        except anyio.get_cancelled_exc_class():
            Stops.ended = "stopped"
            raise
        return Said(text=f"slept {seconds:g}")

    @server.tool()
    async def fail() -> Said:
        """Fail."""
        await anyio.sleep(0.1)
        raise InvalidRequest("That was wrong.", hint="Do it right.")

    @server.tool()
    async def break_protocol() -> Said:
        """Fail as a request does."""
        await anyio.sleep(0.1)
        raise MCPError(code=-32050, message="Out of order")

    @server.tool()
    async def greet_user(name: Annotated[Name, Resolve(_ask_name)]) -> Said:
        """Greet, asking for the name."""
        return Said(text=f"Hello, {name.name}!")

    @server.tool()
    async def greet_first(name: Annotated[Name, Resolve(_ask_name)]) -> Said:
        """Greet, asking for the name before it is a task."""
        await anyio.sleep(0.1)
        return Said(text=f"Hello, {name.name}!")

    @server.tool()
    async def only_task() -> Said:
        """Something that no request waits for."""
        return Said(text="done")

    @server.tool()
    async def greet(name: str = "you") -> Said:
        """Greet."""
        return Said(text=f"Hello, {name}!")

    return server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(_tasks, "GRACE_SECONDS", 0.02)
    return served()


async def _nobody(context: Any, params: Any) -> Any:
    raise AssertionError("the test answers through the task")


def client(server: Server, **options: Any) -> Client:
    return Client(server, extensions=[Knows()], **options)


async def test_a_long_call_is_a_task_that_completes_with_the_result(server: Server) -> None:
    async with client(server) as one:
        made = await begin(one, "sleep", seconds=0.3)
        assert made["resultType"] == "task" and made["status"] == "working"
        assert not {"result", "inputRequests", "requestState", "task", "ttl"} & set(made)
        assert isinstance(made["ttlMs"], int) and isinstance(made["pollIntervalMs"], int)
        working = await ask(one, "tasks/get", made["taskId"])
        assert (working["status"], working["statusMessage"]) == ("working", "half asleep")
        assert working["resultType"] == "complete" and "result" not in working
        done = await until(one, made["taskId"])
        assert done["status"] == "completed"
        assert done["result"]["structuredContent"] == {"text": "slept 0.3"}
        assert done["result"]["content"][0]["text"] == "slept 0.3"
        assert done["createdAt"] == made["createdAt"] < done["lastUpdatedAt"]
        again = await ask(one, "tasks/get", made["taskId"])
        assert again["result"] == done["result"]


async def test_a_short_call_and_bad_arguments_are_answered_at_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tasks, "GRACE_SECONDS", 30)
    async with client(server) as one:
        assert (await begin(one, "sleep", seconds=0))["structuredContent"] == {"text": "slept 0"}
        assert "seconds" in (await begin(one, "sleep", seconds="x"))["content"][0]["text"]
        assert (await begin(one, "greet"))["resultType"] == "complete"


async def test_an_error_of_the_tool_completes_and_one_of_the_protocol_fails(server: Server) -> None:
    async with client(server) as one:
        wrong = await until(one, (await begin(one, "fail"))["taskId"])
        assert wrong["status"] == "completed" and wrong["result"]["isError"]
        assert "That was wrong." in wrong["result"]["content"][0]["text"]
        broken = await until(one, (await begin(one, "break_protocol"))["taskId"])
        assert broken["status"] == "failed" and "result" not in broken
        assert broken["error"] == {"code": -32050, "message": "Out of order"}


async def test_a_cancelled_task_stops_what_it_does(server: Server) -> None:
    Stops.ended = ""
    async with client(server) as one:
        made = await begin(one, "sleep", seconds=60)
        acknowledged = await ask(one, "tasks/cancel", made["taskId"])
        assert acknowledged["resultType"] == "complete" and "taskId" not in acknowledged
        assert (await until(one, made["taskId"]))["status"] == "cancelled"
        assert Stops.ended == "stopped"
        await ask(one, "tasks/cancel", made["taskId"])  # once more changes nothing
        assert (await ask(one, "tasks/get", made["taskId"]))["status"] == "cancelled"


async def test_what_a_task_asks_is_answered_through_it(server: Server) -> None:
    async with client(server, elicitation_callback=_nobody) as one:
        made = await begin(one, "greet_user")
        asks = await until(one, made["taskId"], "input_required")
        assert asks["status"] == "input_required"
        ((name, request),) = asks["inputRequests"].items()
        assert request["method"] == "elicitation/create"
        assert request["params"]["message"] == "Who are you?"
        await ask(one, "tasks/update", made["taskId"], inputResponses={"else": {"a": 1}})
        with pytest.raises(MCPError, match="form"):
            await ask(one, "tasks/update", made["taskId"], inputResponses={name: 7})
        assert (await ask(one, "tasks/get", made["taskId"]))["status"] == "input_required"
        said = {name: {"action": "accept", "content": {"name": "Ada"}}}
        await ask(one, "tasks/update", made["taskId"], inputResponses=said)
        done = await until(one, made["taskId"])
        assert done["result"]["structuredContent"] == {"text": "Hello, Ada!"}
        await ask(one, "tasks/update", made["taskId"], inputResponses=said)


async def test_a_task_that_waits_for_an_answer_can_be_cancelled(server: Server) -> None:
    async with client(server, elicitation_callback=_nobody) as one:
        made = await begin(one, "greet_user")
        await until(one, made["taskId"], "input_required")
        await ask(one, "tasks/cancel", made["taskId"])
        assert (await until(one, made["taskId"]))["status"] == "cancelled"


async def test_what_a_tool_asks_first_is_asked_before_there_is_a_task(server: Server) -> None:
    async with client(server, elicitation_callback=_nobody) as one:
        first = await one.session.call_tool("greet_first", {}, allow_input_required=True)
        wire = first.model_dump(by_alias=True, exclude_none=True)
        assert wire["resultType"] == "input_required" and "taskId" not in wire
        (name,) = wire["inputRequests"]
        second = await one.session.call_tool(
            "greet_first",
            {},
            input_responses={name: {"action": "accept", "content": {"name": "Ada"}}},  # type: ignore[dict-item]
            request_state=first.request_state,
            allow_claimed=True,
        )
        made = second.model_dump(by_alias=True, mode="json", exclude_none=True)
        assert made["resultType"] == "task" and "requestState" not in made
        done = await until(one, made["taskId"])
        assert done["result"]["structuredContent"] == {"text": "Hello, Ada!"}


async def test_without_the_extension_there_are_no_tasks(server: Server) -> None:
    needed = {"requiredCapabilities": {"extensions": {IDENTIFIER: {}}}}
    async with Client(server) as plain:
        assert (await plain.call_tool("sleep", {"seconds": 0.1})).structured_content == {
            "text": "slept 0.1"
        }
        with pytest.raises(MCPError) as refused:
            await plain.call_tool("only_task", {})
        assert refused.value.code == MISSING_REQUIRED_CLIENT_CAPABILITY
        assert refused.value.error.data == needed
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            with pytest.raises(MCPError) as refused:
                await ask(plain, method, "task-1", inputResponses={})
            assert refused.value.code == MISSING_REQUIRED_CLIENT_CAPABILITY


async def test_an_older_client_has_neither_tasks_nor_their_methods(server: Server) -> None:
    async with client(server, mode="legacy") as old:
        slept = await old.call_tool("sleep", {"seconds": 0.1})
        assert slept.structured_content == {"text": "slept 0.1"}
        with pytest.raises(MCPError) as refused:
            await ask(old, "tasks/get", "task-1")
        assert refused.value.code == -32601


async def test_unknown_expired_and_foreign_tasks_read_the_same(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = set()
    async with client(server) as one:
        made = await begin(one, "sleep", seconds=0.05)
        await until(one, made["taskId"])
        with acting(Subject("another", "another")):
            async with client(server) as other:
                told.add(await _refused(other, made["taskId"]))
        told.add(await _refused(one, "task-none"))
        monkeypatch.setattr("ryzanstein.mcp_servers._task.Task.expired", True)
        told.add(await _refused(one, made["taskId"]))
        for name in ("", "x" * 4000, "../../etc"):
            with pytest.raises(MCPError):
                await ask(one, "tasks/get", name)
    assert told == {(INVALID_PARAMS, "There is no such task, or it has expired.")}


async def _refused(one: Client, task: str) -> tuple[int, str]:
    for method in ("tasks/update", "tasks/cancel"):
        with pytest.raises(MCPError):
            await ask(one, method, task, inputResponses={})
    with pytest.raises(MCPError) as refused:
        await ask(one, "tasks/get", task)
    return refused.value.code, refused.value.message


async def test_beyond_the_bound_calls_are_answered_without_tasks(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tasks, "MOST_TASKS", 1)
    async with client(server) as one:
        made = await begin(one, "sleep", seconds=60)
        plain = await begin(one, "sleep", seconds=0.1)
        assert plain["structuredContent"] == {"text": "slept 0.1"}
        await ask(one, "tasks/cancel", made["taskId"])


async def test_the_end_of_a_server_ends_its_tasks(server: Server) -> None:
    Stops.ended = ""
    async with client(server) as one:
        made = await begin(one, "sleep", seconds=60)
        await _background.end_all()
        assert (await ask(one, "tasks/get", made["taskId"]))["status"] == "cancelled"
    assert Stops.ended == "stopped"


class Hears(Knows):
    """Also takes what is told of tasks."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def notifications(self) -> list[NotificationBinding[Any]]:
        async def hear(params: Loose) -> None:
            self.told.append(params.model_dump(by_alias=True))

        return [NotificationBinding(method="notifications/tasks", params_type=Loose, handler=hear)]


async def test_a_listener_is_told_of_each_status_of_its_tasks(server: Server) -> None:
    hears = Hears()
    async with (
        Client(server, extensions=[hears], elicitation_callback=_nobody) as one,
        anyio.create_task_group() as group,
    ):
        made = await begin(one, "greet_user")
        asks = await until(one, made["taskId"], "input_required")
        other = await begin(one, "sleep", seconds=60)

        async def listen() -> None:
            names = [made["taskId"], "task-none"]
            await listened(one, names)

        group.start_soon(listen)
        await anyio.sleep(0.1)
        (name,) = asks["inputRequests"]
        said = {name: {"action": "accept", "content": {"name": "Ada"}}}
        await ask(one, "tasks/update", made["taskId"], inputResponses=said)
        await ask(one, "tasks/cancel", other["taskId"])
        with anyio.fail_after(10):
            while len(hears.told) < 2:
                await anyio.sleep(0.02)
        await until(one, other["taskId"])
        group.cancel_scope.cancel()
    assert [one["status"] for one in hears.told] == ["working", "completed"]
    assert {one["taskId"] for one in hears.told} == {made["taskId"]}
    assert hears.told[-1]["result"]["structuredContent"] == {"text": "Hello, Ada!"}
    assert all("io.modelcontextprotocol/subscriptionId" in one["_meta"] for one in hears.told)


async def test_who_may_not_listen_to_tasks_is_told_why(server: Server) -> None:
    async with Client(server) as plain:
        with pytest.raises(MCPError) as refused:
            await listened(plain, ["task-1"])
        assert refused.value.code == MISSING_REQUIRED_CLIENT_CAPABILITY
    async with client(server) as one:
        for names in ("task-1", [1], {"a": 1}):
            with pytest.raises(MCPError) as refused:
                await listened(one, names)
            assert refused.value.code == INVALID_PARAMS


async def listened(one: Client, names: Any) -> None:
    """Listens until it is cancelled."""
    request = Request[dict[str, Any], str](
        method="subscriptions/listen", params={"notifications": {"taskIds": names}}
    )
    await one.session.send_request(request, Loose)
