"""Runs whose parts fail: each ends in time, with an answer or with the reason why not."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.routing.route import Router
from ryzanstein.agents.running.loop import RunResult, run_task
from ryzanstein.agents.running.run import Run
from ryzanstein.config import load_settings
from ryzanstein.errors import (
    InferenceError,
    InvalidRequest,
    MemoryLimitError,
    ModelNotFound,
    ServerUnavailable,
    TimedOut,
)
from ryzanstein.mcp_servers._factory import Reply, make_server
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.memory import MemoryStore
from ryzanstein.registry import BackendSpec, Limits, Registry
from tests.agents.backend_server import BackendServer
from tests.agents.test_backends import QUICK, spec

LOOP = "ryzanstein.agents.running.loop"

TASK = "Which colour does the word green name?"
MODEL = "smollm2-135m"
LOCAL = BackendSpec(name="local", kind="local")


@pytest.fixture(autouse=True)
def _place(place: Path) -> Iterator[None]:
    """Servers of this process that know nothing yet."""
    yield


def with_backends(declared: Registry, *specs: BackendSpec) -> Registry:
    return declared.model_copy(update={"backends": specs, "resilience": QUICK})


async def ran(registry: Registry, seconds: float = 20.0, **options: Any) -> RunResult:
    given = {"agent": "SCRIBE", "tools": False, **options}
    async with Services(registry) as services:
        return await run_task(
            TASK,
            services=services,
            registry=registry,
            limits=Limits(steps=2, tokens=400, seconds=seconds),
            **given,
        )


@pytest.mark.parametrize("mode", ["hang", "dies", "rubbish", "500", "401"])
async def test_a_run_goes_on_with_the_next_backend_and_its_record_says_why(
    declared: Registry, mode: str
) -> None:
    with BackendServer(mode) as bad, BackendServer() as well:
        first = spec(bad.url, seconds=0.6 if mode == "hang" else 10.0)
        found = await ran(with_backends(declared, first, spec(well.url, "second")))
    assert found.answer == "It is blue."
    assert found.failures[0].startswith("first: ")


async def test_a_silent_backend_does_not_hold_the_call_while_another_is_well(
    declared: Registry,
) -> None:
    with BackendServer("hang") as silent, BackendServer() as well:
        first, second = spec(silent.url, seconds=120), spec(well.url, "second")
        found = await ran(with_backends(declared, first, second))
    assert found.answer == "It is blue."
    said = "first: no sign of life for 0.5 s; second is asked beside it."
    assert found.failures == (said,), "later calls know it"


async def test_a_silent_backend_that_answers_after_all_is_heard(declared: Registry) -> None:
    def late(body: Mapping[str, Any]) -> str:
        bad_asked.wait(10)
        return "It is blue."

    bad_asked = threading.Event()

    def bad(body: Mapping[str, Any]) -> str:
        bad_asked.set()
        return ""

    with BackendServer(text=late) as slow, BackendServer(text=bad) as empty:
        found = await ran(with_backends(declared, spec(slow.url), spec(empty.url, "second")))
    assert found.answer == "It is blue."


async def test_a_run_ends_at_its_limit_though_its_backend_hangs(declared: Registry) -> None:
    with BackendServer("hang") as server:
        started = time.monotonic()
        with pytest.raises(TimedOut, match="longer than its 1 seconds"):
            await ran(with_backends(declared, spec(server.url, seconds=60)), seconds=1.0)
        assert time.monotonic() - started < 30, "the backend is given 60"


async def test_a_run_without_any_backend_that_answers_says_what_each_said(
    declared: Registry,
) -> None:
    with BackendServer("500") as first, BackendServer("401") as second:
        registry = with_backends(declared, spec(first.url), spec(second.url, "second"))
        with pytest.raises(ServerUnavailable, match=r"500: broken.*401: bad key"):
            await ran(registry)


async def test_an_inference_server_that_is_gone_gives_way_to_another_backend(
    declared: Registry,
) -> None:
    with BackendServer() as well:
        registry = with_backends(declared, LOCAL, spec(well.url, "second"))
        gone = {"inference": "http://127.0.0.1:9/mcp"}
        async with Services(registry, servers=gone) as services:
            found = await run_task(
                TASK, services=services, registry=registry, agent="SCRIBE", tools=False
            )
    assert found.answer == "It is blue."
    assert "inference server cannot be reached" in found.failures[0]


async def test_another_agent_takes_over_where_one_fails_for_its_own_reasons(
    declared: Registry, router: Router, smollm2: Path
) -> None:
    first = router.route(TASK, top_k=2).agents[0].codename
    models = {one.codename: MODEL for one in declared.agents} | {first: "no-such-model"}
    agents = tuple(
        one.model_copy(update={"model": models[one.codename]}) for one in declared.agents
    )
    registry = with_backends(declared, LOCAL).model_copy(update={"agents": agents})
    async with Services(registry) as services:
        found = await run_task(
            TASK, services=services, registry=registry, router=router, tools=False
        )
    assert found.agent != first
    assert found.failures[0].startswith(f"{first} failed, and the next agent takes over")


async def test_a_named_agent_is_not_replaced(declared: Registry) -> None:
    with pytest.raises(ModelNotFound):
        await ran(with_backends(declared, LOCAL), model="no-such-model")


@pytest.fixture
def hasty_store(_place: None) -> Iterator[Path]:
    """The database of a store that waits for others a moment only."""
    settings = load_settings()
    settings.data_dir.mkdir(parents=True)
    store = MemoryStore(settings.database, busy_seconds=0.2)
    shared().once("store", lambda: store)
    yield settings.data_dir / "ryzanstein.db"


async def test_an_answer_is_not_lost_while_the_database_is_locked(
    declared: Registry, hasty_store: Path
) -> None:
    with BackendServer() as server:
        lock = sqlite3.connect(hasty_store, isolation_level=None)
        try:
            lock.execute("BEGIN IMMEDIATE")
            found = await ran(with_backends(declared, spec(server.url)))
        finally:
            lock.close()
    assert found.answer == "It is blue."
    assert any("locked" in reason for reason in found.failures)


class Wrote(Reply):
    """What the scripted engine answers."""

    text: str
    model: str
    prompt_tokens: int = 5
    cached_tokens: int = 0
    tokens: int = 3
    finish_reason: str = "stop"
    seconds: float = 0.1


def short_of_memory(room_for: str | None) -> tuple[Any, list[str | None]]:
    """An inference server with room for one model, and the models it was asked for."""
    server = make_server("short", "Short of memory", "A stand-in.")
    asked: list[str | None] = []

    @server.tool()
    async def chat(messages: list[dict[str, str]], model: str | None = None) -> Wrote:
        asked.append(model)
        if model == room_for:
            return Wrote(text="It is blue.", model=str(model))
        if model == "smollm2-135m":
            raise ModelNotFound("It is not here.")
        raise MemoryLimitError(f"There is no room for {model}.", hint="Take a smaller one.")

    return server, asked


async def test_a_smaller_model_answers_where_memory_is_short(declared: Registry) -> None:
    server, asked = short_of_memory("qwen2.5-coder-0.5b")
    reasons: list[str] = []

    async def told(reason: str) -> None:
        reasons.append(reason)

    async with Services(declared, names=("inference",), servers={"inference": server}) as services:
        services.on_failure = told
        message = [{"role": "user", "content": "Which colour?"}]
        found = await services.chat(message, model="qwen2.5-coder-1.5b")
    assert (found.text, found.model) == ("It is blue.", "qwen2.5-coder-0.5b")
    assert asked == ["qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b"]
    assert "no room for qwen2.5-coder-1.5b" in reasons[0]


async def test_another_backend_answers_where_memory_is_short(declared: Registry) -> None:
    server, asked = short_of_memory(None)
    with BackendServer() as well:
        registry = with_backends(declared, LOCAL, spec(well.url, "second"))
        async with Services(
            registry, names=("inference",), servers={"inference": server}
        ) as services:
            found = await services.chat(
                [{"role": "user", "content": "?"}], model="qwen2.5-coder-1.5b"
            )
    assert found.model == "stand-in"
    assert asked == ["qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", "smollm2-135m"]


async def test_a_real_engine_without_memory_ends_clearly(
    declared: Registry, smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared().engine.close()
    monkeypatch.setattr("ryzanstein.inference.model.available_memory", lambda: 1_000_000)
    with pytest.raises(MemoryLimitError, match="The weights take"):
        await ran(with_backends(declared, LOCAL), model="smollm2-135m")


async def test_the_callers_fault_is_no_reason_to_ask_another_backend(declared: Registry) -> None:
    with BackendServer() as well:
        registry = with_backends(declared, LOCAL, spec(well.url, "second"))
        async with Services(registry, names=("inference",)) as services:
            with pytest.raises(InvalidRequest):
                await services.chat([])
        assert not well.requests


async def test_no_other_agent_does_again_what_one_has_changed(
    declared: Registry, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    async def changes_and_fails(run: Run, *_: object) -> RunResult:
        tried.append(run.profile.codename)
        run.changed = len(tried) == 2
        raise InferenceError("The model is gone.")

    monkeypatch.setattr(f"{LOOP}._bounded", changes_and_fails)
    monkeypatch.setattr(
        "ryzanstein.agents.running.loop._substitutes", lambda *_: declared.agents[:3]
    )
    async with Services(declared) as services:
        with pytest.raises(InferenceError, match="gone"):
            await run_task(TASK, services=services, registry=declared, router=router, model=MODEL)
    assert len(tried) == 2
