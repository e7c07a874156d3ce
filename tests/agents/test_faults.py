"""Backends that fail in every way: the call ends in time, the reason is told, another answers."""

from __future__ import annotations

import time

import pytest

from ryzanstein.agents.backends.openai import OpenAIBackend
from ryzanstein.errors import (
    ConfigError,
    ConnectionFailed,
    InferenceError,
    ModelNotFound,
    RyzansteinError,
    ServerUnavailable,
    TimedOut,
)
from tests.agents.backend_server import BackendServer
from tests.agents.test_backends import Asked, spec

# What each fault is reported as, and how often the backend is asked before it is left alone.
FAULTS: dict[str, tuple[type[RyzansteinError], str, int]] = {
    "hang": (TimedOut, "no sign of life", 1),
    "hangs within": (TimedOut, "no sign of life", 1),
    "dies": (ConnectionFailed, "went away within its answer", 3),
    "ends early": (ConnectionFailed, "ended its answer in the middle", 3),
    "fails within": (InferenceError, "out of memory", 3),
    "endless line": (InferenceError, "more than an answer can have", 3),
    "huge": (InferenceError, "more than an answer can have", 3),
    "rubbish": (InferenceError, "no JSON", 3),
    "wrong JSON": (InferenceError, "without a choice", 3),
    "a list": (InferenceError, "no object", 3),
    "wrong type": (InferenceError, "text/html", 3),
    "rubbish stream": (InferenceError, "no JSON", 3),
    "wrong stream": (InferenceError, "part of no chat", 3),
    "numbers": (InferenceError, "no text", 3),
    "500": (ServerUnavailable, "answered 500: broken", 3),
    "429": (ServerUnavailable, "answered 429: busy", 3),
    "429 long": (ServerUnavailable, "answered 429", 1),
    "401": (ConfigError, "answered 401: bad key", 1),
    "404": (ModelNotFound, "answered 404", 1),
    "400": (InferenceError, "answered 400: too long", 1),
    "302": (ServerUnavailable, "answered 302", 3),
}


def silence(mode: str) -> float:
    """Seconds a backend may be silent: few for one that hangs."""
    return 1.0 if "hang" in mode else 10.0


@pytest.mark.parametrize("mode", FAULTS)
async def test_a_fault_ends_the_call_in_time_and_says_why(mode: str) -> None:
    kind, text, asks = FAULTS[mode]
    with BackendServer(mode) as server:
        asked = Asked(OpenAIBackend(spec(server.url, seconds=silence(mode))))
        started = time.monotonic()
        with pytest.raises(kind, match=text):
            await asked()
        assert time.monotonic() - started < 30
        assert text in asked.reasons[-1]
        assert len(server.requests) == asks


@pytest.mark.parametrize("mode", FAULTS)
async def test_another_backend_answers_in_its_place(mode: str) -> None:
    with BackendServer(mode) as bad, BackendServer() as well:
        first = OpenAIBackend(spec(bad.url, seconds=silence(mode)))
        asked = Asked(first, OpenAIBackend(spec(well.url, "second")))
        assert await asked() == "It is blue."
        assert FAULTS[mode][1] in asked.reasons[0]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/v1", "http://no-such-host.invalid/v1", "http://[::1]:9/v1"]
)
async def test_nobody_there(url: str) -> None:
    asked = Asked(OpenAIBackend(spec(url)))
    with pytest.raises(ConnectionFailed, match="cannot be reached"):
        await asked()
    assert len(asked.reasons) == 3
    assert asked.state() == "open"


async def test_a_passing_fault_is_waited_out() -> None:
    with BackendServer(["500", "429", "good"]) as server:
        asked = Asked(OpenAIBackend(spec(server.url)))
        started = time.monotonic()
        assert await asked() == "It is blue."
        assert time.monotonic() - started >= 0.05, "as Retry-After says"
        assert len(asked.reasons) == 2
        assert asked.state() == "ok"


async def test_text_without_end_is_cut_where_it_was_to_end() -> None:
    with BackendServer("endless") as server:
        asked = Asked(OpenAIBackend(spec(server.url)))
        found = await asked.pool.chat([{"role": "user", "content": "Go on."}], max_tokens=10)
        assert found.finish_reason == "length"
        assert len(found.text) < 1000


async def test_three_failures_open_the_circuit_and_a_rest_half_opens_it() -> None:
    with BackendServer(["500", "500", "500", "good"]) as server:
        asked = Asked(OpenAIBackend(spec(server.url)))
        with pytest.raises(ServerUnavailable, match="500"):
            await asked()
        with pytest.raises(ServerUnavailable, match=r"rests after failures.*500: broken"):
            await asked()
        assert len(server.requests) == 3, "an open circuit is not asked"
        time.sleep(1.05)
        assert asked.state() == "half-open"
        assert await asked() == "It is blue."
        assert asked.state() == "ok"


async def test_a_failure_while_half_open_opens_it_again() -> None:
    with BackendServer("500") as server:
        asked = Asked(OpenAIBackend(spec(server.url)))
        with pytest.raises(ServerUnavailable):
            await asked()
        time.sleep(1.05)
        with pytest.raises(ServerUnavailable):
            await asked()
        assert len(server.requests) == 4
        assert asked.state() == "open"


async def test_a_slow_backend_is_routed_around_while_another_is_well() -> None:
    with BackendServer("slow") as slow, BackendServer() as quick:
        asked = Asked(OpenAIBackend(spec(slow.url)), OpenAIBackend(spec(quick.url, "second")))
        assert await asked() == "It is blue."
        assert len(slow.requests) == 1
        assert asked.state() == "slow"
        assert asked.pool.names == ("second", "first")
        await asked()
        assert len(slow.requests) == 1
        assert len(quick.requests) == 2, "at first beside the slow one"


async def test_a_slow_backend_is_used_where_there_is_no_other() -> None:
    with BackendServer("slow") as server:
        asked = Asked(OpenAIBackend(spec(server.url)))
        assert [await asked(), await asked()] == ["It is blue."] * 2
        assert len(server.requests) == 2


async def test_an_answer_that_takes_its_time_but_shows_life_is_not_slow() -> None:
    with BackendServer("steady") as server:
        asked = Asked(OpenAIBackend(spec(server.url)))
        assert await asked() == "It is blue."
        assert asked.state() == "ok"


async def test_one_answer_has_an_end_though_it_shows_life() -> None:
    with BackendServer("steady") as server:
        asked = Asked(OpenAIBackend(spec(server.url, total_seconds=0.2)))
        with pytest.raises(TimedOut, match=r"longer than 0\.2 s"):
            await asked()


async def test_when_all_fail_every_reason_is_told() -> None:
    with BackendServer("401") as first, BackendServer("rubbish") as second:
        asked = Asked(OpenAIBackend(spec(first.url)), OpenAIBackend(spec(second.url, "second")))
        with pytest.raises(ServerUnavailable, match=r"first: .*bad key.*second: .*no JSON"):
            await asked()
