"""For whom work is done: what one subject keeps is never found by another.

    owner      stdio, the command line, the server's own token     data_dir
    another    a token of its own, or of an issuer                 data_dir/subjects/KEY

Whatever belongs to somebody asks here, so that nothing has to be handed through every call: the
database, saved states and file roots of the settings, the parts of a process, prompts in memory.
Tasks and worker threads take the value over from whoever starts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OWNER", "Subject", "acting", "current", "own_folder"]


@dataclass(frozen=True, slots=True)
class Subject:
    """Somebody whose data is kept apart.

    Attributes:
        key: Names its folder, its schema and its share of what is in memory; "" is the owner.
        name: For people.
        admin: May change what all of them share: models, caches, servers of others.
    """

    key: str = ""
    name: str = ""
    admin: bool = False


OWNER = Subject(admin=True)
_CURRENT: ContextVar[Subject] = ContextVar("ryzanstein_subject", default=OWNER)


def current() -> Subject:
    """Returns the subject of the work at hand."""
    return _CURRENT.get()


@contextmanager
def acting(subject: Subject) -> Iterator[None]:
    """Does what is within for a subject."""
    before = _CURRENT.set(subject)
    try:
        yield
    finally:
        _CURRENT.reset(before)


def own_folder(data_dir: Path) -> Path:
    """Returns the directory of what the current subject keeps."""
    key = current().key
    return data_dir / "subjects" / key if key else data_dir
