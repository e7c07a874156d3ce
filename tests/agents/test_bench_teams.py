from __future__ import annotations

from pathlib import Path
from typing import Any

from ryzanstein.agents.bench.team_scene import AMOUNTS, ERRORS, make_scene
from ryzanstein.agents.bench.team_tasks import TASKS
from ryzanstein.agents.bench.teams import measure
from ryzanstein.errors import AgentInvocationError


async def test_no_check_is_passed_by_the_numbers_of_a_list(tmp_path: Path) -> None:
    async def ask(task: str, team: str | None) -> dict[str, Any]:
        return {"answer": "\n".join(f"{at}. I do not know." for at in range(1, 12))}

    found = await measure(ask, lambda: _fresh(tmp_path))
    assert found["tasks"] == len(TASKS) == 20
    assert found["team"]["parts_right"] == found["one"]["parts_right"] == 0


async def test_right_parts_are_counted_and_a_failure_is_an_outcome(tmp_path: Path) -> None:
    async def ask(task: str, team: str | None) -> dict[str, Any]:
        if team is None:
            raise AgentInvocationError("The model is gone.")
        return {"answer": "410.9, 12 errors, port 8472", "tokens": 7, "parts": [{"agent": "APEX"}]}

    found = await measure(ask, lambda: _fresh(tmp_path), limit=1)
    assert found["team"]["tasks_solved"] == 1
    assert found["team"]["tokens"] == 7
    assert found["outcomes"]["one"][0]["fault"].startswith("The model is gone.")


def test_the_scene_holds_what_the_checks_expect(tmp_path: Path) -> None:
    make_scene(tmp_path)
    assert (tmp_path / "app.log").read_text().count("ERROR") == ERRORS == 12
    assert len((tmp_path / "sales.csv").read_text().splitlines()) == len(AMOUNTS) + 1 == 6


def _fresh(folder: Path) -> Path:
    """A fresh folder for one task."""
    place = folder / str(len(list(folder.iterdir())))
    place.mkdir()
    return place
