from __future__ import annotations

import socket
import sys
import threading
import time

import pytest

from ryzanstein.agents.backends.openai import OpenAIBackend
from ryzanstein.agents.clients.health import Health, Seen
from ryzanstein.registry import BackendSpec, Registry, ServerSpec
from ryzanstein.resilience import Parties
from tests.agents.backend_server import BackendServer
from tests.agents.test_backends import QUICK, Asked, spec


def health(declared: Registry, *specs: BackendSpec, servers: tuple[ServerSpec, ...] = ()) -> Health:
    policy = QUICK.model_copy(update={"health_seconds": 0.05, "rest_seconds": 60})
    changes = {"backends": specs, "servers": servers, "resilience": policy}
    registry = declared.model_copy(update=changes)
    return Health(lambda: registry, Parties())


def states(found: list[Seen]) -> dict[str, str]:
    return {one.name: one.state for one in found}


def test_looks_find_a_dead_backend_before_a_run_does(declared: Registry) -> None:
    with BackendServer("500") as dead, BackendServer() as well:
        looking = health(declared, spec(dead.url), spec(well.url, "second"))
        assert looking.stale()
        for _ in range(3):
            looking.look()
        assert states(looking.seen()) == {"backend:first": "open", "backend:second": "ok"}
        assert not looking.stale()
        first, second = looking.seen()
        assert "answered 500: broken" in first.detail
        assert "tried again in" in first.detail
        assert second.detail.startswith("stand-in at http://")


async def test_a_run_does_not_ask_what_looks_found_dead(declared: Registry) -> None:
    import anyio.to_thread

    with BackendServer("500") as dead, BackendServer() as well:
        looking = health(declared, spec(dead.url), spec(well.url, "second"))
        for _ in range(3):
            await anyio.to_thread.run_sync(looking.look)
        backends = [OpenAIBackend(spec(dead.url)), OpenAIBackend(spec(well.url, "second"))]
        asked = Asked(*backends, parties=looking._parties)
        assert await asked() == "It is blue."
        assert not dead.requests
        assert not asked.reasons


def test_a_server_at_a_url_is_looked_at(declared: Registry) -> None:
    gone = ServerSpec(name="memory", transport="http", url="http://127.0.0.1:9/mcp")
    looking = health(declared, servers=(gone,))
    looking.look()
    (seen,) = looking.seen()
    assert (seen.name, seen.state) == ("server:memory", "failing")
    assert "cannot be reached" in seen.detail


def test_a_server_whose_program_is_not_there_is_not_called_well(declared: Registry) -> None:
    gone = ServerSpec(name="clock", transport="stdio", command="no-such-clock")
    there = ServerSpec(name="python", transport="stdio", command=sys.executable)
    looking = health(declared, servers=(gone, there))
    assert states(looking.seen()) == {"server:clock": "failing", "server:python": "ok"}
    assert "there is no program no-such-clock" in looking.seen()[0].detail


def test_what_runs_in_this_process_needs_no_look(declared: Registry) -> None:
    looking = Health(lambda: declared, Parties())
    assert not looking.stale()
    assert states(looking.seen()) == {"backend:local": "ok", "backend:client": "ok"}


def test_a_thread_looks_again_and_again_and_ends(
    declared: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BackendServer() as server:
        looking = health(declared, spec(server.url))
        looking.start()
        try:
            deadline = time.monotonic() + 10
            while looking.stale() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert states(looking.seen()) == {"backend:first": "ok"}
        finally:
            looking.close()
    for thread in [one for one in threading.enumerate() if one.name == "health"]:
        thread.join(5)
        assert not thread.is_alive()


def test_a_backend_that_never_answers_holds_no_look_up(
    declared: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ryzanstein.agents.clients.health.LOOK_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        looking = health(declared, spec(url))
        started = time.monotonic()
        looking.look()
        assert time.monotonic() - started < 30, "it is silent for ever"
        assert "did not answer within" in looking.seen()[0].detail
