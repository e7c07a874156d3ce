"""Greedy text of the real SmolLM2-135M, token by token as llama.cpp makes it from the same file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.model import build_model

GOLDEN = Path(__file__).parent / "data" / "smollm2_greedy.json"


@pytest.mark.parametrize("threads", [1, 2])
def test_greedy_tokens_equal_llama_cpp(smollm2: Path, threads: int) -> None:
    with build_model(open_checkpoint(smollm2), threads=threads, context_tokens=512) as model:
        for case in json.loads(GOLDEN.read_text(encoding="utf-8")):
            state, made = model.new_state(), []
            logits = model.forward(case["prompt_ids"], state)
            for _ in case["ids"]:
                made.append(int(logits[0].argmax()))
                logits = model.forward(made[-1:], state)
            assert made == case["ids"], case["prompt"]
