"""What is done to an index in the background, by one thread that ends when nothing is left.

    load     the graph from the index file, when the store was opened
    encode   the vectors in a compressed form, for scans
    build    a graph of everything: at the threshold, when a quarter of it is tombstones, and when
             half as many again wait for it
    fold     stale slots into the graph; what was removed is overwritten there at once
    save     the index file: the vectors first, all after a build and when much has changed since

Each holds a lock for a few milliseconds at a time. Among several processes one builds; the others
search by scan until there is a file to open.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ryzanstein.errors import StorageError
from ryzanstein.memory.vectors.choice import QUERIES, SAMPLE, choose
from ryzanstein.memory.vectors.forms import fit_form
from ryzanstein.memory.vectors.graph import Graph
from ryzanstein.memory.vectors.index_format import BadIndexFile, Chosen
from ryzanstein.memory.vectors.live import SLICE, LiveVectors
from ryzanstein.memory.vectors.slots import SlotSet
from ryzanstein.memory.vectors.table import BLOCK, best

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.vectors.index_file import IndexFile, Stored

    _Part = tuple[NDArray[np.int64], NDArray[np.float32]]

__all__ = ["Upkeep"]

_LOG = logging.getLogger(__name__)
# Adding 8 vectors to a graph of a million takes 6 ms; a search may wait for them.
_FOLD_SLICE = 8
# Changes since the file was saved, as a share of all, from which it is saved again.
_SAVE_SHARE = 0.05
_RETRY_SECONDS = 600.0
_LOOK_SECONDS = 2.0
# Vectors from which the form of the codes is chosen, again when there are so many times more.
_SAMPLE = SAMPLE + QUERIES
_GROWN = 4
# Those that need no training on the sample: a store is opened and closed within a second.
_FORMS = ("float32", "int8", "matryoshka-128", "matryoshka-64", "bits")
# A graph grows by half in less time when it is built anew, with nobody waiting for its lock.
_MANY = 16
# Queries, and true neighbours of each, with which a graph is measured.
_QUERIES = 300
_NEAREST = 10
_SPARSE = 10


class Upkeep:
    """The background work of one index.

    Args:
        live: What it works on.
        graph_from: Rows from which there is a graph.
        pending: Stale slots from which they are folded in.
        threads: Threads that build; 0 means all CPUs.
        file: The index file; None means that there is none.
    """

    def __init__(
        self,
        live: LiveVectors,
        *,
        graph_from: int,
        pending: int,
        threads: int,
        file: IndexFile | None,
    ) -> None:
        self._live = live
        self._graph_from = graph_from
        self._pending = pending
        self._threads = threads
        self._file = file
        self._stored: Stored | None = None  # its graph is still to be loaded
        self.removed = False  # the graph still holds a vector that was removed
        self.unsaved = 0  # changes since the file was saved; -1: there is a graph and no file
        self._saved = False  # there is a file, with or without a graph
        self.elsewhere = False  # another process builds
        self.stamp: tuple[int, int] | None = None  # of the file that was opened or written last
        self.trouble = ""
        self._choice: Chosen | None = None
        self._chosen_for = 0
        self._retry_at = 0.0
        self._failed = False  # all work waits until then
        self._doing = ""
        self._worker: threading.Thread | None = None
        self._stopping = threading.Event()

    def restore(self, stored: Stored) -> None:
        """Takes over what an index file holds; its graph is loaded in the background."""
        live, tables = self._live, stored.tables
        with live.lock.write():
            live.table.restore(tables.rows.copy(), stored.blocks)
            live.revision = stored.header.revision
            self._choice, self._chosen_for = stored.header.codes, len(live.table)
            self._saved = True
            if stored.header.graph:
                self._stored = stored
                live.watch(live.table.size)
            self.start()

    def changed(self, count: int, *, removed: bool = False) -> None:
        """Takes note of so many changes; the lock is held for writing."""
        if self.unsaved >= 0:
            self.unsaved += count
        self.removed |= removed and self._live.graph is not None
        self.start()

    def start(self) -> None:
        """Starts the thread where there is something to do; the lock is held for writing."""
        busy = self._worker is not None and self._worker.is_alive()
        if not busy and not self._stopping.is_set() and self._next() is not None:
            self._worker = threading.Thread(target=self._work, name="memory-index", daemon=True)
            self._worker.start()

    def retry(self) -> None:
        """Starts again with what had to wait for another process or for room on the disk."""
        if self._retry_at and time.monotonic() >= self._retry_at:
            with self._live.lock.write():
                self._retry_at, self._failed = 0.0, False
                self.start()

    def wait(self) -> None:
        """Waits until nothing is left to do."""
        while (worker := self._worker) is not None and worker.is_alive():
            worker.join()

    def close(self) -> None:
        """Stops after the slice it is at."""
        self._stopping.set()
        self.wait()
        if self._file is not None:
            self._file.release()

    def stats(self) -> dict[str, Any]:
        """Says what is still to do; the lock is held."""
        live, graph = self._live, self._live.graph
        building = self._doing == "build"
        return {
            "rows": len(live.table),
            "graph": 0 if graph is None else len(graph),
            "tombstones": 0 if graph is None else graph.tombstones,
            "width": 0 if graph is None else graph.width,
            "pending": live.waiting(),
            "codes": self._choice.why if self._choice is not None else "",
            "doing": self._doing,
            "built": live.watched if building else None,
            "unsaved": self.unsaved,
            "trouble": self.trouble,
        }

    def _next(self) -> Callable[[], None] | None:
        """Chooses the next thing to do."""
        if self._failed:
            return None
        jobs = (
            (self._stored is not None, self._load),
            (self._wants_file(), self._save),
            (self._wants_codes(), self._encode),
            (self._wants_build(), self._build),
            (self._wants_fold(), self._fold),
            (self._wants_save(), self._save),
        )
        return next((job for wanted, job in jobs if wanted), None)

    def _wants_codes(self) -> bool:
        table = self._live.table
        if len(table) < self._graph_from:
            return False
        return table.coded < table.size or len(table) > _GROWN * self._chosen_for

    def _wants_build(self) -> bool:
        live = self._live
        if time.monotonic() < self._retry_at and self.elsewhere:
            return False
        if live.graph is None:
            return len(live.table) >= self._graph_from
        if len(live.stale) > max(len(live.graph) // 2, _MANY * self._pending):
            return True
        return live.graph.tombstones > max(len(live.graph), self._pending) // 4

    def _wants_fold(self) -> bool:
        live = self._live
        return live.graph is not None and (self.removed or len(live.stale) > self._pending)

    def _wants_file(self) -> bool:
        """Says whether the next start should find the vectors at least."""
        live = self._live
        if self._file is None or self._saved or live.graph is not None or live.revision < 0:
            return False
        return len(live.table) >= self._graph_from and time.monotonic() >= self._retry_at

    def _wants_save(self) -> bool:
        live = self._live
        if self._file is None or live.graph is None or time.monotonic() < self._retry_at:
            return False
        # While all is still being read for the first time nothing says what a file would hold.
        if live.revision < 0:
            return False
        return self.unsaved < 0 or self.unsaved > max(self._pending, _SAVE_SHARE * len(live.table))

    def _work(self) -> None:
        while True:
            with self._live.lock.write():
                job = self._next()
                # Reading all vectors from the database again would take longer than this.
                if self._stopping.is_set() and not self._wants_file():
                    job = None
                if job is None:
                    self._worker, self._doing = None, ""
                    return
                self._doing = job.__name__.removeprefix("_")
            try:
                job()
            except Exception as error:
                # Nobody waits for this thread: searches go on by scan, and all is told.
                _LOG.exception("The work at an index failed: %s", self._doing)
                self._give_up(f"{self._doing}: {type(error).__name__} {error}".strip())

    def _give_up(self, trouble: str) -> None:
        """Leaves the index as if the work had not begun, to begin again after a while."""
        live = self._live
        with live.lock.write():
            self.trouble, self._failed = trouble, True
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            if self._doing == "fold":  # the graph may be half changed
                live.drop_graph()
            self._stored, live.folding = None, np.zeros(0, dtype=np.int64)
            live.watch(None)
        if self._file is not None:
            self._file.release()

    def _load(self) -> None:
        live, stored = self._live, self._stored
        assert self._file is not None and stored is not None
        try:
            graph = self._file.load_graph(stored, self._threads)
        except BadIndexFile as error:
            graph, self.trouble = None, str(error)
        with live.lock.write():
            self._stored = None
            if graph is not None:
                size, tables = len(stored.tables.rows), stored.tables
                live.graph, live.stale = graph, SlotSet()
                live.stale.add(np.flatnonzero(tables.outdated()))
                live.stale.add(live.changed.array())
                live.stale.add(np.arange(size, live.table.size))
                self.removed = len(live.stale) > 0
            live.watch(None)

    def _encode(self) -> None:
        live = self._live
        with live.lock.read():
            slots = live.table.alive()
        drawn = slots[:: max(1, len(slots) // _SAMPLE)]
        parts = []
        for start in range(0, len(drawn), SLICE):
            with live.lock.read():
                parts.append(live.table.vectors(drawn[start : start + SLICE]))
        sample = np.concatenate(parts)
        if self._choice is None or self._chosen_for * _GROWN < len(slots):
            choice = choose(sample, rows=len(slots), names=_FORMS)
            self._choice = Chosen(choice.form.name, choice.form.factor, choice.why)
            self._chosen_for = len(slots)
        form = fit_form(self._choice.name, sample)
        form.factor = self._choice.factor
        with live.lock.write():
            live.table.encode_with(form)
        while not self._stopping.is_set():
            with live.lock.write():
                if live.table.coded >= live.table.size:
                    return
                live.table.encode(SLICE)

    def _build(self) -> None:
        live = self._live
        if self._file is not None and not self._claim(self._file):
            return
        graph = Graph(live.table.dimension, live.table.size + BLOCK, self._threads)
        with live.lock.write():
            live.watch(0)
            # They are queries that the graph has not seen, until they are added last.
            held = live.table.alive()[:: max(_SPARSE, len(live.table) // _QUERIES)]
        while not self._stopping.is_set():
            with live.lock.write():
                start, end = live.watched or 0, live.table.size
                if start == end and not len(held):
                    live.graph, live.stale = graph, live.changed
                    live.watch(None)
                    self.removed, self.unsaved = len(live.stale) > 0, -1
                    return
                end = min(start + SLICE, end)
                slots = np.setdiff1d(live.table.alive(start, end), held)
                vectors = live.table.vectors(slots)
                live.watch(end)
            graph.add(slots, vectors)
            if start == end:
                self._tune(graph, held)
                held = held[:0]
        live.watch(None)

    def _tune(self, graph: Graph, held: NDArray[np.int64]) -> None:
        """Lets the graph measure itself with vectors that it has not seen, and adds them."""
        live = self._live
        with live.lock.read():
            held = held[live.table.rows(held) >= 0]
            vectors = live.table.vectors(held)
        nearest = []
        for vector in vectors:
            with live.lock.read():
                slots, scores = live.table.nearest(vector, 2 * _NEAREST)
            others = ~np.isin(slots, held)
            slots, scores = slots[others], scores[others]
            nearest.append(set(slots[best(scores, _NEAREST)].tolist()))
        graph.tune(vectors, nearest)
        graph.add(held, vectors)

    def _claim(self, file: IndexFile) -> bool:
        """Says whether this process may build; else it looks again in a moment."""
        self.elsewhere = not file.hold() or file.stamp() not in (None, self.stamp)
        if self.elsewhere:
            file.release()
            self._retry_at = time.monotonic() + _LOOK_SECONDS
        return not self.elsewhere

    def _fold(self) -> None:
        live = self._live
        while not self._stopping.is_set():
            with live.lock.write():
                graph, slots = live.graph, live.stale.array()[:_FOLD_SLICE]
                if graph is None or not len(slots):
                    self.removed = False
                    return
                live.stale.discard(slots)
                live.folding = slots
                used = live.table.rows(slots) >= 0
                vectors = live.table.vectors(slots[used])
            started = time.perf_counter()
            graph.remove(slots[~used])
            graph.add(slots[used], vectors)
            with live.lock.write():
                live.folding = np.zeros(0, dtype=np.int64)
            # As long as it has held the graph: a search that waited comes first.
            self._stopping.wait(time.perf_counter() - started)

    def _save(self) -> None:
        live, file = self._live, self._file
        assert file is not None
        if not file.hold():
            self._retry_at = time.monotonic() + _LOOK_SECONDS
            return
        if file.stamp() not in (None, self.stamp) and file.revision() >= live.revision:
            if live.graph is not None:  # else the graph in it is worth taking over
                self.stamp = file.stamp()
            self.unsaved, self._saved = 0, True
            file.release()
            return
        with live.lock.write():
            size, revision, graph = live.table.size, live.revision, live.graph
            stale = live.stale.holds(np.arange(size))
            live.watch(size)
            before, self.unsaved = self.unsaved, 0
        parts = live.parts(size)
        if graph is not None:
            parts = self._until_stopped(parts)
        try:
            stored = file.write(revision, size, parts, graph, stale, self._choice)
            self.stamp, self.trouble, self._saved = file.stamp(), "", True
            self._map(stored)
        except StorageError as error:
            self.trouble, self.unsaved = str(error), before
            self._retry_at = time.monotonic() + _RETRY_SECONDS
        finally:
            with live.lock.write():
                live.watch(None)
            file.release()

    def _map(self, stored: Stored) -> None:
        """Puts mapped blocks in the place of those in memory, and forgets what went meanwhile."""
        live, rows = self._live, stored.tables.rows
        for number in range(len(rows) // BLOCK):
            with live.lock.write():
                changed = live.changed.array()
                live.table.replace_block(number, stored.blocks[number], changed)
        with live.lock.read():
            changed = live.changed.array()
            gone = rows[changed][rows[changed] != live.table.rows(changed)]
        if self._file is not None and len(gone):
            self._file.wipe(gone[gone >= 0])

    def _until_stopped(self, parts: Iterator[_Part]) -> Iterator[_Part]:
        for part in parts:
            if self._stopping.is_set():
                raise InterruptedError("the store is being closed")
            yield part
