"""Change notices: streams of the 2026 revision, sessions of 2025 clients, and whose they are."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client.subscriptions import Subscription
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated, ServerEvent
from mcp_types import (
    ResourceListChangedNotification,
    ResourceUpdatedNotification,
)

from ryzanstein.errors import InvalidRequest
from ryzanstein.events import Event
from ryzanstein.mcp_servers import _notices
from ryzanstein.mcp_servers._notices import MOST_SUBSCRIPTIONS, Bus, Subscriber
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.subject import Subject, acting

Serve = Callable[..., Awaitable[str]]

pytestmark = pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")


class Heard:
    """What a 2025 client was told, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def __call__(self, message: Any) -> None:
        if isinstance(message, ResourceListChangedNotification):
            self.events.append("list")
        elif isinstance(message, ResourceUpdatedNotification):
            self.events.append(str(message.params.uri))

    async def until(self, event: str) -> None:
        with anyio.fail_after(10):
            while event not in self.events:
                await anyio.sleep(0.005)


async def of(stream: Subscription, wanted: ServerEvent) -> None:
    """Waits for an event of a stream."""
    with anyio.fail_after(10):
        async for event in stream:
            if event == wanted:
                return
    raise AssertionError("the stream ended")


async def kept(client: Client, text: str) -> str:
    result = await client.call_tool("remember", {"text": text})
    assert result.structured_content is not None
    return f"memory://{result.structured_content['id']}"


@pytest.mark.parametrize("over", ["memory", "http"])
async def test_a_stream_tells_of_the_list_and_of_what_was_asked_for(
    over: str, serving: Serve
) -> None:
    target = await reached(over, serving)
    async with Client(target) as client:
        uri = await kept(client, "The gate opens at nine.")
        other = await kept(client, "The gate closes at ten.")
        async with client.listen(resources_list_changed=True, resource_subscriptions=[uri]) as told:
            await client.call_tool("forget", {"id": other.removeprefix("memory://")})
            await of(told, ResourcesListChanged())
            await client.call_tool("forget", {"id": uri.removeprefix("memory://")})
            await of(told, ResourceUpdated(uri))


@pytest.mark.parametrize("over", ["memory", "http"])
async def test_a_session_of_2025_is_told_what_it_subscribed_to_and_of_the_list(
    over: str, serving: Serve
) -> None:
    target, heard = await reached(over, serving), Heard()
    async with Client(target, mode="legacy", message_handler=heard) as client:
        capabilities = client.server_capabilities
        assert capabilities.resources is not None
        assert capabilities.resources.subscribe and capabilities.resources.list_changed
        while not heard.events:  # its stream for what the server says unasked opens behind
            uri = await kept(client, "The lamp is on the left.")
            await anyio.sleep(0.02)
        await client.subscribe_resource(uri)
        await client.call_tool("forget", {"id": uri.removeprefix("memory://")})
        await heard.until(uri)
        await client.unsubscribe_resource(uri)
        heard.events.clear()
        await kept(client, "The lamp is on the right.")
        await heard.until("list")
    assert heard.events == ["list"]


async def reached(over: str, serving: Serve) -> Any:
    if over == "http":
        return f"{await serving()}/mcp/memory"
    return memory_server()


@pytest.fixture
def bus() -> Bus:
    return Bus("a server of a test")


@pytest.fixture
def ann() -> Iterator[Subject]:
    yield Subject("ann")


async def test_a_subject_hears_of_its_own_and_of_what_all_share(bus: Bus, ann: Subject) -> None:
    models = Bus("model")
    mine: list[ServerEvent] = []
    owners: list[ServerEvent] = []
    for one in (bus, models):
        one.subscribe(owners.append)
        with acting(ann):
            one.subscribe(mine.append)
    bus.tell(ResourceUpdated("run://run_1"))
    bus.tell(ResourcesListChanged())
    with acting(ann):
        bus.tell(ResourceUpdated("memory://mem_1"))
    of_all = ResourceUpdated("model://tiny-bitnet")
    models.tell(of_all)
    await asyncio.sleep(0)
    assert mine == [ResourceUpdated("memory://mem_1"), of_all]
    assert owners == [ResourceUpdated("run://run_1"), ResourcesListChanged(), of_all]


async def test_what_a_thread_says_is_heard_in_the_loop_of_the_listener(bus: Bus) -> None:
    heard: list[int] = []
    stop = bus.subscribe(lambda event: heard.append(threading.get_ident()))
    thread = threading.Thread(target=lambda: bus.tell(ResourcesListChanged()))
    thread.start()
    thread.join()
    await asyncio.sleep(0)
    assert heard == [threading.get_ident()]
    stop()
    bus.tell(ResourcesListChanged())
    await asyncio.sleep(0)
    assert len(heard) == 1


def test_a_listener_whose_loop_ended_is_forgotten(bus: Bus) -> None:
    async def listen() -> None:
        bus.subscribe(lambda event: None)

    asyncio.run(listen())
    bus.tell(ResourcesListChanged())
    assert not bus._ears


