"""Every instruction set of this CPU gives the bits of the portable one, and so the same text.

scripts/check_portable runs the same on emulated CPUs that have no AVX at all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.inference.kernels._linear import available_isas
from tests.inference import tiny

ANSWERS = Path(__file__).with_name("answers.py")
OTHERS = [isa for isa in available_isas() if isa != "portable"]
FORMS = {
    "float": ("llama", "F32", "float"),
    "int8 of floats": ("llama", "F32", "int8"),
    "int4 of floats": ("llama", "F32", "int4"),
    "half": ("qwen2", "F16", "auto"),
    "brain float": ("qwen2", "BF16", "auto"),
    "Q8_0": ("qwen2", "Q8_0", "auto"),
    "Q5_0": ("qwen2", "Q5_0", "auto"),
    "Q4_0": ("llama", "Q4_0", "auto"),
    "Q4_1": ("llama", "Q4_1", "auto"),
}

Answer = Callable[[str], list[dict[str, Any]]]


def asker(specs: list[str]) -> Answer:
    """Makes a function that asks a process on an instruction set once and keeps its answers."""
    kept: dict[str, list[dict[str, Any]]] = {}

    def ask(isa: str) -> list[dict[str, Any]]:
        if isa not in kept:
            environment = {**os.environ, "RYZANSTEIN_ISA": isa}
            command = [sys.executable, "-P", str(ANSWERS), *specs]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            kept[isa] = json.loads(done.stdout)
        return kept[isa]

    return ask


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Answer:
    folder = tmp_path_factory.mktemp("forms")
    specs = []
    for number, (model_type, dtype, precision) in enumerate(FORMS.values()):
        shape = tiny.Shape(model_type=model_type, vocab=384)
        path = tiny.write_gguf(folder / f"{number}.gguf", shape, dtype)
        specs += [str(path), precision, "24"]
    return asker(specs)


@pytest.fixture(scope="module")
def real_model(smollm2: Path) -> Answer:
    return asker([str(smollm2), "float", "8", str(smollm2), "auto", "40"])


@pytest.mark.parametrize("isa", OTHERS)
def test_tiny_models_of_every_form_answer_the_same(isa: str, tiny_models: Answer) -> None:
    for name, ours, theirs in zip(FORMS, tiny_models(isa), tiny_models("portable"), strict=True):
        assert (ours["isa"], theirs["isa"]) == (isa, "portable")
        assert ours["ids"] == theirs["ids"], name
        assert ours["logits"] == theirs["logits"], name


@pytest.mark.parametrize("isa", OTHERS)
def test_the_real_model_answers_the_same(isa: str, real_model: Answer) -> None:
    for ours, theirs in zip(real_model(isa), real_model("portable"), strict=True):
        assert ours["text"] == theirs["text"]
        assert ours["logits"] == theirs["logits"]
