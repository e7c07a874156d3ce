from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.config import Settings
from ryzanstein.errors import (
    MemoryLimitError,
    ModelLoadError,
    ModelNotFound,
    ValidationError,
)
from ryzanstein.inference import Engine, load_model
from ryzanstein.inference import engine as engine_module
from tests.inference import tiny

FRANCE = [{"role": "user", "content": "What is the capital of France? One sentence."}]


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    return Settings(home, home, home, context_tokens=300, threads=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny.write_safetensors(tmp_path_factory.mktemp("hub"), tiny.Shape()))


@pytest.fixture
def engine(configured: Settings) -> Iterator[Engine]:
    made = Engine(configured)
    yield made
    made.close()


@pytest.fixture(scope="module")
def real(smollm2: Path, configured: Settings) -> Iterator[tuple[Engine, str]]:
    made = Engine(configured)
    yield made, str(smollm2)
    made.close()


def test_a_real_model_answers(real: tuple[Engine, str]) -> None:
    engine, name = real
    pieces: list[str] = []
    result = engine.chat({"model": name, "messages": FRANCE, "max_tokens": 40}, pieces.append)
    assert "Paris" in result.text
    assert result.finish_reason == "stop"
    assert "".join(pieces) == result.text
    assert result.model == name
    assert result.tokens < 40


def test_a_conversation_ends_where_the_next_speaker_would_begin(
    real: tuple[Engine, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, name = real
    whole = engine.chat({"model": name, "messages": FRANCE, "max_tokens": 40}).text
    monkeypatch.setattr(engine.get(name).tokenizer, "chat_stops", ("Paris",))
    cut = engine.chat({"model": name, "messages": FRANCE, "max_tokens": 40})
    assert (cut.text, cut.finish_reason) == (whole.partition("Paris")[0], "stop")
    told = {"model": name, "prompt": "The capital of France is", "max_tokens": 8}
    assert "Paris" in engine.generate(told).text  # which is no conversation


def test_several_questions_on_one_context_pay_only_for_what_is_new(
    real: tuple[Engine, str],
) -> None:
    engine, name = real
    base = {"model": name, "messages": FRANCE, "max_tokens": 20}
    first = engine.chat(base)
    choice = engine.chat(base | {"constraint": {"choices": ["Paris", "Rome", "Oslo"]}})
    assert choice.text == "Paris"
    assert choice.cached_tokens == choice.prompt_tokens - 1 == first.prompt_tokens - 1
    grown = [
        *FRANCE,
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "Of Italy?"},
    ]
    third = engine.chat(base | {"messages": grown})
    assert third.cached_tokens >= first.prompt_tokens
    assert third.prompt_tokens > third.cached_tokens


def test_a_repeated_question_gets_the_same_answer_from_the_cache(
    real: tuple[Engine, str],
) -> None:
    engine, name = real
    request = {"model": name, "messages": FRANCE, "max_tokens": 30, "answer_prefix": "Well, "}
    engine.chat(request)
    second, third = engine.chat(request), engine.chat(request)
    assert second.cached_tokens == third.cached_tokens == second.prompt_tokens - 1
    assert second.text == third.text


def test_the_answer_prefix_is_continued_and_not_repeated(real: tuple[Engine, str]) -> None:
    engine, name = real
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    result = engine.chat(
        {
            "model": name,
            "messages": FRANCE,
            "answer_prefix": "```json\n",
            "constraint": {"json_schema": schema},
        }
    )
    assert json.loads(result.text).keys() == {"city"}


def test_a_likely_text_scores_better_than_an_unlikely_one(real: tuple[Engine, str]) -> None:
    engine, name = real
    good = engine.score(name, "The sun rises in the east and sets in the west.")
    bad = engine.score(name, "West the sets east sun in and rises in the the.")
    assert good.tokens == bad.tokens
    assert good.logprob > bad.logprob
    assert good.perplexity == pytest.approx(math.exp(-good.logprob / good.tokens))


def test_the_score_is_the_sum_of_log_probabilities(engine: Engine, small: str) -> None:
    text = "the rain in Spain stays mainly in the plain, " * 4
    scored = engine.score(small, text)
    loaded = engine.get(small)
    ids = loaded.tokenizer.encode(text)
    logits = loaded.model.forward(ids[:-1], loaded.model.new_state(), all_logits=True)
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    assert scored.tokens == len(ids) - 1 > 64
    assert scored.logprob == pytest.approx(logs[np.arange(len(ids) - 1), ids[1:]].sum(), abs=0.05)


def test_tokens_are_counted_with_the_template(engine: Engine, small: str) -> None:
    messages = [{"role": "user", "content": "the in"}]
    plain = engine.count_tokens(small, "the in")
    counted = engine.count_tokens(small, messages)
    result = engine.chat({"model": small, "messages": messages, "max_tokens": 1})
    assert (
        counted == result.prompt_tokens > plain == len(engine.get(small).tokenizer.encode("the in"))
    )


def test_a_model_is_loaded_once_however_many_ask_at_a_time(engine: Engine, small: str) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(engine.get(small))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len({id(loaded) for loaded in found}) == 1
    assert engine.loaded() == [small]


def test_threads_share_a_model_one_generation_at_a_time(engine: Engine, small: str) -> None:
    request = {"model": small, "prompt": "the end of the story", "max_tokens": 12}
    expected = engine.generate(request).text
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(engine.generate(request).text))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [expected] * 4


