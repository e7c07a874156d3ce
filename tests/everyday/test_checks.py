from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from .checks import Scene, day, names, number
from .scene import make_scene
from .tasks import HELD_BACK, KINDS, TASKS


def _scene(task: str = "What is 20 % of 50?") -> Scene:
    return Scene(root=Path(), task=task, run_python=lambda code: (True, ""))


@pytest.mark.parametrize(
    "answer", ["It is 10.", "20 % of 50 is **10**", "10.0", "= 10,", "10 euros"]
)
def test_a_number_is_found_however_it_is_written(answer: str) -> None:
    assert number(10)(answer, _scene()) == ""


@pytest.mark.parametrize("answer", ["100", "It is 1.", "file10", "1 2 3 4 5 6 7 8 9 10", ""])
def test_a_wrong_number_or_a_listing_fails(answer: str) -> None:
    assert number(10)(answer, _scene())


def test_thousands_separators_do_not_matter() -> None:
    assert number(13608.16)("You owe 13,608.16 euros.", _scene()) == ""


@pytest.mark.parametrize(
    "answer", ["9 May", "May 9th", "2000-05-09", "on the 9th of May", "9 may."]
)
def test_a_date_is_found_however_it_is_written(answer: str) -> None:
    assert day(date(2000, 5, 9))(answer, _scene()) == ""


@pytest.mark.parametrize("answer", ["19 May", "May 95", "9 March"])
def test_another_date_fails(answer: str) -> None:
    assert day(date(2000, 5, 9))(answer, _scene())


def test_naming_a_wrong_one_besides_fails() -> None:
    check = names("Ann", never=("Bob",))
    assert check("ann", _scene()) == ""
    assert check("Ann or Bob", _scene())


def test_thirty_tasks_with_unique_ids_cover_every_kind() -> None:
    ids = [task.id for task in (*TASKS, *HELD_BACK)]
    assert len(TASKS) == 30
    assert len(ids) == len(set(ids))
    assert {task.kind for task in TASKS} == {task.kind for task in HELD_BACK} == set(KINDS)


def test_the_scene_is_made_whole(tmp_path: Path) -> None:
    make_scene(tmp_path)
    for name in ("shop.db", "webapp/.git", "logs/app.log", "data/sales.csv", "src/median.py"):
        assert (tmp_path / name).exists(), name
