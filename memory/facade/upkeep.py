"""What keeps the memories in order: consolidation, its thresholds, and work in the background."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ryzanstein.memory.consolidate import never
from ryzanstein.memory.records import Calibration, ConsolidationReport, Memory, Proposal

if TYPE_CHECKING:
    from ryzanstein.memory.calibrate import Pair
    from ryzanstein.memory.upkeep import Upkeep

__all__ = ["Consolidation"]


class Consolidation:
    """The part of a store that merges, distils and calibrates."""

    _upkeep: Upkeep

    def consolidate(
        self, *, seconds: float = 1.0, dry_run: bool = False, stop: Callable[[], bool] = never
    ) -> ConsolidationReport:
        """Merges what says the same, marks what contradicts, distils what episodes repeat.

        Goes on where the last slice stopped, whoever did it, and ends after that time at most.

        Args:
            seconds: Length of the slice.
            dry_run: Only count what would be done.
            stop: Asked every few memories; True ends the slice.

        Raises:
            InvalidRequest: The time is not a number of seconds.
        """
        return self._upkeep.consolidate(seconds, dry_run=dry_run, stop=stop)

    def proposals(self, *, limit: int = 20) -> list[Proposal]:
        """Lists memories that are near each other and were not merged, and says why."""
        return self._upkeep.proposals(limit)

    def unmerge(self, id: str) -> list[Memory]:
        """Takes a merged memory apart: its sources hold again and are never merged again.

        Raises:
            InvalidRequest: There is no such memory, it was replaced, or it was not merged.
        """
        return self._upkeep.unmerge(id)

    def calibrate(self, pairs: Path | Iterable[Pair | Mapping[str, Any]]) -> Calibration:
        """Measures the thresholds of merging for this embedding model on labelled pairs.

        Args:
            pairs: A file (JSON Lines of a, b, same, or STS-B's tab-separated values), or pairs.

        Raises:
            InvalidRequest: A pair cannot be used, or there are too few that say the same or not.
        """
        return self._upkeep.calibrate(pairs)

    def thresholds(self) -> Calibration:
        """Returns the thresholds of merging in force; without `pairs` they are the defaults."""
        return self._upkeep.thresholds()

    def start_background(self, *, every: float = 1.0) -> None:
        """Settles tiers and consolidates in a thread until the store is closed; for servers.

        Args:
            every: Seconds between two slices of 50 ms.
        """
        self._upkeep.start(every)
