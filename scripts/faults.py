"""What becomes of a run whose parts fail, with the waits of the real policy; the last line is JSON.

    python scripts/faults.py [FAULT ...]

Each fault meets a run twice over the orchestrator: alone, where the run must end in time and its
row must say why, and beside a backend that is well, which must answer.

    {"hang": {"alone": {"status", "seconds", "why"}, "beside": {…, "answer"}}, …}
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

TASK = "Which colour does the word green name?"
SILENCE = 8.0
LIMIT = 60.0
NOWHERE = {
    "refuses": "http://127.0.0.1:9/v1",
    "no such host": "http://no-such-host.invalid/v1",
}
OTHER = ("memory short", "database locked", "inference server gone")


@contextmanager
def faulty(fault: str, well: str | None) -> Iterator[Any]:
    """The registry of a run that meets a fault, beside a backend that is well or not."""
    from ryzanstein.mcp_servers._shared import shared
    from ryzanstein.registry import BackendSpec, ServerSpec, load_registry
    from tests.agents.backend_server import MODES, BackendServer

    declared = load_registry(user=False)
    servers = declared.servers
    backends = []
    with ExitStack() as stack:
        url = NOWHERE.get(fault)
        if fault in MODES:
            url = stack.enter_context(BackendServer(fault)).url
        if url is not None:
            first = BackendSpec(name="first", kind="openai", url=url, seconds=SILENCE)
            backends.append(first)
        elif fault != "database locked":
            backends.append(BackendSpec(name="local", kind="local"))
        if fault == "inference server gone":
            gone = ServerSpec(name="inference", transport="http", url="http://127.0.0.1:9/mcp")
            servers = (*[one for one in servers if one.name != "inference"], gone)
        if fault == "database locked":
            url = stack.enter_context(BackendServer(text="It is green.")).url
            backends.append(BackendSpec(name="only", kind="openai", url=url))
        if well is not None:
            backends.append(BackendSpec(name="well", kind="openai", url=well))
        changes = {"backends": tuple(backends), "servers": servers}
        shared().reset()
        shared().once("registry", lambda: declared.model_copy(update=changes))
        if fault == "memory short":
            stack.enter_context(no_memory())
        yield stack


@contextmanager
def no_memory() -> Iterator[None]:
    """Has the engine find no free memory."""
    from ryzanstein.inference import model

    found = model.available_memory
    model.available_memory = lambda: 1_000_000
    try:
        yield
    finally:
        model.available_memory = found


async def lock_database(path: Path, seconds: float) -> None:
    """Keeps the database locked for some seconds."""
    lock = sqlite3.connect(path, isolation_level=None)
    try:
        lock.execute("BEGIN IMMEDIATE")
        await anyio.sleep(seconds)
    finally:
        lock.close()


async def met(fault: str, well: str | None) -> dict[str, Any]:
    """Runs the task while a fault lasts and says how its row ended."""
    from mcp import Client

    from ryzanstein.mcp_servers._orchestrator import mcp
    from ryzanstein.mcp_servers._shared import shared

    asked = {"task": TASK, "codename": "SCRIBE", "tools": False, "max_seconds": LIMIT}
    with faulty(fault, well):
        started = perf_counter()
        shared().store.stats()
        async with Client(mcp) as client, anyio.create_task_group() as group:
            if fault == "database locked":
                database = shared().settings.data_dir / "ryzanstein.db"
                group.start_soon(lock_database, database, 5.0)
            await client.call_tool("run_agent", asked)
        seconds = round(perf_counter() - started, 1)
        row = shared().runs.list(limit=1)[0]
    return {"status": row.status, "seconds": seconds, **_said(row.result)}


def _said(result: Mapping[str, Any]) -> dict[str, Any]:
    error = result.get("error") or {}
    reasons = [one["message"] for one in result.get("events", ()) if one["stage"] == "failure"]
    why = error.get("message") or next(iter(result.get("failures", ())), "")
    return {"answer": result.get("answer"), "why": why or (reasons[0] if reasons else "")}


async def main(wanted: list[str]) -> dict[str, Any]:
    """Meets every fault."""
    from tests.agents.backend_server import MODES, BackendServer

    working = {"good", "plain", "steady", "no schema"}
    every = [*(mode for mode in MODES if mode not in working), *NOWHERE, *OTHER]
    table = {}
    with BackendServer(text="It is green.") as well:
        for fault in wanted or every:
            row = {"alone": await met(fault, None), "beside": await met(fault, well.url)}
            table[fault] = row
            for where, found in row.items():
                line = f"{fault:22} {where:7} {found['status']:8} {found['seconds']:5.1f} s  "
                print(line + str(found["why"])[:110], file=sys.stderr, flush=True)
    return table


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("DATA", "CONFIG", "CACHE"):
            os.environ[f"RYZANSTEIN_{kind}_DIR"] = str(Path(folder) / kind.lower())
        print(json.dumps(anyio.run(main, sys.argv[1:])))
