from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.memory.records import Draft
from ryzanstein.memory.store import MemoryStore

PROGRAM = Path(__file__).with_name("full_disk.py")
SIZE = "4000000"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a process had to say that filled its disk twice."""
    folder = tmp_path_factory.mktemp("full")
    export = folder / "export.jsonl"
    with MemoryStore("sqlite://") as store:
        store.remember_many([Draft(f"imported {number} {'word ' * 20}") for number in range(60)])
        store.export_jsonl(export)
    disk = folder / "disk"
    disk.mkdir()
    small = ["bwrap", "--dev-bind", "/", "/", "--size", SIZE, "--tmpfs", str(disk)]
    done = subprocess.run(
        [*small, sys.executable, "-P", str(PROGRAM), str(disk), str(export)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("action", ["remember", "correct", "experience", "import", "again"])
def test_a_write_that_does_not_fit_says_that_the_disk_is_full(result: Any, action: str) -> None:
    said = result["said"][action]
    assert "memory.db: the disk is full" in said and "Free some space" in said


def test_an_export_that_does_not_fit_leaves_nothing_behind(result: Any) -> None:
    assert "No space left on device" in result["said"]["export"]
    assert result["left"] == []


def test_a_full_disk_is_still_searched(result: Any) -> None:
    assert result["found"]


def test_with_some_space_again_it_goes_on_and_nothing_was_lost(result: Any) -> None:
    assert result["lost"] == [] and result["ids"] > 20
    assert result["imported"] == 60
    assert result["stored"] == result["ids"] + 60
