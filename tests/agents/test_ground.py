from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.running import ground


async def test_a_named_database_shows_tables_rows_and_the_spelling_of_values(
    services: Services, place: Path
) -> None:
    with closing(sqlite3.connect(place / "zoo.db")) as db, db:
        db.execute("CREATE TABLE animals (id INTEGER, name TEXT, kind TEXT)")
        rows = [(i, f"name {i}", "Red Panda" if i % 2 else "otter") for i in range(40)]
        db.executemany("INSERT INTO animals VALUES (?, ?, ?)", rows)
    async with services:
        around = await ground.look("How many otters are in zoo.db?", services)
    (named,) = around.named
    assert (named.path, named.kind) == ("zoo.db", "database")
    assert "animals.kind is one of: 'otter', 'Red Panda'" in named.text
    assert "name 1" in named.text
    assert "name 30" not in named.text


async def test_a_file_a_folder_and_a_repository_are_told_apart(
    services: Services, place: Path
) -> None:
    (place / "docs").mkdir()
    (place / "docs" / "a.md").write_text("alpha\n")
    (place / "app").mkdir()
    (place / "app" / "b.py").write_text("x = 1\n")
    subprocess.run(["git", "init", "-q", "."], cwd=place / "app", check=True)
    async with services:
        folder = await ground.look("What is in the docs folder?", services)
        file = await ground.look("What does a.md say?", services)
        repository = await ground.look("Which git branch is app on?", services)
        nothing = await ground.look("What is two and two?", services)
    assert [(one.path, one.kind) for one in folder.named] == [("docs", "folder")]
    assert [(one.path, one.kind, one.text) for one in file.named] == [
        ("docs/a.md", "file", "alpha")
    ]
    assert [(one.path, one.kind) for one in repository.named] == [("app", "repository")]
    assert nothing.named == ()


async def test_a_damaged_database_is_left_alone(services: Services, place: Path) -> None:
    (place / "bad.db").write_bytes(b"not a database at all")
    async with services:
        around = await ground.look("What is in bad.db?", services)
    assert around.named == ()
