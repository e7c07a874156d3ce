"""What a store does about what it holds: merges, marks, distils, and says what it would do.

One object over consolidation, distillation, calibration and the thread that runs the first two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ryzanstein.memory.background import Background
from ryzanstein.memory.calibrate import Pair, calibrate
from ryzanstein.memory.checks import checked_seconds
from ryzanstein.memory.consolidate import Consolidation, never
from ryzanstein.memory.database import Database
from ryzanstein.memory.distil import Distillation
from ryzanstein.memory.near import Neighbours
from ryzanstein.memory.records import Calibration, ConsolidationReport, Memory, Proposal
from ryzanstein.memory.tiers import Tiers

if TYPE_CHECKING:
    from ryzanstein.memory.embed import Embedder
    from ryzanstein.memory.vectors.sync import SyncedIndex

__all__ = ["Upkeep"]


class Upkeep:
    """Keeps one store in order.

    Args:
        database: The store's database.
        synced: Index of the memories' vectors.
        embedder: The store's embedding model.
        tiers: Opens transactions and settles tiers.
    """

    def __init__(
        self, database: Database, synced: SyncedIndex, embedder: Embedder, tiers: Tiers
    ) -> None:
        neighbours = Neighbours(database, synced, embedder)
        self._database = database
        self._embedder = embedder
        self._tiers = tiers
        self._consolidation = Consolidation(database, neighbours, tiers)
        self._distillation = Distillation(database, neighbours, tiers)
        self._background: Background | None = None

    def consolidate(
        self, seconds: float = 1.0, *, dry_run: bool = False, stop: Callable[[], bool] = never
    ) -> ConsolidationReport:
        """Distils, then consolidates; half of the time is for each, more where one has less to do.

        Raises:
            InvalidRequest: The time is no number of seconds.
        """
        began = time.monotonic()
        distilled = self._distillation.run(checked_seconds(seconds) / 2, dry_run=dry_run, stop=stop)
        left = seconds - (time.monotonic() - began)
        walked = self._consolidation.run(max(left, 0), dry_run=dry_run, stop=stop)
        left = seconds - (time.monotonic() - began)
        if left > 0 and not distilled.done and not dry_run:
            distilled = distilled + self._distillation.run(left, stop=stop)
        return ConsolidationReport(
            looked_at=walked.looked_at + distilled.looked_at,
            proposed=walked.proposed,
            merged=walked.merged,
            contradictions=walked.contradictions,
            distilled=distilled.distilled,
            done=walked.done and distilled.done,
            seconds=round(time.monotonic() - began, 4),
        )

    def proposals(self, limit: int) -> list[Proposal]:
        """Lists pairs that are near and were not joined, and why."""
        return self._consolidation.proposals(limit)

    def unmerge(self, id: str) -> list[Memory]:
        """Takes a merged memory apart again."""
        return self._consolidation.unmerge(id)

    def calibrate(self, pairs: Path | Iterable[Pair | Mapping[str, Any]]) -> Calibration:
        """Measures the embedding model's thresholds on labelled pairs and keeps them."""
        return calibrate(self._database, self._embedder, pairs)

    def thresholds(self) -> Calibration:
        """Returns the thresholds in force."""
        return self._consolidation.thresholds()

    def start(self, every: float) -> None:
        """Starts working in the background at intervals, where it has not begun yet."""
        if self._background is None:
            self._background = Background(
                [
                    lambda seconds, stop: self._tiers.settle(seconds),
                    lambda seconds, stop: self.consolidate(seconds, stop=stop),
                ],
                every=every,
            )
        self._background.start()

    def close(self) -> None:
        """Ends the work in the background."""
        if self._background is not None:
            self._background.close()
