"""Starts the servers of clients' configurations as the client would, and lists their tools.

    the entry's command, arguments and variables + a minimal PATH + the client's time limit
    -> initialize -> tools/list -> names, or what went wrong

Programs with windows do not see the PATH of a shell, which is why a server that starts in a
terminal may not start in a client.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from ryzanstein.cli._clients import CLIENTS, TOKEN_INPUT
from ryzanstein.cli._config_files import Section, entries_of, read
from ryzanstein.cli._continue import SECRET, is_local, owner_token
from ryzanstein.cli._entries import starts_us

__all__ = ["Configured", "Found", "configured", "headers_of", "probe"]

_AT_ONCE = 2
_KEPT_BYTES = 1 << 16
_SECONDS_TO_READ = 1.0
_TOKEN = re.compile(rf"\$\{{input:{TOKEN_INPUT}\}}|\$\{{\{{\s*secrets\.{SECRET}\s*\}}\}}")


@dataclass(frozen=True, slots=True)
class Configured:
    """A server of ours in a client's file.

    Attributes:
        name: As the file calls it.
        entry: What the file says of it.
        seconds: How long the client waits.
        folder: Where the client starts it.
    """

    name: str
    entry: Mapping[str, Any]
    seconds: float
    folder: Path


@dataclass(frozen=True, slots=True)
class Found:
    """What starting a server showed: its tools in order, or the fault, or why it was not tried."""

    name: str
    tools: tuple[str, ...]
    seconds: float
    fault: str = ""
    note: str = ""


def configured(client_name: str, folder: Path) -> dict[Path, list[Configured]]:
    """Returns our servers in each file of a client: the user's, and that of a folder.

    Raises:
        ConfigError: A file is not what it should be.
    """
    client = CLIENTS[client_name]
    places = {client.path(None): Path(folder.anchor)}
    if client.has_workspaces:
        places[client.path(folder)] = folder
    section = Section(client.section, starts_us, by=client.by)
    found: dict[Path, list[Configured]] = {}
    for path, start in places.items():
        entries = entries_of(read(path, client.kind), section, path)
        ours = {
            name: one for name, one in entries.items() if isinstance(one, dict) and starts_us(one)
        }
        if ours:
            found[path] = [
                Configured(name, one, client.seconds, start) for name, one in ours.items()
            ]
    return found


def probe(servers: Sequence[Configured]) -> list[Found]:
    """Starts the servers, some at a time, and ends them again; the answers are in their order."""
    found: list[Found | None] = [None] * len(servers)

    async def all_of_them() -> None:
        limit = anyio.CapacityLimiter(_AT_ONCE)

        async def one(at: int) -> None:
            async with limit:
                found[at] = await _probed(servers[at])

        async with anyio.create_task_group() as group:
            for at in range(len(servers)):
                group.start_soon(one, at)

    # It shows a traceback of each line on a server's stdout that is no message.
    logging.getLogger("mcp.client.stdio").setLevel(logging.CRITICAL)
    anyio.run(all_of_them)
    return [one for one in found if one is not None]


async def _probed(server: Configured) -> Found:
    from ryzanstein.agents.clients.connections import first_cause, transport_errors

    if _is_clients_secret(server.entry):
        return Found(server.name, (), 0.0, note="not tried: only the client knows its token")
    began = time.perf_counter()
    with _Said() as said:
        try:
            with anyio.fail_after(server.seconds):
                tools = await _tools(server, said.log)
            return Found(server.name, tools, time.perf_counter() - began)
        except TimeoutError:
            fault = f"no answer within {server.seconds:g} s"
        except ValueError as error:  # what no program can be started with
            fault = f"its entry cannot be used: {error}".splitlines()[0]
        except transport_errors() as error:
            fault = _explained(server, first_cause(error), said)
    return Found(server.name, (), time.perf_counter() - began, fault)


async def _tools(server: Configured, log: Any) -> tuple[str, ...]:
    from mcp import Client

    async with AsyncExitStack() as stack:
        transport = await _transport(server, log, stack)
        client = await stack.enter_async_context(Client(transport, mode="legacy"))
        names: list[str] = []
        cursor = None
        while True:
            page = await client.list_tools(cursor=cursor)
            names += [tool.name for tool in page.tools]
            cursor = page.next_cursor
            if not cursor:
                return tuple(names)


async def _transport(server: Configured, log: Any, stack: AsyncExitStack) -> Any:
    from mcp import StdioServerParameters
    from mcp.client.stdio import stdio_client

    url = server.entry.get("url")
    if isinstance(url, str):
        return await _http(url, server.entry, log, stack)
    variables = _mapping(server.entry.get("env"))
    command, args = server.entry.get("command"), server.entry.get("args") or []
    if not command or not isinstance(args, list | tuple):
        raise ValueError("it has no command" if not command else "args is no list")
    return stdio_client(
        StdioServerParameters(
            command=str(command),
            args=[_filled(str(one), server.folder) for one in args],
            env={**_bare_environment(), **{key: str(one) for key, one in variables.items()}},
            cwd=server.folder,
        ),
        errlog=log,
    )


async def _http(url: str, entry: Mapping[str, Any], log: Any, stack: AsyncExitStack) -> Any:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    async def refused(response: httpx2.Response) -> None:
        if response.status_code >= 400:
            why = ": it wants another token" if response.status_code == 401 else ""
            print(f"it answered {response.status_code}{why}", file=log)

    hooks = {"response": [refused]}
    made = httpx2.AsyncClient(headers=headers_of(url, entry), event_hooks=hooks)
    return streamable_http_client(url, http_client=await stack.enter_async_context(made))


def headers_of(url: str, entry: Mapping[str, Any]) -> dict[str, str]:
    """Returns what a client sends to an address; only this machine is shown its own token."""
    token = owner_token() if is_local(url) else ""
    given = {name: (text, _TOKEN.sub(token, text)) for name, text in _headers(entry).items()}
    return {name: sent for name, (text, sent) in given.items() if token or sent == text}


def _headers(entry: Mapping[str, Any]) -> dict[str, str]:
    given = _mapping(entry.get("headers") or _mapping(entry.get("requestOptions")).get("headers"))
    return {name: str(text) for name, text in given.items()}


def _is_clients_secret(entry: Mapping[str, Any]) -> bool:
    """Says whether an entry is of another machine whose token the client asks for itself."""
    url = entry.get("url")
    asked = any(_TOKEN.search(text) for text in _headers(entry).values())
    return isinstance(url, str) and asked and not is_local(url)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _bare_environment() -> dict[str, str]:
    """What a program that was started from a menu hands on; PATH above all."""
    if sys.platform == "win32":
        root = os.environ.get("SYSTEMROOT", r"C:\Windows")
        return {"PATH": os.pathsep.join((rf"{root}\system32", root))}
    return {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}


def _filled(text: str, folder: Path) -> str:
    return text.replace("${workspaceFolder}", str(folder))


class _Said:
    """What a server writes to stderr, of which only the end is kept, however much it is.

    Attributes:
        log: A file for it to write to.
    """

    def __enter__(self) -> _Said:
        self._end = b""
        reading, writing = os.pipe()
        self.log = open(writing, "w", encoding="utf-8", errors="replace")
        self._reader = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.log.close()

    def last_line(self) -> str:
        """Returns the last line with words in it, once everything is written."""
        self.log.close()
        self._reader.join(_SECONDS_TO_READ)  # a child's child may hold it open
        lines = [line.strip() for line in self._end.decode("utf-8", "replace").splitlines()]
        return next((line[:300] for line in reversed(lines) if line), "")

    def _read(self, reading: int) -> None:
        with open(reading, "rb", buffering=0) as pipe:
            while piece := pipe.read(_KEPT_BYTES):
                self._end = (self._end + piece)[-_KEPT_BYTES:]


def _explained(server: Configured, cause: str, said: _Said) -> str:
    """Says why a server did not start: what it wrote last, or that its command is gone."""
    command = server.entry.get("command")
    if command is not None and not Path(str(command)).exists():
        return f"{command} is not there any more"
    return said.last_line() or cause
