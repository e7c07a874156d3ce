"""Changes by other processes: every client that starts a server of its own shares one database.

A thread looks now and then whether another process wrote, and tells the listeners of this one. It
belongs to the store that it looks at: it begins when something of that is first listed or
subscribed to, and ends before the store is closed.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from ryzanstein.errors import RyzansteinError
from ryzanstein.mcp_servers import _notices
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.subject import Subject, acting, current

if TYPE_CHECKING:
    from ryzanstein.memory.changes import Changes, ChangesOfOthers

__all__ = ["SECONDS", "Watch", "begin"]

log = logging.getLogger("ryzanstein.mcp_servers")

SECONDS = 1.0
_SERVERS = ("memory", "orchestrator", "analytics")


class Watch:
    """Looks after the store of one subject.

    Args:
        subject: Whose store it is.
        changes: What others changed in it.
    """

    def __init__(self, subject: Subject, changes: ChangesOfOthers) -> None:
        self._subject = subject
        self._changes = changes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ryzanstein-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it; the store may be closed then."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with acting(self._subject):
            while not self._over.wait(SECONDS):
                try:
                    if _notices.heard(_SERVERS):
                        _tell(self._changes.look())
                except RyzansteinError as error:
                    # Locked or full for a while; the next look sees the same changes.
                    log.info("Changes of others were not looked at: %s", error)


def begin() -> None:
    """Looks from now on what others change in the current subject's store."""
    shared().own("watch", lambda: Watch(current(), shared().store.changes_of_others()))


def _tell(changes: Changes | None) -> None:
    if changes is None:
        return
    _notices.updated("memory", *(f"memory://{id}" for id in changes.memories))
    _notices.updated("memory", *(f"experience://{id}" for id in changes.experiences))
    _notices.updated("orchestrator", *(f"run://{id}" for id in changes.runs))
    # What was deleted is in no list of changes, so the lists may differ whatever those say.
    _notices.listed("memory")
    if changes.runs:
        _notices.listed("orchestrator")
    _notices.updated("analytics", "analytics://dashboard")
