from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.errors import InferenceError, ValidationError
from ryzanstein.inference.constrain import Grammars, bounded_schema
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.sample import Sampler, Sampling
from ryzanstein.inference.tokenizer import Tokenizer, load_tokenizer

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Tokenizer:
    return load_tokenizer(open_checkpoint(smollm2))


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer)


def answer(
    grammars: Grammars, tokenizer: Tokenizer, constraint: dict[str, Any], seed: int
) -> tuple[str, int, int]:
    """Follows a grammar on random logits; returns text, tokens, and how many were forced."""
    matcher = grammars.matcher(constraint)
    sampler = Sampler(Sampling(temperature=1, seed=seed))
    random = np.random.default_rng(seed)
    ids: list[int] = []
    forced = 0
    while not matcher.finished and len(ids) < 400:
        new = matcher.forced()
        forced += len(new)
        if not new:
            values = random.normal(size=tokenizer.vocab_size).astype(np.float32)
            new = [sampler.choose(values, matcher.allowed())]
        if new[0] in tokenizer.end_ids:
            break
        for token in new:
            matcher.accept(token)
            ids.append(token)
    return tokenizer.decode(ids), len(ids), forced


@pytest.mark.parametrize("seed", range(8))
def test_random_logits_always_give_one_of_the_choices(
    seed: int, grammars: Grammars, tokenizer: Tokenizer
) -> None:
    choices = ["read", "read_file", 'say "hi"', "übermäßig", "a\nb\\n"]
    text, _, _ = answer(grammars, tokenizer, {"choices": choices}, seed)
    assert text in choices


def test_a_single_choice_needs_no_sampling(grammars: Grammars, tokenizer: Tokenizer) -> None:
    text, tokens, forced = answer(grammars, tokenizer, {"choices": ["run_python"]}, 0)
    assert text == "run_python"
    assert tokens == forced


@pytest.mark.parametrize("seed", range(8))
def test_random_logits_always_give_json_that_fits(
    seed: int, grammars: Grammars, tokenizer: Tokenizer
) -> None:
    text, tokens, forced = answer(grammars, tokenizer, {"json_schema": PERSON}, seed)
    value = json.loads(text)
    assert set(value) == {"name", "age", "tags"}
    assert len(value["name"]) <= 12
    assert 0 <= value["age"] <= 150
    assert set(value["tags"]) <= {"a", "b"}
    assert text.startswith('{"name": "')
    assert forced > tokens // 4


@pytest.mark.parametrize("seed", range(4))
def test_regex_and_grammar_are_followed(
    seed: int, grammars: Grammars, tokenizer: Tokenizer
) -> None:
    text, _, _ = answer(grammars, tokenizer, {"regex": "[0-9]{4}-[0-9]{2}"}, seed)
    assert re.fullmatch("[0-9]{4}-[0-9]{2}", text)
    lark = 'start: "(" item ("," item)? ")"\nitem: /[xyz]{1,3}/'
    text, _, _ = answer(grammars, tokenizer, {"grammar": lark}, seed)
    assert re.fullmatch(r"\([xyz]{1,3}(,[xyz]{1,3})?\)", text)


def test_matchers_of_one_constraint_do_not_disturb_each_other(grammars: Grammars) -> None:
    first = grammars.matcher({"choices": ["one", "two"]})
    second = grammars.matcher({"choices": ["one", "two"]})
    before = second.allowed()
    first.accept(int(np.flatnonzero(first.allowed())[0]))
    assert np.array_equal(second.allowed(), before)


def test_a_token_the_grammar_forbids_is_an_error(grammars: Grammars, tokenizer: Tokenizer) -> None:
    matcher = grammars.matcher({"choices": ["one", "two"]})
    with pytest.raises(InferenceError, match="could not follow its grammar"):
        matcher.accept(tokenizer.encode("x")[0])


def test_special_tokens_never_fit_as_text(grammars: Grammars, tokenizer: Tokenizer) -> None:
    allowed = grammars.matcher({"regex": "(?s:.)*"}).allowed()
    inside = [token for token in tokenizer.specials.values() if token not in tokenizer.end_ids]
    assert inside
    assert not allowed[inside].any()


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        ({"regex": "("}, "constraint regex is not valid"),
        ({"regex": "(?=a)b"}, "look-around"),
        ({"grammar": "start: nothing"}, "constraint grammar is not valid"),
        ({"json_schema": {"type": "wibble"}}, "constraint json_schema is not valid"),
        ({"json_schema": {"$ref": "#/nowhere"}}, "constraint json_schema is not valid"),
        ({"json_schema": [1]}, "no JSON schema"),
        ({"json_schema": {"patternProperties": {"a": {}}}}, "patternProperties"),
        ({"json_schema": {"anyOf": [{"items": {"patternProperties": {}}}]}}, "patternProperties"),
        ({"choices": []}, "at least one text"),
        ({"choices": [""]}, "none of them empty"),
        ({"regex": "a", "choices": ["a"]}, "exactly one"),
        ({"wish": "a"}, "no constraint 'wish'"),
    ],
)
def test_a_bad_constraint_is_refused_in_one_line(
    constraint: dict[str, Any], said: str, grammars: Grammars
) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        grammars.matcher(constraint)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_schema_nested_without_end_is_refused(grammars: Grammars) -> None:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(200):
        schema = {"type": "array", "items": schema}
    with pytest.raises(ValidationError, match="nested too deeply"):
        grammars.matcher({"json_schema": schema})


def test_a_property_may_be_called_pattern_properties() -> None:
    schema = {"type": "object", "properties": {"patternProperties": {"type": "boolean"}}}
    assert bounded_schema(schema) == schema


def test_lengths_are_capped_only_where_none_is_given() -> None:
    schema = {
        "type": "object",
        "properties": {
            "free": {"type": "string"},
            "own": {"type": "string", "maxLength": 9},
            "listed": {"type": "string", "enum": ["a"]},
            "many": {"type": ["array", "null"], "items": {"type": "string", "minLength": 9000}},
        },
    }
    bounded = bounded_schema(schema)["properties"]
    assert bounded["free"]["maxLength"] == 4000
    assert bounded["own"] == {"type": "string", "maxLength": 9}
    assert "maxLength" not in bounded["listed"]
    assert bounded["many"]["maxItems"] == 100
    assert bounded["many"]["items"]["maxLength"] == 9000
    assert "maxLength" not in schema["properties"]["free"]


def test_whole_numbers_end_where_no_bound_is_given(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    matcher = grammars.matcher({"json_schema": {"type": "integer"}})
    (zero,), (one,) = tokenizer.encode("0"), tokenizer.encode("1")
    matcher.accept(one)
    digits = 1
    while digits < 100 and matcher.allowed()[zero]:
        matcher.accept(zero)
        digits += 1
    assert digits == 19
    large = {"type": "integer", "minimum": 2 * 10**18}
    assert bounded_schema(large) == large
