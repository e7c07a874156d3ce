"""Change notices: who listens to which server hears that a resource or a list changed.

    updated, listed ─> the server's buses ─┬─> a stream of subscriptions/listen   from 2026-07-28 on
    any thread          one a server       └─> a session that subscribed          2025 clients

A listener hears only what is its own subject's, and what all subjects share. A notice says that
something changed, never what: whoever hears it reads again, so that equal ones that wait are one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import anyio
import anyio.lowlevel
from mcp.server.session import ServerSession
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated, ServerEvent

from ryzanstein.errors import InvalidRequest
from ryzanstein.subject import current

__all__ = ["Bus", "Subscriber", "announce", "heard", "listed", "updated"]

log = logging.getLogger("ryzanstein.mcp_servers")

MOST_SUBSCRIPTIONS = 1000
# What these serve no subject has for itself.
_SHARED_SERVERS = frozenset({"model", "inference"})

# What a tool changes: resources by server, with names of its arguments or of its answer in braces;
# a server alone stands for the list of its resources.
_MEMORY_LISTS = ("memory", "analytics analytics://dashboard")
_ROUTING = ("memory memory://prototypes", "memory memory://examples")
_MODEL = ("model", "model model://{name}", "inference inference://status")
_GENERATED = ("inference inference://status",)
CHANGES: Mapping[str, tuple[str, ...]] = {
    "remember": ("memory memory://{id}", "memory memory://{corrects}", *_MEMORY_LISTS),
    "forget": ("memory memory://{id}", "memory experience://{id}", *_MEMORY_LISTS, *_ROUTING),
    "record_experience": ("memory experience://{id}", *_MEMORY_LISTS, *_ROUTING),
    "rate_experience": ("memory experience://{id}", "memory memory://{id}", *_ROUTING),
    "consolidate_memory": _MEMORY_LISTS,
    "pull_model": _MODEL,
    "load_model": _MODEL,
    "unload_model": _MODEL,
    "remove_model": _MODEL,
    "convert_model": _MODEL,
    "rate_run": ("orchestrator run://{run_id}", "analytics analytics://dashboard"),
    "generate_text": _GENERATED,
    "chat": _GENERATED,
    "complete_code": _GENERATED,
}


@dataclass(eq=False, slots=True)
class _Ear:
    subject: str
    loop: asyncio.AbstractEventLoop
    hear: Callable[[ServerEvent], None]


class Bus:
    """The listeners of one server; events may come from any thread."""

    def __init__(self, server: str) -> None:
        self._ears: dict[_Ear, None] = {}
        self._shared = server in _SHARED_SERVERS
        _BUSES[server].add(self)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Calls a listener in the loop of this call, until what is returned is called."""
        ear = _Ear(current().key, asyncio.get_running_loop(), listener)
        self._ears[ear] = None
        return lambda: self._ears.pop(ear, None)

    def is_heard(self) -> bool:
        """Says whether the current subject listens."""
        mine = current().key
        return any(ear.subject == mine for ear in list(self._ears))

    async def publish(self, event: ServerEvent) -> None:
        """Tells an event, and lets the listeners hear it."""
        self.tell(event)
        await anyio.lowlevel.checkpoint()

    def tell(self, event: ServerEvent) -> None:
        """Tells an event to the current subject's listeners, or to all where all share it."""
        mine = current().key
        for ear in list(self._ears):
            if self._shared or ear.subject == mine:
                try:
                    ear.loop.call_soon_threadsafe(ear.hear, event)
                except RuntimeError:  # its loop ended without saying so
                    self._ears.pop(ear, None)


_BUSES: dict[str, WeakSet[Bus]] = defaultdict(WeakSet)


class Subscriber:
    """A session of a client that knows no subscriptions/listen.

    Args:
        bus: The server's.
        session: Sends on the session's own stream.
    """

    def __init__(self, bus: Bus, session: ServerSession) -> None:
        self._session = session
        self._uris: set[str] = set()
        self._waiting: dict[ServerEvent, None] = {}
        self._sending: asyncio.Task[None] | None = None
        self.close = bus.subscribe(self._hear)

    def add(self, uri: str) -> None:
        """Tells the client from now on when this resource changes.

        Raises:
            InvalidRequest: There are too many.
        """
        if len(self._uris) >= MOST_SUBSCRIPTIONS:
            raise InvalidRequest(
                f"A session subscribes to at most {MOST_SUBSCRIPTIONS} resources.",
                hint="Unsubscribe from some.",
            )
        self._uris.add(uri)

    def remove(self, uri: str) -> None:
        """Tells the client no longer."""
        self._uris.discard(uri)

    def _hear(self, event: ServerEvent) -> None:
        if isinstance(event, ResourceUpdated) and event.uri not in self._uris:
            return
        self._waiting[event] = None
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._waiting:
                event = next(iter(self._waiting))
                del self._waiting[event]
                if isinstance(event, ResourceUpdated):
                    await self._session.send_resource_updated(event.uri)
                elif isinstance(event, ResourcesListChanged):
                    await self._session.send_resource_list_changed()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self.close()
        except Exception:
            # Nobody waits for this task; a client without its notices reads when it likes.
            log.warning("A session gets no more notices.", exc_info=True)
            self.close()
        finally:
            self._sending = None


def heard(servers: Iterable[str]) -> bool:
    """Says whether anybody of the current subject listens to any of these servers."""
    return any(bus.is_heard() for server in servers for bus in _BUSES[server])


def updated(server: str, *uris: str) -> None:
    """Says that resources of a server changed."""
    for bus in _BUSES[server]:
        for uri in uris:
            bus.tell(ResourceUpdated(uri))


def listed(server: str) -> None:
    """Says that the list of a server's resources changed."""
    for bus in _BUSES[server]:
        bus.tell(ResourcesListChanged())


def announce(tool: str, arguments: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    """Says what a call of a tool has changed.

    Args:
        tool: Its name.
        arguments: What it was called with.
        answer: The structured content of what it answered.
    """
    known = {
        name: value for name, value in {**arguments, **answer}.items() if isinstance(value, str)
    }
    for change in CHANGES.get(tool, ()):
        server, _, uri = change.partition(" ")
        if not uri:
            listed(server)
            continue
        try:
            updated(server, uri.format_map(known))
        except KeyError:  # an argument that was left out
            continue