class Slow:
    """A session that takes one notice at a time, or none any more."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.sent: list[str] = []
        self.gate = asyncio.Event()
        self.fault = fault

    async def send_resource_updated(self, uri: str) -> None:
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        self.sent.append(uri)

    async def send_resource_list_changed(self) -> None:
        await self.send_resource_updated("list")


async def test_equal_notices_that_wait_are_one(bus: Bus) -> None:
    slow: Any = Slow()
    subscriber = Subscriber(bus, slow)
    subscriber.add("run://run_1")
    for _ in range(50):
        bus.tell(ResourceUpdated("run://run_1"))
        bus.tell(ResourceUpdated("run://run_2"))
        bus.tell(ResourcesListChanged())
        await asyncio.sleep(0)
    slow.gate.set()
    await asyncio.sleep(0.01)
    assert slow.sent == ["run://run_1", "list", "run://run_1"]


async def test_a_session_that_is_gone_is_told_no_more(bus: Bus) -> None:
    for fault in (anyio.ClosedResourceError(), RuntimeError("anything")):
        slow: Any = Slow(fault)
        slow.gate.set()
        Subscriber(bus, slow)
        bus.tell(ResourcesListChanged())
        await asyncio.sleep(0.01)
        assert not bus._ears


async def test_subscriptions_are_bounded(bus: Bus) -> None:
    session: Any = Slow()
    subscriber = Subscriber(bus, session)
    for number in range(MOST_SUBSCRIPTIONS):
        subscriber.add(f"run://run_{number}")
    with pytest.raises(InvalidRequest, match="at most"):
        subscriber.add("run://one_more")
    async with Client(memory_server(), mode="legacy") as client:
        with pytest.raises(MCPError) as caught:
            await client.subscribe_resource("memory://" + "x" * 3000)
    assert caught.value.code == -32602


async def test_a_closed_session_listens_no_longer() -> None:
    server = memory_server()
    before = len(server._notices._ears)
    async with Client(server, mode="legacy") as client:
        await client.list_resource_templates()
        assert len(server._notices._ears) == before + 1
    assert len(server._notices._ears) == before


async def test_streams_end_as_the_protocol_does_when_a_server_stops() -> None:
    server = memory_server()
    async with Client(server) as client, client.listen(resources_list_changed=True) as told:
        server.end_streams()
        with anyio.fail_after(10):
            assert [event async for event in told] == []


def memory_server() -> Any:
    return importlib.import_module("ryzanstein.mcp_servers.memory").mcp


async def test_calls_of_tools_tell_what_they_changed() -> None:
    told: dict[str, list[ServerEvent]] = {}
    with contextlib.ExitStack() as stack:
        for name in ("memory", "model", "inference", "analytics"):
            server = importlib.import_module(f"ryzanstein.mcp_servers.{name}").mcp
            stop = server._notices.subscribe(told.setdefault(name, []).append)
            stack.callback(stop)
        answer = {"id": "mem_2", "tags": ["a"]}
        _notices.announce("remember", {"text": "x", "corrects": "mem_1"}, answer)
        _notices.announce("load_model", {"name": "tiny-bitnet"}, {"seconds": 1})
        _notices.announce("recall", {"query": "x"}, {})
        await asyncio.sleep(0)
    assert told["memory"] == [
        ResourceUpdated("memory://mem_2"),
        ResourceUpdated("memory://mem_1"),
        ResourcesListChanged(),
    ]
    assert told["model"] == [ResourcesListChanged(), ResourceUpdated("model://tiny-bitnet")]
    assert told["inference"] == [ResourceUpdated("inference://status")]
    assert told["analytics"] == [ResourceUpdated("analytics://dashboard")]


async def test_a_failed_call_tells_nothing() -> None:
    server = memory_server()
    told: list[ServerEvent] = []
    stop = server._notices.subscribe(told.append)
    async with Client(server) as client:
        result = await client.call_tool("forget", {"id": ""})
        assert result.is_error
    stop()
    assert told == []


ANOTHER = """
import sys
from ryzanstein.memory import open_store
with open_store() as store:
    made = store.remember("Written by another process.")
    store.runs.save("count", id="run-other", status="done")
    print(made.id)
"""


async def test_what_another_process_changes_is_told_too(isolated_home: Path) -> None:
    kept_before = shared().store.remember("Written by this process.")
    shared().runs.save("count", id="run-other-2", status="running")
    orchestrator = importlib.import_module("ryzanstein.mcp_servers.orchestrator").mcp
    async with Client(memory_server()) as memory, Client(orchestrator) as runs:
        await memory.list_resources()
        async with (
            memory.listen(resources_list_changed=True) as listed,
            runs.listen(resource_subscriptions=["run://run-other"]) as told,
        ):
            done = await anyio.run_process([sys.executable, "-P", "-c", ANOTHER])
            await of(listed, ResourcesListChanged())
            await of(told, ResourceUpdated("run://run-other"))
        found = [str(one.uri) for one in (await memory.list_resources()).resources]
    assert f"memory://{done.stdout.decode().strip()}" in found
    assert f"memory://{kept_before.id}" in found


async def test_a_run_tells_of_its_stages_and_of_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(task: str, **given: Any) -> Any:
        await given["on_event"](Event("t", "s", "step", "thinks"))
        raise InvalidRequest("It cannot be done.")

    async def nothing(*_: object) -> None: ...

    monkeypatch.setattr("ryzanstein.agents.running.loop.run_task", work)
    monkeypatch.setattr("ryzanstein.mcp_servers._running._bring_model", nothing)
    server = importlib.import_module("ryzanstein.mcp_servers.orchestrator").mcp
    told: list[ServerEvent] = []
    stop = server._notices.subscribe(told.append)
    async with Client(server) as client:
        result = await client.call_tool("run_agent", {"codename": "APEX", "task": "x"})
    stop()
    (run,) = shared().runs.list()
    assert result.is_error and run.status == "failed"
    updated = ResourceUpdated(f"run://{run.id}")
    assert told[:2] == [updated, ResourcesListChanged()]
    assert told[-2:] == [updated, ResourcesListChanged()]
    assert len(told) >= 5
