"""Looks after backends and servers every few seconds, so that a run meets no surprise.

A look asks an OpenAI-compatible server for its models and connects to a server at a URL. What it
finds goes to the parties that runs look at too: three looks in vain open a circuit. What is in this
process needs no look, and a child process shows at its next call whether it lives.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING

import anyio

from ryzanstein.agents.backends.openai import OpenAIBackend
from ryzanstein.agents.clients.connections import Connections
from ryzanstein.errors import RyzansteinError, TimedOut
from ryzanstein.resilience import PARTIES, Parties, Party

if TYPE_CHECKING:
    from ryzanstein.registry import BackendSpec, Registry, ServerSpec

__all__ = ["Health", "Seen"]

log = logging.getLogger("ryzanstein.agents")

LOOK_SECONDS = 5.0
_KINDS = {
    "local": "our engine",
    "openai": "not looked at yet",
    "sampling": "the model of a client that lends it",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """How one backend or server does.

    Attributes:
        name: Such as `backend:local`.
        state: ok, failing, open, half-open or slow.
        detail: What it is, or why it does not do.
        age: Seconds since it was looked at; None where only calls tell.
    """

    name: str
    state: str
    detail: str
    age: float | None

    @property
    def usable(self) -> bool:
        """Whether a call would be let through."""
        return self.state != "open"


class Health:
    """Looks at what the registry names.

    Args:
        registry: Gives backends, servers and how often to look; asked for at each look.
        parties: Take what is found.
    """

    def __init__(self, registry: Callable[[], Registry], parties: Parties = PARTIES) -> None:
        self._registry = registry
        self._parties = parties
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._looking = threading.Lock()

    def start(self) -> None:
        """Looks again and again in a thread of its own, until `close`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="health", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends the looking, after a look that is under way."""
        self._stop.set()

    def _watch(self) -> None:
        seconds = 1.0
        while not self._stop.wait(seconds):
            try:
                seconds = self._registry().resilience.health_seconds
                self.look()
            except RyzansteinError as error:
                log.warning("The look at backends and servers failed: %s", error)

    def look(self) -> None:
        """Looks at everything once, all at the same time; blocks for at most some seconds."""
        registry = self._registry()
        if not (_remote_backends(registry) or _remote_servers(registry)):
            return  # all is in this process: no event loop every few seconds for nothing
        with self._looking:
            anyio.run(self._look)

    async def _look(self) -> None:
        registry = self._registry()
        async with anyio.create_task_group() as group:
            for backend in _remote_backends(registry):
                group.start_soon(self._look_at_backend, registry, backend)
            for server in _remote_servers(registry):
                group.start_soon(self._look_at_server, registry, server)

    async def _look_at_backend(self, registry: Registry, spec: BackendSpec) -> None:
        party = self._parties.get(f"backend:{spec.name}", registry.resilience)
        await _looked(party, OpenAIBackend(spec).look)

    async def _look_at_server(self, registry: Registry, spec: ServerSpec) -> None:
        async def connect() -> str:
            connections = Connections(registry, seconds=LOOK_SECONDS)
            await connections.open()
            try:
                await connections.client(spec.name)
            finally:
                await connections.close()
            return str(spec.url)

        await _looked(self._parties.get(f"server:{spec.name}", registry.resilience), connect)

    def seen(self) -> list[Seen]:
        """How everything does by what looks and calls have found; looks at nothing."""
        registry = self._registry()
        known = {party.name: party for party in self._parties}
        plain = {f"backend:{one.name}": _KINDS[one.kind] for one in _enabled(registry)}
        here = {f"server:{one.name}" for one in registry.servers if one.transport == "memory"}
        plain |= {
            f"server:{one.name}": one.url or one.command or ""
            for one in registry.servers
            if one.transport != "memory"
        }
        gone = {f"server:{one.name}": one.command for one in registry.servers if _gone(one)}
        found = []
        for name in dict.fromkeys([*plain, *known]):
            if name in gone:
                detail = f"there is no program {gone[name]}; correct `command` in the registry"
                found.append(Seen(name, "failing", detail, None))
            elif name in known and name not in here:
                found.append(_seen(known[name], plain.get(name, "")))
            elif name not in here:
                found.append(Seen(name, "ok", plain[name], None))
        return found

    def stale(self) -> bool:
        """Whether something that can be looked at was not, for two turns."""
        registry = self._registry()
        most = 2 * registry.resilience.health_seconds
        parties = {f"backend:{one.name}" for one in _remote_backends(registry)}
        parties |= {f"server:{one.name}" for one in _remote_servers(registry)}
        ages = [one.age for one in self.seen() if one.name in parties]
        return any(age is None or age > most for age in ages)


def _enabled(registry: Registry) -> list[BackendSpec]:
    return [one for one in registry.backends if one.enabled]


def _remote_backends(registry: Registry) -> list[BackendSpec]:
    return [one for one in _enabled(registry) if one.kind == "openai"]


def _remote_servers(registry: Registry) -> list[ServerSpec]:
    return [one for one in registry.servers if one.transport == "http"]


def _gone(spec: ServerSpec) -> bool:
    return spec.command is not None and shutil.which(spec.command) is None


async def _looked(party: Party, look: Callable[[], Awaitable[str]]) -> None:
    try:
        with anyio.fail_after(LOOK_SECONDS):
            party.looked(await look())
    except TimeoutError:
        party.looked(TimedOut(f"{party.name} did not answer within {LOOK_SECONDS:g} s."))
    except RyzansteinError as error:
        party.looked(error)


def _seen(party: Party, plain: str) -> Seen:
    detail = party.detail or plain
    if party.state != "ok" and party.reason:
        rest = f", tried again in {party.rest:.0f} s" if party.rest else ""
        detail = f"{party.reason}{rest}"
    age = None if party.checked is None else round(time() - party.checked, 1)
    return Seen(party.name, party.state, detail, age)
