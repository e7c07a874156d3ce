"""What the servers of one process share: settings, registry and one engine for all.

Each is made on first use, because a client's first `tools/list` must not wait for a model, a
database or an embedding table that it may never need.

    once   of the process      settings registry engine catalogue health audit
    own    of each subject     store runs router tool_context: whatever holds or knows its data

The owner's own parts live as long as the process. Those of another subject are closed when enough
others were served since, and opened again for its next request.
"""

from __future__ import annotations

import atexit
import json
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from ryzanstein.config import Settings, load_settings
from ryzanstein.resilience import PARTIES
from ryzanstein.subject import current

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
MAX_SUBJECTS: Final = 16


@dataclass(eq=False)
class _Parts:
    """The parts of one subject.

    Attributes:
        users: Requests and runs that are at work with them.
    """

    made: dict[str, Any] = field(default_factory=dict)
    users: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def own(self, name: str, make: Callable[[], Any]) -> Any:
        with self.lock:
            if name not in self.made:
                self.made[name] = make()
            return self.made[name]

    def close(self) -> None:
        with self.lock:
            made, self.made = self.made, {}
        _close(made.values())


def _close(parts: Iterable[Any]) -> None:
    """Closes what can be, the latest made first, since it may use what was made before."""
    for part in reversed(list(parts)):
        close = getattr(part, "close", None)
        if callable(close):
            close()


class Shared:
    """The parts of one process, made on first use; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._made: dict[str, Any] = {}
        self._subjects: OrderedDict[str, _Parts] = OrderedDict()

    def once(self, name: str, make: Callable[[], _Made]) -> _Made:
        """Returns the part of that name, made by the first caller."""
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            return cast(_Made, self._made[name])

    def own(self, name: str, make: Callable[[], _Made]) -> _Made:
        """Returns the current subject's part of that name, made by the first caller."""
        key = current().key
        if not key:
            return self.once(name, make)
        parts = self._parts(key)
        parts.own("folder", self._make_folder)
        return cast(_Made, parts.own(name, make))

    def _make_folder(self) -> Path:
        """Makes the folder of a subject, which is for the server alone, and notes whose it is."""
        from ryzanstein.errors import StorageError

        folder = self.settings.own_dir
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            about = json.dumps({"name": current().name})
            (folder / "subject.json").write_text(about, encoding="utf-8")
        except OSError as error:
            raise StorageError(
                f"The folder of a subject cannot be made: {error.strerror}.",
                hint="Make room in the data directory, or make it writable.",
            ) from error
        return folder

    def has(self, name: str) -> bool:
        """Says whether a part of the process was made already."""
        return name in self._made

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps what belongs to the current subject open while work goes on with it."""
        parts = self._take()
        try:
            yield
        finally:
            _close(self._give_back(parts))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Does so in an event loop, which does not wait for what is closed afterwards."""
        import anyio
        import anyio.to_thread

        parts = self._take()
        try:
            yield
        finally:
            idle = self._give_back(parts)
            if idle:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(_close, idle)

    def _take(self) -> _Parts | None:
        key = current().key
        if not key:
            return None
        with self._lock:
            parts = self._parts(key)
            parts.users += 1
            return parts

    def _give_back(self, parts: _Parts | None) -> list[_Parts]:
        """Returns what is to be closed: of the least recently served subjects beyond the bound."""
        if parts is None:
            return []
        with self._lock:
            parts.users -= 1
            keys = [key for key, one in self._subjects.items() if not one.users]
            beyond = max(0, len(self._subjects) - MAX_SUBJECTS)
            return [self._subjects.pop(key) for key in keys[:beyond]]

    def _parts(self, key: str) -> _Parts:
        with self._lock:
            parts = self._subjects.setdefault(key, _Parts())
            self._subjects.move_to_end(key)
            return parts

    def stay(self) -> None:
        """Says that this process is a server.

        Its memory is kept in order while nobody waits, and its backends and servers are looked at.
        """
        self.once("stays", lambda: True)
        self.health.start()

    def close_stores(self) -> None:
        """Writes what was counted since the last write, when the process ends."""
        with self._lock:
            store = self._made.pop("store", None)
            subjects, self._subjects = self._subjects, OrderedDict()
        for parts in (store, *subjects.values()):
            if parts is not None:
                parts.close()

    def reset(self, settings: Settings | None = None, keep: Collection[str] = ()) -> None:
        """Closes and forgets everything but the parts to keep, for another configuration."""
        with self._lock:
            parts, subjects = self._made, self._subjects
            self._made = {name: part for name, part in parts.items() if name in keep}
            self._subjects = OrderedDict()
            _close(part for name, part in parts.items() if name not in keep)
            if settings is not None:
                self._made["settings"] = settings
        _close(subjects.values())
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
        """The current subject's memory store; no other is open on its database here."""

        def make() -> MemoryStore:
            from ryzanstein.memory import open_store

            store = open_store(settings=self.settings)
            if self.has("stays"):
                store.start_background()
            return store

        return self.own("store", make)

    @property
    def runs(self) -> RunStore:
        """The table of runs, in the same database."""
        return self.store.runs

    @property
    def external(self) -> External:
        """The MCP servers of others whose tools join ours; none for who may not use them.

        They run with the rights, the files and the accounts of the owner.
        """
        allowed = current().admin

        def make() -> External:
            from ryzanstein.agents.external import External
            from ryzanstein.tools import family_names

            folder = self.settings.data_dir / "external"
            registry = self.registry
            servers = registry.servers if allowed else ()
            return External(servers, folder, registry.resilience, family_names())

        return self.once("external", make) if allowed else self.own("no_external", make)

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
        admin = current().admin

        def make() -> ToolContext:
            from ryzanstein.mcp_servers._calling import ask_server, keep
            from ryzanstein.tools import ToolContext

            roots = self.settings.tool_roots
            if current().key:
                roots[0].mkdir(parents=True, exist_ok=True, mode=0o700)
            return ToolContext(
                roots=roots,
                allowed=None if admin else _for_all(),
                read_only=self.settings.read_only,
                search_url=self.settings.search_url,
                search_header=self.settings.search_header,
                store=cast(Any, self.store),
                ask_server=ask_server,
                on_call=keep,
            )

        return self.own("tool_context" if admin else "tool_context for all", make)

    @property
    def router(self) -> Router:
        """Routing for the current subject; `route_task` gives it the prototypes of the moment."""

        def make() -> Router:
            from ryzanstein.agents.routing.route import Router
            from ryzanstein.memory.embed import get_embedder

            return Router(self.registry, get_embedder(self.settings.embedding), None)

        router = self.once("router", make)
        return self.own("own_router", router.apart) if current().key else router


# They look at what else runs on this machine, and with which settings.
_ADMIN_TOOLS: Final = frozenset({"environment_facts", "list_processes", "process_info"})


def _for_all() -> list[str]:
    from ryzanstein.tools import all_tools

    return [tool.name for tool in all_tools() if tool.name not in _ADMIN_TOOLS]


_SHARED = Shared()
atexit.register(_SHARED.close_stores)


def shared() -> Shared:
    """Returns what this process shares."""
    return _SHARED
