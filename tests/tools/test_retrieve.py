"""Tools for a step: found by meaning, words and name, also tools that are not this project's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from ryzanstein.tools import all_tools
from ryzanstein.tools.retrieve import rank

STEPS = Path(__file__).parent / "data" / "steps.yaml"


@dataclass(frozen=True)
class Foreign:
    """A tool of a server that this project has never seen."""

    name: str
    description: str
    family: str = "weather"
    example: Mapping[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("step", "gold"),
    [
        ("Read notes.txt", "read_file"),
        ("calculate 15 percent of 240", "evaluate_expression"),
        ("the average price in shop.db", "query_sqlite"),
        ("download the page https://example.org/", "fetch_url"),
    ],
)
def test_a_plain_step_finds_its_tool(step: str, gold: str) -> None:
    assert gold in [tool.name for tool in rank(step, all_tools(), 3)]


def test_at_most_eight_unless_asked_otherwise() -> None:
    tools = all_tools()
    assert len(rank("read a file", tools)) == 8
    assert len(rank("read a file", tools, 3)) == 3
    every = rank("read a file", tools, len(tools))
    assert {tool.name for tool in every} == {tool.name for tool in tools}


def test_nothing_asked_leaves_the_order_as_it_is() -> None:
    tools = all_tools()
    assert rank("  ", tools, 4) == list(tools[:4])
    assert rank("read a file", []) == []


def test_words_that_no_tool_has_are_no_error() -> None:
    assert len(rank("\udce4 zzzz \x00", all_tools(), 2)) == 2


def test_foreign_tools_are_found_by_name_and_description() -> None:
    foreign = Foreign("weather.forecast-daily", "Tells how warm it will be in a city tomorrow.")
    tools = [*all_tools(), foreign]
    assert rank("the weather forecast for Oslo", tools)[0] is foreign
    assert rank("how warm will it be in Lisbon tomorrow?", tools)[0] is foreign


def test_eight_tools_are_enough_for_nearly_every_step() -> None:
    """Two steps and more a tool, as people word them; half of them nothing was chosen on."""
    tools = all_tools()
    names = {tool.name for tool in tools}
    steps = yaml.safe_load(STEPS.read_text(encoding="utf-8"))
    found = [
        [tool.name for tool in rank(step, tools, len(tools))].index(gold)
        for gold, worded in steps.items()
        if gold in names
        for step in worded
    ]
    assert len(found) > 100
    for among, share in ((1, 0.55), (3, 0.80), (8, 0.92)):
        assert sum(place < among for place in found) / len(found) >= share, among
