"""Consolidation by several processes at once, one of which is killed in the middle."""

from __future__ import annotations

import subprocess
import sys
import time

from ryzanstein.memory.records import Draft
from ryzanstein.memory.store import MemoryStore

PAIRS = 40
WORK = """
import sys
from ryzanstein.memory.store import MemoryStore
with MemoryStore(sys.argv[1]) as store:
    while not store.consolidate(seconds=0.2).done:
        pass
"""


def process(url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-P", "-c", WORK, url])


def test_processes_that_are_killed_or_race_merge_everything_once(sqlite_url: str) -> None:
    texts = [
        f"Room {number} of the house {also}has {number + 2} windows."
        for also in ("", "also ")
        for number in range(PAIRS)
    ]
    with MemoryStore(sqlite_url) as store:
        # Short-term memory has room for a hundred.
        stored = store.remember_many([Draft(text, tier="semantic") for text in texts])
        killed, *others = [process(sqlite_url) for _ in range(3)]
        deadline = time.monotonic() + 60
        while store.stats().superseded == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        killed.kill()
        killed.wait()
        assert [other.wait(timeout=60) for other in others] == [0, 0]
        while not store.consolidate(seconds=10).done:
            pass
        current = store.list(limit=1000).memories
        assert sorted(memory.text for memory in current) == sorted(texts[PAIRS:])
        for memory in current:
            sources = [link.memory for link in store.links(memory.id)]
            assert {source.superseded_by for source in sources} == {memory.id}
            assert len(sources) == 2
        assert all(store.get(memory.id) is not None for memory in stored)
