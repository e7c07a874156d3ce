from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ryzanstein.memory.store import MemoryStore


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'memory.db'}"


@pytest.fixture
def store(url: str) -> Iterator[MemoryStore]:
    with MemoryStore(url) as opened:
        yield opened
