"""Killed writers and crowds of them: what was acknowledged is there, once, and as a whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "durability.py"


def durability(url: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-P", str(SCRIPT), "--url", url, *arguments],
        capture_output=True,
        text=True,
        timeout=115,
    )
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["faults"] == [], done.stderr
    assert done.returncode == 0
    return result


@pytest.mark.parametrize("seed", ["5", "7"])
def test_a_hundred_kills_lose_nothing(sqlite_url: str, seed: str) -> None:
    result = durability(sqlite_url, "kills", "--kills", "50", "--seed", seed)
    assert result["kills"] == 50
    # Most kills hit a writer that was in the middle of something, and a lot was done between them.
    assert result["interrupted"] > 25 and result["acknowledged"] > 100
    assert result["forgotten"] > 0 and result["experiences"] > 0


def test_kills_lose_nothing_on_a_server(postgres_url: str) -> None:
    result = durability(postgres_url, "kills", "--kills", "15", "--seed", "6")
    assert result["interrupted"] > 5 and result["acknowledged"] > 25


def test_several_processes_lose_nothing_and_see_each_other(url: str) -> None:
    result = durability(url, "writers", "--processes", "4", "--writes", "75")
    assert (result["stored"], result["lost"], result["duplicated"]) == (300, 0, 0)
    assert result["seen_of_others"] > 0 and result["not_seen"] == 0
