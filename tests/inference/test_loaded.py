"""Which states a loaded model keeps of conversations under a system message."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.config import Settings
from ryzanstein.errors import InferenceError, ValidationError
from ryzanstein.inference import Engine
from ryzanstein.inference import engine as engine_module
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.model import Model
from ryzanstein.inference.prompts import persona_ids
from ryzanstein.inference.tokenizer import load_tokenizer
from tests.inference import tiny
from tests.inference.recurrence import program_of, recurrent_model

SYSTEM = "the rain in Spain stays mainly in the plain " * 3
OTHER = "a heron stands in the shallow water and waits for a fish " * 3


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_safetensors(tmp_path_factory.mktemp("hub"), tiny.Shape(context=1024))


@pytest.fixture(params=["attention", "recurrent"])
def family(request: pytest.FixtureRequest, path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Engines of the test load the tiny model itself, or a recurrent one in its place."""

    def load(*_: object, **__: object) -> Model:
        model = recurrent_model(tiny.Shape().vocab, context=1024)
        model.tokenizer = load_tokenizer(open_checkpoint(path))
        return model

    if request.param == "recurrent":
        monkeypatch.setattr(engine_module, "load_model", load)
    return str(request.param)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, tmp_path, tmp_path, context_tokens=1024, threads=1)


@pytest.fixture
def engine(settings: Settings, family: str) -> Iterator[Engine]:
    made = Engine(settings)
    yield made
    made.close()


