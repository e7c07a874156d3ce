from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from ryzanstein.memory.database import Database
from ryzanstein.memory.jobs import Place, load_cursor, save_cursor

NOW = datetime(2025, 6, 1, tzinfo=UTC)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


def test_a_place_is_found_again(database: Database) -> None:
    place = Place(database, "walk", ["model"])
    assert place.row == 0
    place.reach(7)
    place.keep()
    assert Place(database, "walk", ["model"]).row == 7
    assert Place(database, "another walk", ["model"]).row == 0


def test_with_other_terms_a_walk_starts_anew(database: Database) -> None:
    place = Place(database, "walk", ["model", 0.9])
    place.reach(7)
    place.keep()
    assert Place(database, "walk", ["model", 0.8]).row == 0


def test_a_slower_process_does_not_take_the_place_back(database: Database) -> None:
    slow, fast = Place(database, "walk", []), Place(database, "walk", [])
    for place, row in ((fast, 9), (slow, 4)):
        place.reach(row)
        place.keep()
    assert slow.row == 9
    assert Place(database, "walk", []).row == 9


def test_a_place_that_has_not_moved_is_not_written(database: Database) -> None:
    Place(database, "walk", []).keep()
    with database.read() as connection:
        assert load_cursor(connection, "walk") == {}


@pytest.mark.parametrize("kept", ["{oops", "[1]", '{"row": "seven", "terms": []}', "{}"])
def test_what_cannot_be_read_starts_a_walk_anew(database: Database, kept: str) -> None:
    with database.write() as (connection, _):
        save_cursor(connection, "walk", {}, NOW)
        connection.exec_driver_sql(f"UPDATE cursors SET value = '{kept}'")
    assert Place(database, "walk", []).row == 0
