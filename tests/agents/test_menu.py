from __future__ import annotations

from pathlib import Path

import pytest

from ryzanstein.agents.clients.services import Services, ToolSpec
from ryzanstein.agents.running import menu, prompting
from ryzanstein.agents.running.ground import Named, look
from ryzanstein.agents.running.telling import spoken_of
from ryzanstein.registry import Registry

FAMILIES = (
    *("code", "data", "database", "files", "git", "logic", "mathematics", "memory"),
    *("system", "text", "web"),
)


async def shown(task: str, registry: Registry, families: tuple[str, ...] = FAMILIES) -> list[str]:
    """The menu of an agent that may use every tool there is."""
    agent = registry.agent("OMNISCIENT").model_copy(update={"tools": families})
    async with Services(registry, names=("tools",)) as services:
        around = await look(task, services)
        allowed = await menu.allowed_tools(agent, around.named, services)
        assert len(allowed) >= 50
        computes = prompting.asks_to_compute(task)
        found = await menu.menu(task, around.named, allowed, services, computes=computes)
    return [tool.name for tool in found]


@pytest.mark.parametrize(
    ("task", "wanted", "never"),
    [
        ("What is 17.5% of 2,348.64?", "evaluate_expression", "convert_units"),
        ("Convert 5 miles to kilometres", "convert_units", "delete_file"),
        ("Find the derivative of x**2 * sin(x)", "differentiate", "write_file"),
        ("Prove that p implies p or q always holds", "prove_formula", "write_file"),
        ("Tell me what is in notes.txt", "read_file", "edit_file"),
        ("Delete the file notes.txt", "delete_file", "git_restore"),
        ("Which licence does the web page https://example.org/ have?", "fetch_url", "query_sqlite"),
        ("Who wrote the last commit in this repository?", "git_inspect", "git_commit"),
    ],
)
async def test_of_sixty_tools_a_few_that_fit_are_shown(
    place: Path, declared: Registry, task: str, wanted: str, never: str
) -> None:
    (place / "notes.txt").write_text("one\n")
    found = await shown(task, declared)
    assert wanted in found and never not in found
    assert 1 <= len(found) <= menu.MOST


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("Update notes.txt with the new date", {"write_file:notes.txt", "edit_file:notes.txt"}),
        ("Please delete notes.txt", {"delete_file:notes.txt"}),
        ("What does notes.txt say?", set()),
    ],
)
def test_a_task_allows_what_it_asks_for_to_the_files_it_names(
    task: str, expected: set[str]
) -> None:
    named = [Named("notes.txt", "file", "one"), Named("src", "folder", "")]
    assert set(menu.granted(task, named)) == expected


def test_a_word_that_many_tools_say_tells_of_none() -> None:
    tools = [ToolSpec(f"open_{at}", "text", "Open a window of the house.") for at in range(5)]
    tools.append(ToolSpec("paint_wall", "text", "Put paint on a wall of the house."))
    assert spoken_of("Open the windows of the house", tools) == set()
    assert spoken_of("Painting the walls", tools) == {"paint_wall"}


async def test_tools_of_another_server_are_shown_where_they_are_found(declared: Registry) -> None:
    own = ToolSpec("hash_text", "text", "Compute a checksum of a text.")
    theirs = ToolSpec("weather.forecast", "weather", "Say how the weather will be.")
    assert menu._is_for(theirs, [], set())
    assert not menu._is_for(own, [], set())
    assert not menu._is_for(theirs, [Named("shop.db", "database", "")], set())
