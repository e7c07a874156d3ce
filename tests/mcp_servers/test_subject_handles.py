"""Handles of what is under way, and notices of changes, are of use to their own subject only."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from mcp import MCPError
from mcp.client.subscriptions import Subscription
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp_types import ResourceListChangedNotification

from ryzanstein.mcp_servers import _running, _tasks
from ryzanstein.mcp_servers._shared import shared
from tests.mcp_servers.people import People
from tests.mcp_servers.tasks_client import Knows, ask, begin

pytestmark = pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")

NO_RUN = "run-0000000000000000"
TASK = {"codename": "SCRIBE", "task": "Write a long story about a safe.", "tools": False}


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has begun does not end by itself."""

    async def run_task(*_: Any, **__: Any) -> Any:
        await anyio.sleep_forever()

    monkeypatch.setattr("ryzanstein.agents.running.loop.run_task", run_task)
    monkeypatch.setenv("RYZANSTEIN_DEFAULT_MODEL", "tiny-bitnet")
    shared().reset()


async def refused(people: People, name: str, method: str, task: str, **given: Any) -> str:
    async with people.client(name, "orchestrator", extensions=[Knows()]) as client:
        with pytest.raises(MCPError) as caught:
            await ask(client, method, task, **given)
    return f"{caught.value.code} {caught.value}"


async def test_a_run_under_way_is_watched_and_stopped_by_whose_it_is(
    endless: None, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tasks, "GRACE_SECONDS", 0.01)
    async with people.client("ada", "orchestrator", extensions=[Knows()]) as ada:
        task = (await begin(ada, "run_agent", **TASK))["taskId"]
        detached = await people.answer("ada", "orchestrator", "run_agent", wait=False, **TASK)
        for handle in (task, detached["run_id"]):
            for name in ("bob", "eve", ""):
                for tool in ("get_run", "cancel_run"):
                    said = await people.fault(name, "orchestrator", tool, run_id=handle)
                    none = await people.fault(name, "orchestrator", tool, run_id=NO_RUN)
                    assert said.replace(handle, NO_RUN) == none
            for method, given in (
                ("tasks/get", {}),
                ("tasks/cancel", {}),
                ("tasks/update", {"inputResponses": {}}),
            ):
                said = await refused(people, "bob", method, handle, **given)
                assert said == await refused(people, "bob", method, NO_RUN, **given)
            uri = f"run://{handle}"
            code, said = await people.unread("bob", "orchestrator", uri)
            none = await people.unread("bob", "orchestrator", f"run://{NO_RUN}")
            assert (code, said.replace(handle, NO_RUN)) == none
            assert handle in await people.read("ada", "orchestrator", uri)
        assert (await ask(ada, "tasks/get", task))["status"] == "working"
        for handle in (task, detached["run_id"]):
            found = await people.answer("ada", "orchestrator", "cancel_run", run_id=handle)
            assert found["cancelled"]
        with anyio.fail_after(20):
            while (await ask(ada, "tasks/get", task))["status"] == "working":
                await anyio.sleep(0.02)


async def test_so_many_runs_of_a_subject_are_under_way_and_no_more(
    endless: None, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_running, "MOST_RUNS", 2)
    runs = [await people.answer("ada", "orchestrator", "run_agent", wait=False, **TASK)]
    runs.append(await people.answer("ada", "orchestrator", "run_agent", wait=False, **TASK))
    said = await people.fault("ada", "orchestrator", "run_agent", wait=False, **TASK)
    assert said.startswith("INVALID_REQUEST: 2 runs are under way already.")
    other = await people.answer("bob", "orchestrator", "run_agent", wait=False, **TASK)
    for name, run in (("ada", runs[0]), ("ada", runs[1]), ("bob", other)):
        await people.answer(name, "orchestrator", "cancel_run", run_id=run["run_id"])
        await people.answer(name, "orchestrator", "get_run", run_id=run["run_id"], wait=20)
    last = await people.answer("ada", "orchestrator", "run_agent", wait=False, **TASK)
    await people.answer("ada", "orchestrator", "cancel_run", run_id=last["run_id"])
    await people.answer("ada", "orchestrator", "get_run", run_id=last["run_id"], wait=20)


async def first(stream: Subscription) -> Any:
    with anyio.fail_after(10):
        async for event in stream:
            return event


async def test_notices_of_what_changes_reach_whose_it_is(people: People) -> None:
    kept = await people.answer("ada", "memory", "remember", text="The safe is green.")
    uri = f"memory://{kept['id']}"
    wanted = {"resources_list_changed": True, "resource_subscriptions": [uri]}
    async with (
        people.client("ada", "memory") as ada,
        people.client("bob", "memory") as bob,
        bob.listen(**wanted) as bobs,
        ada.listen(**wanted) as adas,
    ):
        await people.answer("ada", "memory", "forget", id=kept["id"])
        assert await first(adas) in (ResourceUpdated(uri), ResourcesListChanged())
        with anyio.move_on_after(0.2) as waited:
            await first(bobs)
        assert waited.cancelled_caught
        await people.answer("bob", "memory", "remember", text="The safe is red.")
        assert await first(bobs) == ResourcesListChanged()


async def test_sessions_of_older_clients_hear_of_their_own_too(people: People) -> None:
    heard: dict[str, int] = {"ada": 0, "bob": 0}

    def listener(name: str) -> Any:
        async def hear(message: Any) -> None:
            heard[name] += isinstance(message, ResourceListChangedNotification)

        return hear

    async with (
        people.client("ada", "memory", mode="legacy", message_handler=listener("ada")) as ada,
        people.client("bob", "memory", mode="legacy", message_handler=listener("bob")),
    ):
        with anyio.fail_after(10):
            while not heard["ada"]:
                await ada.call_tool("remember", {"text": "The safe is blue."})
                await anyio.sleep(0.02)
        assert heard["bob"] == 0
