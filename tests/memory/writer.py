"""A process that remembers numbered texts and prints each id after it was acknowledged."""

from __future__ import annotations

import sys

from ryzanstein.memory.store import MemoryStore


def main() -> None:
    url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with MemoryStore(url) as store:
        for number in range(count):
            kept = store.remember(f"{name} writes note {number} about topic {number % 7}")
            store.record_experience(
                task=f"{name} does {number}", agent="APEX", outcome="success", fitness=0.5
            )
            sys.stdout.write(f"{kept.id}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
