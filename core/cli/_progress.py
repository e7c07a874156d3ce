"""Live progress on stderr: one line that changes on a terminal, a line a stage elsewhere."""

from __future__ import annotations

import contextlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

__all__ = ["Bytes", "Live", "Steps"]


# What a run says first, before its id.
_START = "start: "


class Live:
    """Shows the latest message of a run; use as a context manager and pass `report` as callback.

    Attributes:
        run_id: The run's, once it has said it.
    """

    def __init__(self) -> None:
        self._status: Any = None
        self._stage = ""
        self.run_id = ""

    def __enter__(self) -> Self:
        """Starts the line, where there is a terminal."""
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True, highlight=False).status("starting", spinner="line")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Removes the line."""
        if self._status is not None:
            self._status.stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Takes the line away while something else stands there."""
        if self._status is not None:
            self._status.stop()
        try:
            yield
        finally:
            if self._status is not None:
                self._status.start()

    async def report(self, progress: float, total: float | None, message: str | None) -> None:
        """Shows a message of the form "stage: what happens"."""
        text = " ".join((message or "").split())
        if text.startswith(_START):
            self.run_id = text.removeprefix(_START)
        if self._status is not None:
            from rich.text import Text

            self._status.update(Text(text[:200]))
            return
        stage, colon, _ = text.partition(":")
        if colon and stage not in {self._stage, "generate"}:
            self._stage = stage
            print(text[:200], file=sys.stderr)


class _Bar(ABC):
    """What bars have in common: one on a terminal, none elsewhere."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._bar: Any = None
        self._task: Any = None

    @abstractmethod
    def _columns(self) -> tuple[Any, ...]:
        """What stands beside the bar, of rich.progress."""

    def __enter__(self) -> Self:
        """Starts the bar, where there is a terminal."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (TextColumn("{task.description}"), BarColumn(), *self._columns())
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self._text, total=None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.stop()


class Bytes(_Bar):
    """A bar for bytes that come or go; use as a context manager and pass `report` as callback.

    Args:
        name: Of what comes or goes.
        verb: What is done with it.
    """

    def __init__(self, name: str, verb: str = "Bringing") -> None:
        super().__init__(f"{verb} {name}")
        self._tenth = -1

    def _columns(self) -> tuple[Any, ...]:
        from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

        return DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()

    async def report(self, progress: float, total: float | None, message: str | None) -> None:
        """Moves the bar, as a callback of a server's tool."""
        self.show(progress, total)

    def show(self, done: float, total: float | None) -> None:
        """Moves the bar; without a terminal, a line every tenth of the way."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)
            return
        tenth = int(10 * done / total) if total else 0
        if self._tenth < 0:
            print(self._text, file=sys.stderr)
        if tenth > self._tenth:
            self._tenth = tenth
            whole = f" of {total / 1e6:.0f}" if total else ""
            print(f"{done / 1e6:.0f}{whole} MB", file=sys.stderr)


class Steps(_Bar):
    """A bar for things done one after the other; use as a context manager and pass `report`.

    Args:
        text: What is done.
    """

    def _columns(self) -> tuple[Any, ...]:
        from rich.progress import MofNCompleteColumn

        return (MofNCompleteColumn(),)

    async def report(self, done: int, total: int, name: str) -> None:
        """Moves the bar, as a callback of what is asynchronous."""
        self.show(done, total, name)

    def show(self, done: int, total: int | None, name: str = "") -> None:
        """Moves the bar to what comes next; without a terminal, a line for each that has a name."""
        if self._bar is not None:
            text = f"{self._text} {name}".strip()
            self._bar.update(self._task, description=text, completed=done, total=total)
        elif name:
            print(f"{self._text} {done + 1} of {total}: {name}", file=sys.stderr)
