from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ryzanstein.agents.backends.base import Refused
from ryzanstein.agents.backends.form import Form, Misfit
from ryzanstein.agents.backends.openai import OpenAIBackend
from ryzanstein.agents.backends.pool import Pool
from ryzanstein.agents.backends.sampling import Question, Sampled, SamplingBackend
from ryzanstein.errors import (
    ConfigError,
    InferenceError,
    InvalidRequest,
    RyzansteinError,
    ServerUnavailable,
)
from ryzanstein.registry import BackendSpec, Resilience
from ryzanstein.resilience import Parties
from tests.agents.backend_server import BackendServer

QUICK = Resilience(first_wait=0.01, longest_wait=0.2, jitter=0, rest_seconds=1.0, slow_seconds=0.5)
ASKED = [{"role": "user", "content": "What colour is the sky?"}]
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string"}},
    "required": ["colour"],
    "additionalProperties": False,
}


def spec(url: str, name: str = "first", **fields: Any) -> BackendSpec:
    return BackendSpec(name=name, kind="openai", url=url, **{"seconds": 10.0, **fields})


class Asked:
    """A pool over stand-in servers, and the reasons it told."""

    def __init__(self, *backends: Any, parties: Parties | None = None) -> None:
        self.reasons: list[str] = []
        self.parties = parties or Parties()
        self.pool = Pool(backends, QUICK, self.parties, self._told)

    async def _told(self, reason: str) -> None:
        self.reasons.append(reason)

    async def __call__(self, **options: Any) -> str:
        return (await self.pool.chat(ASKED, **options)).text

    def state(self, name: str = "first") -> str:
        return self.parties.get(f"backend:{name}", QUICK).state


@asynccontextmanager
async def one(*args: Any, **fields: Any) -> AsyncIterator[tuple[Asked, BackendServer]]:
    with BackendServer(*args) as server:
        yield Asked(OpenAIBackend(spec(server.url, **fields))), server


@pytest.mark.parametrize("mode", ["good", "plain", "steady"])
async def test_an_answer_streamed_or_whole(mode: str) -> None:
    async with one(mode) as (asked, server):
        found = await asked.pool.chat(ASKED, max_tokens=50, temperature=0.5, seed=3)
        assert found.text == "It is blue."
        assert (found.model, found.finish_reason) == ("stand-in", "stop")
        assert found.tokens >= 3
        body = server.requests[0]
        assert (body["max_tokens"], body["temperature"], body["seed"]) == (50, 0.5, 3)
        assert not asked.reasons


async def test_tokens_are_reported_as_they_come() -> None:
    async with one("good") as (asked, _):
        heard: list[float] = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            heard.append(done)

        await asked(progress=progress)
        assert heard == sorted(heard)
        assert len(heard) >= 3


async def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_KEY", "sesame")
    async with one("good", api_key_env="STAND_IN_KEY") as (asked, server):
        await asked()
        assert server.headers[0]["Authorization"] == "Bearer sesame"
    monkeypatch.delenv("STAND_IN_KEY")
    async with one("good", api_key_env="STAND_IN_KEY") as (asked, server):
        with pytest.raises(ConfigError, match="STAND_IN_KEY is not set"):
            await asked()
        assert not server.requests


@pytest.mark.parametrize(
    ("options", "said", "read"),
    [
        ({"choices": ["red", "blue"]}, '{"answer": "blue"}', "blue"),
        ({"regex": r"\d{2}"}, '{"answer": "42"}', "42"),
        ({"json_schema": SCHEMA}, '{"colour": "blue"}', '{"colour": "blue"}'),
    ],
)
async def test_a_server_that_follows_a_schema_is_asked_by_one(
    options: dict[str, Any], said: str, read: str
) -> None:
    async with one("good", said) as (asked, server):
        assert await asked(**options) == read
        assert server.requests[0]["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize(
    ("options", "said", "read"),
    [
        ({"choices": ["red", "blue"]}, "Blue.", "blue"),
        ({"choices": ["read_file", "read"]}, "I would call `read_file`", "read_file"),
        ({"regex": r"\d{2}"}, " 42\n", "42"),
        ({"json_schema": SCHEMA}, 'Sure:\n```json\n{"colour": "blue"}\n```', '{"colour": "blue"}'),
    ],
)
async def test_a_server_without_schemas_is_asked_in_words(
    options: dict[str, Any], said: str, read: str
) -> None:
    async with one("no schema", said) as (asked, server):
        assert await asked(**options) == read
        assert await asked(**options) == read
        formats = ["response_format" in body for body in server.requests]
        assert formats == [True, False, False], "what it does not know is asked for once"
        assert "nothing" in server.requests[-1]["messages"][-1]["content"]