def test_the_least_recently_used_model_is_dropped(configured: Settings, tmp_path: Path) -> None:
    names = [
        str(tiny.write_safetensors(tmp_path / str(seed), tiny.Shape(seed=seed)))
        for seed in range(3)
    ]
    engine = Engine(configured, max_models=2)
    for index in (0, 1, 0, 2):
        engine.get(names[index])
    assert engine.loaded() == [names[0], names[2]]
    assert engine.unload(names[0])
    assert not engine.unload(names[0])
    assert engine.loaded() == [names[2]]
    engine.close()
    assert engine.loaded() == []


def test_a_model_that_is_busy_is_not_dropped(configured: Settings, tmp_path: Path) -> None:
    names = [
        str(tiny.write_safetensors(tmp_path / str(seed), tiny.Shape(seed=seed)))
        for seed in range(2)
    ]
    engine = Engine(configured, max_models=1)
    busy = engine.get(names[0])
    with busy.lock:
        engine.get(names[1])
        assert engine.loaded() == names
    engine.close()


def test_waiting_for_a_busy_model_can_be_cancelled(engine: Engine, small: str) -> None:
    loaded = engine.get(small)
    cancel = threading.Event()
    results: list[Any] = []
    request = {"model": small, "prompt": "the end"}
    with loaded.lock:
        waiting = threading.Thread(
            target=lambda: results.append(engine.generate(request, cancel=cancel))
        )
        waiting.start()
        cancel.set()
        waiting.join(10)
    assert results[0].finish_reason == "cancelled"
    assert results[0].tokens == 0


def test_cache_statistics_and_clearing(engine: Engine, small: str) -> None:
    request = {"model": small, "prompt": "the end of the story", "max_tokens": 4}
    first, second = engine.generate(request), engine.generate(request)
    stats = engine.cache_stats()
    assert (stats["hits"], stats["misses"]) == (1, 1)
    assert stats["prompt_tokens"] == 2 * first.prompt_tokens
    assert stats["cached_tokens"] == second.cached_tokens == first.prompt_tokens - 1
    assert stats["states"] == len(engine.cached()) == 1
    assert engine.cached()[0][0].name == small
    assert engine.clear_cache(small) == 1
    assert engine.cache_stats()["bytes"] == 0
    assert engine.generate(request).cached_tokens == 0


def test_a_model_that_does_not_fit_is_refused_with_what_to_do(
    engine: Engine, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "available_memory", lambda: 1000)
    with pytest.raises(MemoryLimitError, match="RYZANSTEIN_CONTEXT_TOKENS"):
        engine.get(small)
    assert engine.loaded() == []


LONG = "the rain in Spain stays mainly in the plain " * 200


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": LONG}, r"has [\d,]+ tokens, and the limit is 299"),
        ({"prompt": "x" * 4_000_001}, "prompt: string should have at most"),
        ({"prompt": None}, "prompt: input should be a valid string"),
        ({"max_tokens": 0}, "max_tokens: input should be greater"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"stop": [""]}, "stop.0"),
        ({"stop": ["x"] * 17}, "stop: list should have at most 16"),
        ({"logit_bias": {10**6: 1.0}}, "logit_bias: token ids must be below 320"),
        ({"logit_bias": {-1: 1.0}}, "logit_bias"),
        ({"seed": -1}, "seed"),
        ({"constraint": {}}, "exactly one of choices"),
        ({"constraint": {"regex": "a", "grammar": "b"}}, "exactly one of choices"),
        ({"constraint": {"regex": "("}}, "constraint regex is not valid"),
        ({"constraint": {"wish": "a"}}, "constraint.wish"),
        ({"suffix": "x"}, "not trained to fill a gap"),
        ({"colour": "red"}, "colour: extra inputs"),
    ],
)
def test_a_request_out_of_bounds_is_refused_in_one_line(
    changes: dict[str, Any], said: str, engine: Engine, small: str
) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        engine.generate({"model": small, "prompt": "the"} | changes)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "messages: list should have at least 1 item"),
        ([{"role": "user", "content": " \n"}], "Every message is empty"),
        ([{"role": "wizard", "content": "x"}], "messages.0.role"),
        ([{"role": "user"}], "messages.0.content"),
        ([{"role": "user", "content": LONG}], "the limit is 299"),
    ],
)
def test_a_conversation_out_of_bounds_is_refused(
    messages: list[dict[str, str]], said: str, engine: Engine, small: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        engine.chat({"model": small, "messages": messages})


def test_a_text_too_short_to_score_is_refused(engine: Engine, small: str) -> None:
    with pytest.raises(ValidationError, match="at least two tokens"):
        engine.score(small, "a")


def test_unknown_models_and_missing_files_are_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="Did you mean qwen"):
        engine.get("qwen2.5-coder-0.6b")
    with pytest.raises(ModelNotFound, match="no model file"):
        engine.get("./nowhere/model.gguf")
    with pytest.raises(ModelNotFound, match=r"models pull smollm2-135m"):
        engine.get("smollm2-135m")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    with pytest.raises(ModelLoadError, match="truncated"):
        engine.get(str(broken))
    assert engine.loaded() == []


def test_a_model_without_a_tokenizer_still_steps_but_does_not_generate(
    engine: Engine, tmp_path: Path
) -> None:
    path = tiny.write_safetensors(tmp_path, tiny.Shape(vocab=50))
    with load_model(path, threads=1) as model:
        assert model.forward([1, 2, 3], model.new_state()).shape == (1, 50)
    with pytest.raises(ModelLoadError, match="without a tokenizer"):
        engine.get(str(path))


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, ryzanstein.inference\n"
        "heavy = {'numpy', 'pydantic', 'tokenizers', 'llguidance', 'jinja2', 'torch'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