def asked(path: Path, *texts: str, system: str = SYSTEM, **options: Any) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": "system", "content": system}]
    messages += [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return {"model": str(path), "messages": messages, "max_tokens": 8, **options}


def persona(engine: Engine, path: Path, system: str = SYSTEM) -> list[int]:
    return persona_ids(engine.get(str(path)).tokenizer, system)


def test_a_prompt_begins_with_its_persona_whatever_is_asked(engine: Engine, path: Path) -> None:
    ids = persona(engine, path)
    tokenizer = engine.get(str(path)).tokenizer
    assert tokenizer.decode(ids).count("Spain") == 3
    engine.chat(asked(path, "0"))
    for text in ("the", "\n\nthe", " 1", "Ünïcode", "\t", "", SYSTEM):
        assert engine.chat(asked(path, text, max_tokens=1)).cached_tokens >= len(ids)
    assert persona(engine, path, OTHER)[:20] != ids[:20]


def test_another_question_under_the_same_system_message_starts_after_it(
    engine: Engine, path: Path
) -> None:
    ids = persona(engine, path)
    first = engine.chat(asked(path, "the first question"))
    second = engine.chat(asked(path, "another one"))
    other = engine.chat(asked(path, "the first question", system=OTHER))
    again = engine.chat(asked(path, "the first question again"))
    assert first.cached_tokens == 0 and other.cached_tokens < 20
    assert len(ids) <= second.cached_tokens < second.prompt_tokens
    assert len(ids) <= again.cached_tokens
    assert engine.store.entries() == []


def test_a_conversation_that_grows_pays_for_what_is_new(engine: Engine, path: Path) -> None:
    first = engine.chat(asked(path, "the first question"))
    second = engine.chat(asked(path, "the first question", first.text, "and the second?"))
    assert second.cached_tokens >= first.prompt_tokens
    third = engine.chat(
        asked(path, "the first question", first.text, "and the second?", "rewritten", "so?")
    )
    assert third.cached_tokens >= second.prompt_tokens - 1


def test_a_long_prompt_asked_again_costs_one_token(engine: Engine, path: Path) -> None:
    request = {"model": str(path), "prompt": OTHER * 2, "max_tokens": 4}
    first, second = engine.generate(request), engine.generate(request)
    assert first.prompt_tokens > 128
    assert second.cached_tokens == first.prompt_tokens - 1
    assert second.text == first.text


def test_a_kept_system_message_is_found_by_the_next_process(
    engine: Engine, settings: Settings, path: Path
) -> None:
    ids = persona(engine, path)
    first = engine.chat(asked(path, "the first question", keep_system=True))
    (saved,) = engine.store.entries()
    assert (saved.tokens, saved.label) == (len(ids), SYSTEM[:79] + "…")
    restarted = Engine(settings)
    second = restarted.chat(asked(path, "the first question"))
    assert (first.cached_tokens, second.cached_tokens) == (0, len(ids))
    assert second.text == first.text
    restarted.close()


def test_nothing_is_written_for_who_did_not_ask(engine: Engine, path: Path) -> None:
    engine.chat(asked(path, "the first question"))
    assert not engine.store.folder.exists()


def test_a_damaged_state_is_computed_and_saved_anew(
    engine: Engine, settings: Settings, path: Path
) -> None:
    first = engine.chat(asked(path, "the first question", keep_system=True))
    (saved,) = engine.store.entries()
    whole = saved.path.read_bytes()
    middle = len(whole) // 2
    saved.path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    restarted = Engine(settings)
    second = restarted.chat(asked(path, "the first question"))
    assert (second.cached_tokens, second.text) == (0, first.text)
    assert len(saved.path.read_bytes()) == len(whole)
    third = Engine(settings)
    assert third.chat(asked(path, "the first question")).cached_tokens == saved.tokens
    for one in (restarted, third):
        one.close()


def test_a_system_message_asked_to_be_kept_later_is_kept(engine: Engine, path: Path) -> None:
    engine.chat(asked(path, "the first question"))
    engine.chat(asked(path, "the first question again", keep_system=True))
    (saved,) = engine.store.entries()
    assert saved.tokens == len(persona(engine, path))


def test_warming_reads_a_prompt_once(engine: Engine, settings: Settings, path: Path) -> None:
    saved = engine.warm(str(path), SYSTEM, "SPAIN")
    assert (saved.label, saved.tokens) == ("SPAIN", len(persona(engine, path)))
    restarted = Engine(settings)
    again = restarted.warm(str(path), SYSTEM)
    assert (again.id, again.label) == (saved.id, "SPAIN")
    model = restarted.get(str(path)).model
    if model.state_shape.fixed_bytes:
        assert program_of(model).tokens == 0
    found = restarted.chat(asked(path, "the first question"))
    assert found.cached_tokens == saved.tokens
    assert found.text == engine.chat(asked(path, "the first question")).text
    restarted.close()


def test_warming_can_be_cancelled_and_done_again(engine: Engine, path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(InferenceError, match="cancelled"):
        engine.warm(str(path), SYSTEM, cancel=cancel)
    assert engine.store.entries() == []
    engine.warm(str(path), SYSTEM)
    assert len(engine.store.entries()) == 1


def test_a_prompt_that_does_not_fit_is_not_warmed(engine: Engine, path: Path) -> None:
    with pytest.raises(ValidationError, match="limit is 1,023"):
        engine.warm(str(path), OTHER * 30)


def test_a_full_disk_is_said_where_a_state_was_asked_for(
    settings: Settings, family: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.data_dir / "states").write_text("in the way", encoding="utf-8")
    engine = Engine(settings)
    assert engine.chat(asked(path, "the first question", keep_system=True)).tokens > 0
    with pytest.raises(InferenceError, match="could not be kept"):
        engine.warm(str(path), SYSTEM)
    engine.close()


def test_a_cancelled_answer_leaves_the_persona_usable(engine: Engine, path: Path) -> None:
    cancel = threading.Event()
    engine.chat(asked(path, "the first question"), lambda _: cancel.set(), cancel)
    ids = persona(engine, path)
    assert engine.chat(asked(path, "another one")).cached_tokens >= len(ids)


def test_answers_under_a_grammar_are_the_same_from_kept_states(engine: Engine, path: Path) -> None:
    choice = {"choices": ["the rain", "the plain", "Spain"]}
    first = engine.chat(asked(path, "which?", constraint=choice))
    assert first.text in choice["choices"]
    grown = asked(path, "which?", first.text, "and which else?", constraint=choice)
    second = engine.chat(grown)
    assert second.cached_tokens >= first.prompt_tokens
    engine.clear_cache()
    assert engine.chat(grown).text == second.text


def test_a_recurrent_model_has_no_context_to_make_room_for(
    settings: Settings, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, context_tokens: int, **__: object) -> Model:
        model = recurrent_model(tiny.Shape().vocab, context=context_tokens)
        model.config["max_position_embeddings"] = 1 << 20
        model.tokenizer = load_tokenizer(open_checkpoint(path))
        return model

    monkeypatch.setattr(engine_module, "load_model", load)
    engine = Engine(settings)
    result = engine.generate({"model": str(path), "prompt": OTHER * 30, "max_tokens": 1})
    assert result.prompt_tokens > settings.context_tokens
    engine.close()
