"""What the servers of one process share: settings, registry, one engine, one store, one router.

Each is made on first use, because a client's first `tools/list` must not wait for a model, a
database or an embedding table that it may never need.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ryzanstein.config import Settings, load_settings
from ryzanstein.resilience import PARTIES

if TYPE_CHECKING:
    from ryzanstein.agents.clients.health import Health
    from ryzanstein.agents.external import External
    from ryzanstein.agents.routing.route import Router
    from ryzanstein.inference.catalogue import Catalogue
    from ryzanstein.inference.engine import Engine
    from ryzanstein.mcp_servers._audit import Audit
    from ryzanstein.memory import MemoryStore
    from ryzanstein.memory.runs import RunStore
    from ryzanstein.registry import Registry
    from ryzanstein.tools import ToolContext

__all__ = ["Shared", "shared"]

_Made = TypeVar("_Made")


class Shared:
    """The parts of one process, made on first use; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._made: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], _Made]) -> _Made:
        """Returns the part of that name, made by the first caller."""
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            return cast(_Made, self._made[name])

    def has(self, name: str) -> bool:
        """Says whether a part was made already."""
        return name in self._made

    def stay(self) -> None:
        """Says that this process is a server.

        Its memory is kept in order while nobody waits, and its backends and servers are looked at.
        """
        self.once("stays", lambda: True)
        self.health.start()

    def close_store(self) -> None:
        """Writes what was counted since the last write, when the process ends."""
        with self._lock:
            store = self._made.pop("store", None)
        if store is not None:
            store.close()

    def reset(self, settings: Settings | None = None, keep: Collection[str] = ()) -> None:
        """Closes and forgets everything but the parts to keep, for another configuration."""
        with self._lock:
            parts = self._made
            self._made = {name: part for name, part in parts.items() if name in keep}
            for name, part in reversed(list(parts.items())):
                close = None if name in keep else getattr(part, "close", None)
                if callable(close):
                    close()
            if settings is not None:
                self._made["settings"] = settings
        PARTIES.clear()

    @property
    def settings(self) -> Settings:
        """Settings of this process."""
        return self.once("settings", load_settings)

    @property
    def registry(self) -> Registry:
        """Models, servers and agents."""

        def make() -> Registry:
            from ryzanstein.registry import load_registry

            return load_registry(settings=self.settings)

        return self.once("registry", make)

    @property
    def engine(self) -> Engine:
        """The one engine of this process."""

        def make() -> Engine:
            from ryzanstein.inference.engine import Engine

            return Engine(self.settings, self.registry)

        return self.once("engine", make)

    @property
    def catalogue(self) -> Catalogue:
        """The models that are known and those that are here."""

        def make() -> Catalogue:
            from ryzanstein.inference.catalogue import Catalogue

            return Catalogue(self.settings, self.registry.models)

        return self.once("catalogue", make)

    @property
    def store(self) -> MemoryStore:
        """The one memory store of this process."""

        def make() -> MemoryStore:
            from ryzanstein.memory import open_store

            store = open_store(settings=self.settings)
            if self.has("stays"):
                store.start_background()
            return store

        return self.once("store", make)

    @property
    def runs(self) -> RunStore:
        """The table of runs, in the same database."""
        return self.store.runs

    @property
    def external(self) -> External:
        """The MCP servers of others whose tools join ours."""

        def make() -> External:
            from ryzanstein.agents.external import External
            from ryzanstein.tools import family_names

            folder = self.settings.data_dir / "external"
            registry = self.registry
            return External(registry.servers, folder, registry.resilience, family_names())

        return self.once("external", make)

    @property
    def health(self) -> Health:
        """Looks after backends and servers."""

        def make() -> Health:
            from ryzanstein.agents.clients.health import Health

            return Health(lambda: self.registry)

        return self.once("health", make)

    @property
    def audit(self) -> Audit:
        """The record of tool calls."""

        def make() -> Audit:
            from ryzanstein.mcp_servers._audit import Audit

            return Audit(self.settings.data_dir)

        return self.once("audit", make)

    @property
    def tool_context(self) -> ToolContext:
        """What tools called from outside an agent's run may touch."""

        def make() -> ToolContext:
            from ryzanstein.mcp_servers._calling import ask_server, keep
            from ryzanstein.tools import ToolContext

            return ToolContext(
                roots=self.settings.tool_roots,
                read_only=self.settings.read_only,
                search_url=self.settings.search_url,
                search_header=self.settings.search_header,
                store=cast(Any, self.store),
                ask_server=ask_server,
                on_call=keep,
            )

        return self.once("tool_context", make)

    @property
    def router(self) -> Router:
        """Routing without past experience; `route_task` gives it the prototypes of the moment."""

        def make() -> Router:
            from ryzanstein.agents.routing.route import Router
            from ryzanstein.memory.embed import get_embedder

            return Router(self.registry, get_embedder(self.settings.embedding), None)

        return self.once("router", make)


_SHARED = Shared()
atexit.register(_SHARED.close_store)


def shared() -> Shared:
    """Returns what this process shares."""
    return _SHARED
