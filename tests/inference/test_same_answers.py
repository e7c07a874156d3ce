"""Every instruction set of this CPU gives the answers that the portable one gives.

Without quantised activations only the order of sums differs: 1e-5 of the logits' spread. With
them a sum at the edge of a code may round to its neighbour, and each layer carries that on: 1e-2
on these tiny models, 5e-2 on a real one, which is as far as quantisation itself moves the logits.
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

import numpy as np
import pytest

from ryzanstein.inference.kernels._linear import available_isas
from tests.inference import tiny

ANSWERS = Path(__file__).with_name("answers.py")
OTHERS = [isa for isa in available_isas() if isa != "portable"]
FORMS = {
    "float": ("llama", "F32", "float", 1e-5),
    "int8 of floats": ("llama", "F32", "int8", 1e-2),
    "int4 of floats": ("llama", "F32", "int4", 1e-2),
    "half": ("qwen2", "F16", "auto", 1e-2),
    "brain float": ("qwen2", "BF16", "auto", 1e-2),
    "Q8_0": ("qwen2", "Q8_0", "auto", 1e-2),
    "Q5_0": ("qwen2", "Q5_0", "auto", 1e-2),
    "Q4_0": ("llama", "Q4_0", "auto", 1e-2),
    "Q4_1": ("llama", "Q4_1", "auto", 1e-2),
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
    for number, (model_type, dtype, precision, _) in enumerate(FORMS.values()):
        shape = tiny.Shape(model_type=model_type, vocab=384)
        path = tiny.write_gguf(folder / f"{number}.gguf", shape, dtype)
        specs += [str(path), precision, "24"]
    return asker(specs)


@pytest.fixture(scope="module")
def real_model(smollm2: Path) -> Answer:
    return asker([str(smollm2), "float", "24", str(smollm2), "auto", "1"])


def distance(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    """Largest difference of the logits as a share of their spread."""
    wanted = np.array(theirs["logits"])
    return float(np.abs(np.array(ours["logits"]) - wanted).max() / np.ptp(wanted))


@pytest.mark.parametrize("isa", OTHERS)
def test_tiny_models_of_every_form_answer_the_same(isa: str, tiny_models: Answer) -> None:
    for name, ours, theirs in zip(FORMS, tiny_models(isa), tiny_models("portable"), strict=True):
        assert (ours["isa"], theirs["isa"]) == (isa, "portable")
        assert distance(ours, theirs) < FORMS[name][-1], name
        assert ours["ids"] == theirs["ids"], name


@pytest.mark.parametrize("isa", OTHERS)
def test_the_real_model_answers_the_same(isa: str, real_model: Answer) -> None:
    (exact, ours), (wanted, theirs) = real_model(isa), real_model("portable")
    assert exact["text"] == wanted["text"]
    assert distance(exact, wanted) < 1e-5
    assert ours["ids"] == theirs["ids"]
    assert distance(ours, theirs) < 5e-2
