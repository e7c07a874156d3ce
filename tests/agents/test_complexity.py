from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzanstein.agents.routing.complexity import estimate

TASKS: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parent / "data" / "complexity_tasks.yaml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(("part", "least"), [("development", 0.97), ("held_out", 0.88)])
def test_levels_are_those_people_gave(part: str, least: float) -> None:
    tasks = [(task, level) for level, listed in TASKS[part].items() for task in listed]
    right = sum(estimate(task).level == level for task, level in tasks)
    assert right / len(tasks) >= least


def test_what_may_be_spent_grows_with_the_level() -> None:
    asked = ("What is 2 + 2?", "Compare Go and Rust", "Prove that 7 is prime")
    direct, reasoned, searched = map(estimate, asked)
    assert (direct.level, reasoned.level, searched.level) == ("direct", "reasoned", "searched")
    assert direct.steps < reasoned.steps < searched.steps
    assert direct.candidates < reasoned.candidates < searched.candidates
    assert direct.temperature < reasoned.temperature < searched.temperature
    assert direct.reasons == () and searched.reasons == ("a proof",)


def test_a_text_that_was_brought_along_costs_no_time() -> None:
    for text in ("and then 1, " * 100_000, "[A-Z + " * 50_000, " \n" * 100_000, "x" * 500_000):
        start = time.process_time()
        estimate(text)
        # Half a second is a hundred times too much; a pattern that explodes takes minutes.
        assert time.process_time() - start < 0.5


@settings(max_examples=100, deadline=None)
@given(task=st.text(max_size=300))
def test_any_text_has_a_level(task: str) -> None:
    found = estimate(task)
    assert found.level in {"direct", "reasoned", "searched"}
    assert found == estimate(task)