async def test_an_answer_in_another_form_is_asked_for_again_with_what_is_wrong() -> None:
    said = ["It is sunny", '{"colour": 7}', '{"colour": "blue"}']
    async with one("good", said) as (asked, server):
        assert json.loads(await asked(json_schema=SCHEMA)) == {"colour": "blue"}
        again = [body["messages"][-1]["content"] for body in server.requests[1:]]
        assert "no JSON" in again[0]
        assert "7 is not of type 'string'" in again[1]


async def test_an_answer_that_never_has_the_form_is_an_error() -> None:
    async with one("no schema", "purple") as (asked, server):
        with pytest.raises(InferenceError, match="3 times in another form"):
            await asked(choices=["red", "blue"])
        # Asked three times over, once more with the format it refused; and the pool asked again.
        assert len(server.requests) <= 1 + 3 * (QUICK.retries + 1)


async def test_code_is_read_out_of_its_fence_whether_or_not_the_prefix_is_kept() -> None:
    options = {"answer_prefix": "```python\n", "stop": ["```"]}
    for said in (
        "```python\nprint(1)\n```\nThis prints.",
        "Here it is:\n\n```python\nprint(1)\n```",
        "print(1)\n```",
    ):
        async with one("good", said) as (asked, server):
            assert (await asked(**options)).strip() == "print(1)"
            assert "stop" not in server.requests[0], "the opening fence would stop it"


async def test_thoughts_are_no_part_of_the_answer() -> None:
    async with one("good", "<think>Blue or red?</think>It is blue.") as (asked, _):
        assert await asked() == "It is blue."


async def test_a_grammar_is_followed_by_our_engine_only() -> None:
    async with one("good") as (asked, server):
        with pytest.raises(Refused, match="local engine"):
            await asked(grammar='start: "a"')
        assert not server.requests


@pytest.mark.parametrize(
    "options",
    [
        {"choices": ["a"], "regex": "b"},
        {"regex": "("},
        {"json_schema": {"type": "nonsense"}},
        {"json_schema": {"$ref": "http://127.0.0.1:9/schema"}},
    ],
)
async def test_a_form_that_makes_no_sense_is_the_callers_fault(options: dict[str, Any]) -> None:
    async with one("no schema", '{"a": 1}') as (asked, _):
        with pytest.raises(InvalidRequest):
            await asked(**options)
        assert asked.state() == "ok"


def test_a_regex_that_explodes_takes_half_a_second() -> None:
    started = time.process_time()
    with pytest.raises(Misfit):
        Form(regex="(a|a|b?)*c").read("ab" * 5000)
    assert time.process_time() - started < 5


def test_json_nested_without_end_is_no_answer() -> None:
    with pytest.raises(Misfit, match="no JSON"):
        Form(json_schema=SCHEMA).read("[" * 100_000)


async def test_a_look_finds_the_model_or_says_what_is_there() -> None:
    with BackendServer() as server:
        assert "stand-in" in await OpenAIBackend(spec(server.url)).look()
        with pytest.raises(RyzansteinError, match="it has stand-in"):
            await OpenAIBackend(spec(server.url, model="other")).look()


async def test_an_empty_answer_is_given_to_the_next_backend() -> None:
    with BackendServer("good", "") as empty, BackendServer() as full:
        backends = [OpenAIBackend(spec(empty.url)), OpenAIBackend(spec(full.url, "second"))]
        asked = Asked(*backends)
        assert await asked() == "It is blue."
        assert "answered with nothing" in asked.reasons[0]


async def test_nothing_again_and_again_is_a_failure() -> None:
    async with one("good", "") as (asked, _):
        assert await asked() == ""
        assert await asked() == ""
        with pytest.raises(InferenceError, match="nothing, 3 times in a row"):
            await asked()


def sampling(answer: Callable[[Question], str]) -> SamplingBackend:
    async def sampler(question: Question) -> Sampled:
        return Sampled(answer(question), "client-model")

    return SamplingBackend(BackendSpec(name="client", kind="sampling"), lambda: sampler)


async def test_the_clients_model_is_asked_in_words_until_it_fits() -> None:
    questions: list[Question] = []

    def answer(question: Question) -> str:
        questions.append(question)
        return "The sky is nice" if len(questions) == 1 else "blue"

    asked = Asked(sampling(answer))
    found = await asked.pool.chat(
        [{"role": "system", "content": "Be brief."}, *ASKED], choices=["red", "blue"]
    )
    assert (found.text, found.model) == ("blue", "client-model")
    assert questions[0].system == "Be brief."
    assert "not one of the 2" in questions[1].messages[-1]["content"]


async def test_without_a_client_there_is_nobody_to_ask() -> None:
    asked = Asked(SamplingBackend(BackendSpec(name="client", kind="sampling"), lambda: None))
    with pytest.raises(ServerUnavailable, match="no backend"):
        await asked()


async def test_tokens_are_estimated_rather_too_high() -> None:
    async with one("good") as (asked, _):
        assert await asked.pool.count_tokens("a" * 300, None) == 100
        assert await asked.pool.count_tokens(ASKED, None) > 8
