"""JSON that runs out of tokens is led to its end, whatever the model would rather say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from ryzanstein.config import Settings
from ryzanstein.inference import Engine
from ryzanstein.inference.constrain import Grammars
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.landing import SLACK, parts
from ryzanstein.inference.sample import Sampler, Sampling
from ryzanstein.inference.tokenizer import Tokenizer, load_tokenizer

TREE: dict[str, Any] = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "label": {"type": "string"},
                "below": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            },
            "required": ["label"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
CALLS: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "name": {"const": name},
                    "arguments": {
                        "type": "object",
                        "properties": {
                            "text": {"type": "string"},
                            "how many": {"type": "integer"},
                            "share": {"type": "number"},
                            "unit": {"enum": ["kilometres", "miles", None]},
                            "lists": {"type": "array", "items": {"type": "number"}},
                            "more": {"type": "object", "additionalProperties": {}},
                        },
                        "required": ["text", "share"],
                        "additionalProperties": False,
                    },
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for name in ("measure", "add_up")
        ]
    },
}
SCHEMAS = {
    "calls": CALLS,
    "tree": TREE,
    "anything": {},
    "text": {"type": "string", "minLength": 3},
    "number": {"type": "number"},
    "pattern": {"type": "string", "pattern": "^[a-z]{2,9}-[0-9]{4}$"},
    "numbers": {"type": "array", "items": {"type": "integer", "minimum": 100}, "minItems": 3},
}


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Tokenizer:
    return load_tokenizer(open_checkpoint(smollm2))


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    home = tmp_path_factory.mktemp("home")
    made = Engine(Settings(home, home, home, threads=1))
    yield made
    made.close()


def rambled(
    grammars: Grammars, tokenizer: Tokenizer, schema: dict[str, Any], limit: int, seed: int
) -> str:
    """What logits without sense say under a schema, in at most so many tokens."""
    matcher = grammars.matcher({"json_schema": schema})
    sampler = Sampler(Sampling(temperature=1, seed=seed))
    random = np.random.default_rng(seed)
    ids: list[int] = []
    while not matcher.finished and len(ids) < limit:
        values = random.normal(size=tokenizer.vocab_size).astype(np.float32)
        # Ends, quotes and brackets are what such a model says least.
        values[:40] -= 3
        new = matcher.forced() or [sampler.choose(values, matcher.allowed(limit - len(ids)))]
        if new[0] in tokenizer.end_ids:
            break
        for token in new:
            matcher.accept(token)
            ids.append(token)
    assert len(ids) <= limit
    return tokenizer.decode(ids)


@pytest.mark.parametrize(("spare", "seed"), [(0, 1), (9, 2)])
@pytest.mark.parametrize("name", SCHEMAS)
def test_logits_without_sense_end_within_their_tokens(
    name: str, spare: int, seed: int, grammars: Grammars, tokenizer: Tokenizer
) -> None:
    schema = SCHEMAS[name]
    whole, free = (len(tokenizer.encode(text)) for text in parts(schema))
    text = rambled(grammars, tokenizer, schema, whole + free + SLACK + spare, seed)
    jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize("model", ["tiny-bitnet", "tiny-mamba", "tiny-rwkv7"])
def test_a_model_that_knows_no_json_ends_it_all_the_same(model: str, engine: Engine) -> None:
    request = {
        "model": model,
        "prompt": "ROMEO:\n",
        "max_tokens": 160,
        "constraint": {"json_schema": CALLS},
    }
    result = engine.generate(request)
    assert result.finish_reason == "length"
    jsonschema.validate(json.loads(result.text), CALLS)


def test_an_answer_with_tokens_to_spare_is_left_alone(
    grammars: Grammars, tokenizer: Tokenizer
) -> None:
    free, bound = (grammars.matcher({"json_schema": CALLS}) for _ in range(2))
    for token in tokenizer.encode('[{"name": "measure", "arguments": {"text": "a'):
        assert np.array_equal(free.allowed(), bound.allowed(400))
        free.accept(token)
        bound.accept(token)
    assert bound.allowed(4).sum() < 10 < free.allowed().sum()


def test_sizes_and_references_that_no_memory_holds_cost_nothing() -> None:
    endless = {"type": "string", "minLength": 10**10}
    row = {"type": "array", "items": endless, "minItems": 10**10}
    whole, free = parts({"type": "array", "items": row, "minItems": 10**10})
    assert len(whole) < 10**6
    assert len(free) < 10**6
    every = {f"p{at}": {"$ref": "#/$defs/node"} for at in range(300)}
    node = {"type": "object", "properties": every}
    whole, _ = parts({"$defs": {"node": node}, "$ref": "#/$defs/node"})
    assert '"p0": {"p0": ' in whole
