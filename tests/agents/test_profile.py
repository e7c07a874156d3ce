"""The system prompt of an agent under a budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzanstein.agents.profile import Section, sections, system_prompt, team_of
from ryzanstein.registry import AgentProfile, Registry, load_registry

PROMPT = """\
You are POET, who writes verse. Keep to the metre.

Rhyme only where it helps.

## Method
1. Count syllables.

## Traps
- Forced rhymes, which make every reader wince and look away.

## Refuse
- Limericks.
"""
TOOLS = {"recall": "finds what was remembered", "read_file": "reads a text file"}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(user=False)


@pytest.fixture
def poet(registry: Registry) -> AgentProfile:
    changes = {"codename": "POET", "id": "41", "prompt_text": PROMPT}
    return registry.agent("SCRIBE").model_copy(update=changes)


def test_a_prompt_is_split_into_its_opening_and_titled_sections() -> None:
    opening, method, traps, refuse = sections(PROMPT)
    assert opening == Section(
        "", "You are POET, who writes verse. Keep to the metre.\n\nRhyme only where it helps."
    )
    assert method == Section("Method", "1. Count syllables.")
    assert [traps.title, refuse.title] == ["Traps", "Refuse"]


def test_a_prompt_without_sections_is_all_opening() -> None:
    assert sections("You are BRIEF.\n") == (Section("", "You are BRIEF."),)


def test_with_room_everything_is_there_in_order(poet: AgentProfile) -> None:
    text = system_prompt(poet, tools=TOOLS, team={"SCRIBE": "documentation"})
    marks = ["You are POET", "- recall:", "- read_file:", "## Method", "## Refuse", "- SCRIBE:"]
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)


def test_a_section_that_does_not_fit_is_left_out_whole(poet: AgentProfile) -> None:
    whole = system_prompt(poet)
    text = system_prompt(poet, budget=len(whole) - 1)
    assert "## Method" in text
    assert "Limericks" not in text and "## Refuse" not in text


def test_a_later_short_section_may_take_the_room_of_a_long_one(poet: AgentProfile) -> None:
    text = system_prompt(poet, budget=len(system_prompt(poet)) - 20)
    assert "Forced rhymes" in text or "Limericks" in text
    assert "## Method" in text


def test_a_tiny_budget_keeps_the_first_sentence_and_the_tools(poet: AgentProfile) -> None:
    text = system_prompt(poet, tools=TOOLS, budget=10)
    assert text.startswith("You are POET, who writes verse.\n\n## Tools\n- recall:")
    assert "metre" not in text and "## Method" not in text


def test_the_budget_may_be_counted_in_other_units(poet: AgentProfile) -> None:
    text = system_prompt(poet, budget=25, measure=lambda part: len(part.split()))
    assert len(text.split()) <= 25
    assert "## Method" in text


@given(budget=st.integers(min_value=200, max_value=4000))
def test_no_agent_exceeds_a_reasonable_budget(registry: Registry, budget: int) -> None:
    for agent in registry.agents[:5]:
        text = system_prompt(agent, tools={"recall": "finds facts"}, budget=budget)
        assert len(text) <= budget
        assert text.startswith(f"You are {agent.codename}")


def test_each_agent_shows_its_whole_opening_within_the_default_budget(registry: Registry) -> None:
    for agent in registry.agents:
        text = system_prompt(agent, tools=dict.fromkeys(agent.tools, "does what it says"))
        opening, method, *_ = sections(agent.prompt_text)
        assert text.startswith(opening.text)
        assert str(method) in text


def test_the_team_has_each_neighbour_once_with_its_domain(registry: Registry) -> None:
    team = team_of(registry.agent("CIPHER"), registry)
    assert list(team) == ["FORTRESS", "AXIOM", "APEX", "ECLIPSE"]
    assert team["AXIOM"] == "mathematics, proof"
