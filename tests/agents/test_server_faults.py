"""MCP servers that die, hang or are gone: reads are made again, writes never twice."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mcp import StdioServerParameters

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.trust import Caller
from ryzanstein.errors import ConnectionFailed, ServerUnavailable, TimedOut
from ryzanstein.resilience import Parties
from tests.agents.test_backends import QUICK

SCRIPT = Path(__file__).with_name("fault_server.py")


class Faulty(Services):
    """Services with one server that fails on demand, and the reasons they told."""

    def __init__(self, target: object | None = None, **policy: float) -> None:
        self.reasons: list[str] = []
        self.parties = Parties()
        child = StdioServerParameters(command=sys.executable, args=["-I", "-S", str(SCRIPT)])
        super().__init__(
            names=("memory", "tools"),
            servers={"memory": target or child, "tools": child},
            policy=QUICK.model_copy(update=policy),
            parties=self.parties,
        )
        self.on_failure = self._told

    async def _told(self, reason: str) -> None:
        self.reasons.append(reason)


async def test_a_read_is_made_again_when_the_server_dies_within_it(tmp_path: Path) -> None:
    async with Faulty() as services:
        before = await services.recall("nothing")
        fatal = tmp_path / "fatal"
        fatal.touch()
        after = await services.recall(str(fatal))
        assert before != after, "another process answers"
        assert "server:memory: The memory server went away" in services.reasons[0]
        assert {party.name: party.state for party in services.parties}["server:memory"] == "ok"


async def test_a_write_is_not_made_again_and_the_next_call_connects_anew(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    async with Faulty() as services:
        with pytest.raises(ConnectionFailed, match="may have been done"):
            await services.remember(str(journal))
        assert journal.read_text() == "called\n"
        assert await services.recall("nothing")


async def test_a_tools_server_that_dies_within_a_call_is_an_outcome_to_go_on_with() -> None:
    async with Faulty() as services:
        outcome = await services.call_tool("write_file", {"path": "a", "text": "b"})
        assert not outcome.ok
        assert "may have been done" in outcome.text
        assert services.reasons == [f"write_file: {outcome.text}"]


async def test_a_server_that_hangs_is_given_up_and_replaced() -> None:
    async with Faulty(call_seconds=0.8) as services:
        started = time.monotonic()
        with pytest.raises(TimedOut, match=r"server:memory gave no sign of life for 0\.8 s"):
            await services.find_experiences("anything")
        assert time.monotonic() - started < 30, "it hangs for ever"
        assert await services.recall("nothing")


async def test_a_server_that_always_dies_is_left_alone(tmp_path: Path) -> None:
    async with Faulty(rest_seconds=60) as services:
        for _ in range(3):
            with pytest.raises(ConnectionFailed):
                await services.remember(str(tmp_path / "journal"))
        with pytest.raises(ServerUnavailable, match=r"server:memory rests for"):
            await services.recall("nothing")


async def test_a_run_hears_of_its_own_failures_only(tmp_path: Path) -> None:
    async with Faulty() as services:
        heard: list[str] = []

        async def told(reason: str) -> None:
            heard.append(reason)

        mine = services.for_run(Caller(run_id="run-1"), on_failure=told)
        fatal = tmp_path / "fatal"
        fatal.touch()
        assert await mine.recall(str(fatal))
        assert len(heard) == 1
        assert not services.reasons


async def test_a_server_at_a_url_that_is_restarted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-I", "-S", str(SCRIPT), str(port)]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        async with Faulty(f"http://127.0.0.1:{port}/mcp", failures=50) as services:
            before = await services.recall("nothing")
            first.kill()
            first.wait()
            with pytest.raises(ConnectionFailed):
                await services.recall("nothing")
            second = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            try:
                _wait_for(port)
                assert await services.recall("nothing") != before
            finally:
                second.kill()
                second.wait()
    finally:
        first.kill()
        first.wait()


def _wait_for(port: int) -> None:
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server did not start")
