"""One Ryzanstein runs models for another: its /v1 as a backend, with a real model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.agents.backends.openai import OpenAIBackend
from ryzanstein.agents.backends.pool import Pool
from ryzanstein.registry import BackendSpec, Resilience
from ryzanstein.resilience import Parties

ASKED = [{"role": "user", "content": "Which is a colour?"}]
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


async def _told(reason: str) -> None:
    raise AssertionError(reason)


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        ({"choices": ["red", "seven"]}, {"red", "seven"}),
        ({"json_schema": SCHEMA}, {'{"colour": "red"}', '{"colour": "blue"}'}),
        ({"regex": "[0-9]"}, set("0123456789")),
        ({}, None),
    ],
)
async def test_an_answer_of_a_real_model_has_the_form_asked_for(
    base_url: str, smollm2: Path, options: dict[str, Any], answers: set[str] | None
) -> None:
    spec = BackendSpec(name="other", kind="openai", url=f"{base_url}/v1", model="smollm2-135m")
    backend = OpenAIBackend(spec)
    assert "smollm2-135m at" in await backend.look()
    pool = Pool([backend], Resilience(), Parties(), _told)
    found = await pool.chat(ASKED, max_tokens=24, **options)
    assert found.model == "smollm2-135m"
    assert found.prompt_tokens > 5
    assert found.text
    assert answers is None or found.text in answers, json.dumps(found.text)
