"""Tools for a step: found by meaning, words and name, also tools that are not this project's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from ryzanstein.tools import all_tools
from ryzanstein.tools.retrieve import rank


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
        ("how many commits are there", "git_inspect"),
        ("the average price in shop.db", "query_sqlite"),
        ("download the page https://example.org/", "fetch_url"),
    ],
)
def test_a_plain_step_finds_its_tool_first(step: str, gold: str) -> None:
    assert rank(step, all_tools())[0].name == gold


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
