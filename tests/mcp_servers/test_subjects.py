"""What one subject keeps is never another's, over real sockets with two tokens and the owner's."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.provider import AccessToken
from mcp.server.elicitation import AcceptedElicitation
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp_types import CallToolResult, ElicitResult, ResourceTemplateReference
from pydantic import BaseModel

from ryzanstein.agents.clients.services import Services
from ryzanstein.errors import ConnectionFailed
from ryzanstein.mcp_servers import _shared, _subject
from ryzanstein.mcp_servers._auth import Auth, OwnTokens
from ryzanstein.mcp_servers._factory import Reply, make_server
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._subject import Own, subject_of
from ryzanstein.subject import OWNER, Subject, acting, current
from ryzanstein.tokens import Tokens

SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")
SECRET = "Ada's safe opens with the number 5318."
NO_RUN = "run-0000000000000000"


class People:
    """Ada and Bob with a token each, the owner, and a server that all three can reach."""

    def __init__(self, url: str, tokens: Tokens) -> None:
        self.url = url
        self.tokens = {
            "": tokens.owner(),
            "ada": tokens.add("ada"),
            "bob": tokens.add("bob"),
            "eve": tokens.add("eve", admin=True),
        }

    def subject(self, name: str) -> Subject:
        return subject_of(token(subject=name))

    @asynccontextmanager
    async def client(self, name: str, server: str, **options: Any) -> AsyncIterator[Client]:
        headers = {"authorization": f"Bearer {self.tokens[name]}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            target = streamable_http_client(f"{self.url}/mcp/{server}", http_client=http)
            async with Client(target, **options) as client:
                yield client

    async def call(self, name: str, server: str, tool: str, /, **arguments: Any) -> CallToolResult:
        async with self.client(name, server) as client:
            return await client.call_tool(tool, arguments)

    async def answer(self, name: str, server: str, tool: str, /, **arguments: Any) -> Any:
        result = await self.call(name, server, tool, **arguments)
        assert not result.is_error, result.content
        return result.structured_content

    async def fault(self, name: str, server: str, tool: str, /, **arguments: Any) -> str:
        result = await self.call(name, server, tool, **arguments)
        assert result.is_error
        return str(result.content[0].text)  # type: ignore[union-attr]

    async def read(self, name: str, server: str, uri: str) -> str:
        async with self.client(name, server) as client:
            return str(getattr((await client.read_resource(uri)).contents[0], "text", ""))

    async def unread(self, name: str, server: str, uri: str) -> tuple[int, str]:
        async with self.client(name, server) as client:
            with pytest.raises(MCPError) as caught:
                await client.read_resource(uri)
        return caught.value.code, str(caught.value)


@pytest.fixture
async def people(serving: Callable[..., Awaitable[str]], tmp_path: Path) -> People:
    tokens = Tokens(tmp_path / "tokens")
    return People(await serving(auth=Auth([OwnTokens(tokens)])), tokens)


def token(
    subject: str | None = "", client: str = "ryzanstein", issuer: str | None = None, *scopes: str
) -> AccessToken:
    claims = None if issuer is None else {"iss": issuer}
    return AccessToken(
        token="", client_id=client, scopes=list(scopes), subject=subject, claims=claims
    )


# Whom a token stands for.


def test_only_the_servers_own_token_without_a_name_is_the_owners() -> None:
    assert subject_of(token()) is OWNER
    for other in (token(None), token("x"), token("", "cli"), token("", "ryzanstein", "https://i")):
        subject = subject_of(other)
        assert len(subject.key) == 32
        assert not subject.admin


def test_a_user_is_the_same_through_all_clients_of_an_issuer_and_another_at_another_issuer() -> (
    None
):
    seen = [
        subject_of(token(*who)).key
        for who in (
            ("ann", "vscode", "https://one"),
            ("ann", "desktop", "https://one"),
            ("ann", "vscode", "https://two"),
            ("ann", "ryzanstein", None),
            ("bob", "vscode", "https://one"),
            (None, "vscode", "https://one"),
            (None, "desktop", "https://one"),
        )
    ]
    assert seen[0] == seen[1]
    assert len(set(seen)) == len(seen) - 1


async def test_whoever_was_let_through_without_a_name_is_nobody_and_not_the_owner() -> None:
    seen: list[Subject] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(current())

    for user in ({"user": object()}, {}):
        await _subject.ForSubject(inner)({"type": "http", **user}, None, None)  # type: ignore[arg-type]
    assert seen == [_subject.NOBODY, OWNER]


# What is kept.


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_memory_is_found_by_whoever_kept_it_and_by_nobody_else(
    people: People, mode: Any
) -> None:
    async with people.client("ada", "memory", mode=mode) as client:
        kept = (await client.call_tool("remember", {"text": SECRET})).structured_content
    assert kept is not None
    for name in ("", "bob", "eve"):
        async with people.client(name, "memory", mode=mode) as client:
            found = await client.call_tool("recall", {"query": "Ada's safe"})
            assert found.structured_content == {"memories": []}
            gone = await client.call_tool("forget", {"id": kept["id"]})
            assert gone.structured_content == {"id": kept["id"], "forgotten": False}
        stats = await people.answer(name, "memory", "memory_stats")
        assert stats["memories"] == 0
    found = await people.answer("ada", "memory", "recall", query="safe")
    assert [one["text"] for one in found["memories"]] == [SECRET]


async def test_anothers_memory_and_experience_read_as_ones_that_do_not_exist(
    people: People,
) -> None:
    memory = (await people.answer("ada", "memory", "remember", text=SECRET))["id"]
    how = {"task": "Open the safe.", "agent": "CIPHER", "outcome": "success"}
    experience = (await people.answer("ada", "memory", "record_experience", **how))["id"]
    for uri, none in (
        (f"memory://{memory}", "memory://mem_0"),
        (f"experience://{experience}", "experience://exp_0"),
    ):
        assert memory in await people.read("ada", "memory", f"memory://{memory}")
        code, said = await people.unread("bob", "memory", uri)
        assert (code, said.replace(uri.split("//")[1], none.split("//")[1])) == await people.unread(
            "bob", "memory", none
        )
    rated = {"id": experience, "rating": 1.0}
    said = await people.fault("bob", "memory", "rate_experience", **rated)
    none = await people.fault("bob", "memory", "rate_experience", id="exp_0", rating=1.0)
    assert said.replace(experience, "exp_0") == none


async def test_anothers_run_reads_as_one_that_does_not_exist(people: People) -> None:
    with acting(people.subject("ada")):
        run = (
            shared()
            .runs.save("Open the safe.", status="interrupted", checkpoint={"asked": {"task": "x"}})
            .id
        )
    asked: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("orchestrator", "get_run", {}),
        ("orchestrator", "cancel_run", {}),
        ("orchestrator", "rate_run", {"rating": 1.0}),
        ("orchestrator", "run_task", {}),
        ("analytics", "describe_run", {}),
    )
    for server, tool, given in asked:
        said = await people.fault("bob", server, tool, run_id=run, **given)
        none = await people.fault("bob", server, tool, run_id=NO_RUN, **given)
        assert said.replace(run, NO_RUN) == none
    for name in ("", "bob", "eve"):
        assert (await people.answer(name, "analytics", "list_runs"))["runs"] == []
        usage = await people.answer(name, "analytics", "summarize_usage")
        assert usage["groups"] == []
        assert run not in await people.read(name, "analytics", "analytics://dashboard")
    runs = (await people.answer("ada", "analytics", "list_runs"))["runs"]
    assert [one["run_id"] for one in runs] == [run]
    assert (await people.answer("ada", "orchestrator", "get_run", run_id=run))["run_id"] == run


async def test_what_past_runs_taught_routes_only_the_tasks_of_whose_they_were(
    people: People,
) -> None:
    task = "Polish the brass of the old lighthouse lamp."
    how = {"task": task, "agent": "SCRIBE", "outcome": "verified", "fitness": 1.0}
    await people.answer("ada", "memory", "record_experience", **how)

    async def reasons(name: str) -> str:
        found = await people.answer(name, "orchestrator", "route_task", task=task, top_k=40)
        return " ".join(str(one["reasons"]) for one in found["agents"])

    assert "1 past run of weight" in await reasons("ada")
    assert "past run of weight" not in await reasons("bob")
    assert "past run of weight" not in await reasons("")
    assert "1 past run of weight" in await reasons("ada")


async def test_many_at_once_each_find_their_own(people: People) -> None:
    async def one(name: str, number: int) -> None:
        text = f"{name or 'owner'} has the locker {number}."
        await people.answer(name, "memory", "remember", text=text)
        found = await people.answer(name, "memory", "recall", query="has the locker", limit=50)
        texts = [hit["text"] for hit in found["memories"]]
        assert text in texts
        assert all(line.startswith(f"{name or 'owner'} has") for line in texts)

    async with anyio.create_task_group() as group:
        for number in range(6):
            for name in ("", "ada", "bob"):
                group.start_soon(one, name, number)


async def test_a_session_is_of_no_use_to_another_subject(people: People) -> None:
    url = f"{people.url}/mcp/memory"
    accepts = {"accept": "application/json, text/event-stream"}
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    async with httpx2.AsyncClient(headers=accepts) as http:

        async def post(name: str, body: dict[str, Any], session: str) -> httpx2.Response:
            headers = {"authorization": f"Bearer {people.tokens[name]}"}
            headers |= {"mcp-session-id": session} if session else {}
            return await http.post(url, json=body, headers=headers)

        session = (await post("ada", hello, "")).headers["mcp-session-id"]
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        for name in ("bob", ""):
            foreign = await post(name, listing, session)
            none = await post(name, listing, "0" * 32)
            assert (foreign.status_code, foreign.text) == (none.status_code, none.text)
            assert foreign.status_code == 404
        assert (await post("ada", listing, session)).status_code == 200


class Yes(BaseModel):
    yes: bool = True


class Opened(Reply):
    whose: str


def sure() -> Elicit[Yes]:
    return Elicit("Sure?", Yes)


async def test_the_state_of_a_call_over_rounds_goes_on_for_its_own_subject_only(
    serving: Callable[..., Awaitable[str]], tmp_path: Path
) -> None:
    server = make_server("safe", "Safe", "A safe.")

    @server.tool()
    def open_safe(answer: Annotated[AcceptedElicitation[Yes], Resolve(sure)]) -> Opened:
        """Opens it."""
        return Opened(whose=current().name)

    tokens = Tokens(tmp_path / "tokens")
    people = People(await serving({"safe": server}, auth=Auth([OwnTokens(tokens)])), tokens)

    async def asked(*_: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"yes": True})

    async def begun(name: str) -> Any:
        async with people.client(name, "safe", elicitation_callback=asked) as client:
            return await client.session.call_tool("open_safe", {}, allow_input_required=True)

    first = await begun("ada")
    given = {name: {"action": "accept", "content": {"yes": True}} for name in first.input_requests}
    for name in ("bob", ""):
        async with people.client(name, "safe", elicitation_callback=asked) as client:
            with pytest.raises(MCPError, match="Invalid or expired requestState") as caught:
                await client.session.call_tool(
                    "open_safe", {}, request_state=first.request_state, input_responses=given
                )
        assert caught.value.code == -32602
    async with people.client("ada", "safe", elicitation_callback=asked) as client:
        assert (await client.call_tool("open_safe", {})).structured_content == {"whose": "ada"}


# Files and tools.


async def test_tools_touch_the_files_of_whoever_calls_them(
    people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owners.txt").write_text("the owner's", encoding="utf-8")
    write = {"path": "note.txt", "content": SECRET}
    await people.answer("ada", "tools", "call_tool", name="write_file", arguments=write)
    folder = shared().settings.data_dir / "subjects" / people.subject("ada").key
    assert (folder / "files" / "note.txt").read_text(encoding="utf-8") == SECRET
    assert (folder / "files").stat().st_mode & 0o777 == 0o700

    async def read(name: str, path: str) -> CallToolResult:
        arguments = {"path": path}
        return await people.call(name, "tools", "call_tool", name="read_file", arguments=arguments)

    assert SECRET in str((await read("ada", "note.txt")).content)
    for path in (
        "note.txt",
        str(folder / "files" / "note.txt"),
        f"../../{people.subject('ada').key}/files/note.txt",
        str(folder / "ryzanstein.db"),
        "owners.txt",
        str(tmp_path / "owners.txt"),
        "/etc/passwd",
    ):
        for name in ("bob", "eve"):
            refused = await read(name, path)
            assert refused.is_error
            assert SECRET not in str(refused.content)
    assert "the owner's" in str((await read("", "owners.txt")).content)


async def test_the_memory_tools_of_the_tools_server_keep_to_the_caller(people: People) -> None:
    arguments = {"text": SECRET}
    await people.answer("ada", "tools", "call_tool", name="remember", arguments=arguments)
    assert (await people.answer("ada", "memory", "memory_stats"))["memories"] == 1
    for name in ("", "bob"):
        assert (await people.answer(name, "memory", "memory_stats"))["memories"] == 0


async def test_the_record_of_tool_calls_names_whose_they_were(people: People) -> None:
    for name in ("", "ada"):
        given = {"name": "evaluate_expression", "arguments": {"expression": "6*7"}}
        await people.answer(name, "tools", "call_tool", **given)
    ada, owner = shared().audit.read(limit=2)
    assert ada["subject_name"] == "ada"
    assert ada["subject"] == people.subject("ada").key
    assert "subject" not in owner


async def test_what_else_runs_on_the_machine_is_shown_to_whoever_runs_the_server(
    people: People,
) -> None:
    for tool in ("list_processes", "environment_facts"):
        given = {"name": tool, "arguments": {}}
        assert "not among the tools" in await people.fault("ada", "tools", "call_tool", **given)
        await people.answer("eve", "tools", "call_tool", **given)


# What concerns everybody.

OWN_TOOLS = {
    "orchestrator": "search_agents describe_agent route_task run_agent run_task get_run cancel_run"
    " rate_run",
    "inference": "generate_text chat complete_code embed_text score_text count_tokens",
    "memory": "remember recall forget record_experience find_experiences rate_experience"
    " consolidate_memory memory_stats",
    "model": "list_models describe_model",
    "cache": "cache_stats lookup_response store_response list_states save_state restore_state"
    " evict_entries clear_cache",
    "analytics": "query_metrics list_runs describe_run summarize_usage compare_models"
    " suggest_optimizations export_traces show_dashboard",
    "tools": "search_tools describe_tool call_tool",
}


@pytest.mark.parametrize("name", SERVERS)
async def test_of_every_tool_it_was_decided_whether_all_may_call_it(name: str) -> None:
    server = importlib.import_module(f"ryzanstein.mcp_servers.{name}").mcp
    tools = {tool.name for tool in await server.list_tools()}
    own = set(OWN_TOOLS[name].split())
    assert tools - own <= _subject.ADMIN_TOOLS
    assert not own & _subject.ADMIN_TOOLS


async def test_what_changes_the_machine_is_refused_to_whoever_does_not_run_it(
    people: People,
) -> None:
    for tool, given in (
        ("load_model", {"name": "tiny-bitnet"}),
        ("unload_model", {"name": "tiny-bitnet"}),
        ("pull_model", {"name": "tiny-bitnet"}),
        ("remove_model", {"name": "tiny-bitnet"}),
        ("benchmark_model", {"name": "tiny-bitnet"}),
    ):
        said = await people.fault("ada", "model", tool, **given)
        assert said.startswith(f"INVALID_REQUEST: {tool} is for whoever runs this server.")
        assert "scope admin" in said
    assert (await people.answer("eve", "model", "load_model", name="tiny-bitnet"))["bytes"] > 0
    assert (await people.answer("", "model", "unload_model", name="tiny-bitnet"))["unloaded"]


async def test_a_file_that_is_no_model_of_the_catalogue_is_none_for_whoever_does_not_run_the_server(
    people: People, tmp_path: Path
) -> None:
    there = tmp_path / "model.gguf"
    there.write_bytes(b"GGUF")
    nowhere = tmp_path / "nowhere.gguf"
    for server, tool, key in (
        ("model", "describe_model", "name"),
        ("inference", "count_tokens", "model"),
    ):
        given = {"text": "x"} if tool == "count_tokens" else {}
        said = [
            await people.fault("ada", server, tool, **{key: str(path)}, **given)
            for path in (there, nowhere)
        ]
        assert said[0].replace("model.gguf", "nowhere.gguf") == said[1]
        assert said[0].startswith("MODEL_NOT_FOUND")


async def test_metrics_are_the_callers_own_but_for_whoever_runs_the_server(people: People) -> None:
    await people.answer("ada", "memory", "remember", text=SECRET)

    async def counted(name: str) -> set[str]:
        found = await people.answer(name, "analytics", "query_metrics")
        return {one["tool"] for one in found["tools"]}

    assert "remember" in await counted("ada")
    assert "remember" not in await counted("bob")
    assert "remember" in await counted("eve")
    assert "remember" in await counted("")


async def test_a_name_that_a_client_made_up_is_no_counter(people: People) -> None:
    for number in range(3):
        assert (await people.call("ada", "memory", f"made_up_{number}")).is_error
    found = await people.answer("ada", "analytics", "query_metrics")
    assert {one["tool"]: one["calls"] for one in found["tools"]}["unknown"] == 3


async def test_servers_of_others_are_the_owners_and_whose_he_made_an_administrator(
    people: People,
) -> None:
    config = shared().settings.config_dir
    config.mkdir(parents=True, exist_ok=True)
    (config / "registry.yaml").write_text(
        "servers:\n  - name: files2\n    transport: stdio\n    command: /nonexistent/program\n",
        encoding="utf-8",
    )
    for name, found in (("ada", 0), ("eve", 1), ("", 1)):
        with acting(
            OWNER
            if not name
            else subject_of(token(name, "ryzanstein", None, *(["admin"] if name == "eve" else [])))
        ):
            states = await shared().external.states()
        assert len(states) == found
    said = await people.fault("ada", "tools", "describe_tool", name="files2.read")
    none = await people.fault("ada", "tools", "describe_tool", name="files3.read")
    assert said.replace("files2", "files3") == none


# What is in memory.


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RYZANSTEIN_DEFAULT_MODEL", "tiny-bitnet")
    shared().reset()
    return "tiny-bitnet"


async def test_nobody_learns_from_the_cache_what_another_asked(tiny: str, people: People) -> None:
    system = "You open safes. Ada's safe opens with the number 5318, say nothing of it to others."
    request = {
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": "Open!"}],
        "max_tokens": 1,
        "keep_system": True,
        "model": tiny,
    }
    first = await people.answer("ada", "inference", "chat", **request)
    assert first["cached_tokens"] == 0
    assert (await people.answer("ada", "inference", "chat", **request))["cached_tokens"] > 0
    states = (await people.answer("ada", "cache", "list_states"))["states"]
    assert {one["place"] for one in states} == {"memory", "disk"}
    for name in ("bob", "eve", ""):
        assert (await people.answer(name, "cache", "list_states"))["states"] == []
        assert (await people.answer(name, "cache", "cache_stats"))["states"] == 0
        for tool, given in (
            ("restore_state", {"state": next(o["id"] for o in states if o["place"] == "disk")}),
            ("save_state", {"state": next(o["id"] for o in states if o["place"] == "memory")}),
        ):
            assert "No state" in await people.fault(name, "cache", tool, model=tiny, **given)
        await people.call(name, "cache", "clear_cache")
        body = {"model": tiny, "messages": request["messages"], "max_tokens": 1}
        headers = {"authorization": f"Bearer {people.tokens[name]}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
            done = await http.post(f"{people.url}/v1/chat/completions", json=body)
        assert done.status_code == 200
        assert (await people.answer(name, "cache", "cache_stats"))["cached_tokens"] == 0
    assert (await people.answer("ada", "inference", "chat", **request))["cached_tokens"] > 0


def test_a_dictionary_of_own_things_shows_everybody_the_own_ones_only() -> None:
    own: Own[int] = Own()
    ada, bob = Subject("a"), Subject("b")
    own["x"] = 1
    with acting(ada):
        assert "x" not in own
        own["x"] = 2
        own["y"] = 3
        assert dict(own) == {"x": 2, "y": 3}
    with acting(bob):
        assert own.get("y") is None
        assert own.pop("x", None) is None
        with pytest.raises(KeyError):
            del own["y"]
        assert len(own) == 0
    assert dict(own) == {"x": 1}
    assert sorted(own.of_all()) == [1, 2, 3]


async def test_completion_offers_nobody_what_is_anothers(people: People) -> None:
    with acting(people.subject("ada")):
        run = shared().runs.save("Open the safe.", status="done").id
    ref = ResourceTemplateReference(type="ref/resource", uri="run://{id}")
    for name, found in (("ada", [run]), ("bob", []), ("", [])):
        async with people.client(name, "orchestrator") as client:
            offered = await client.complete(ref, {"name": "id", "value": "run"})
        assert offered.completion.values == found


# What is open, and what runs elsewhere.


async def test_of_many_subjects_the_stores_of_the_latest_are_open_and_all_keep_their_own(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shared, "MAX_SUBJECTS", 2)
    subjects = [Subject(f"{number:032x}") for number in range(5)]
    stores = []
    for subject in subjects:
        with acting(subject), shared().held():
            shared().store.remember(f"I am number {subject.key}.")
            stores.append(shared().store)
    for subject in subjects:
        with acting(subject), shared().held():
            assert [one.text for one in shared().store.list().memories] == [
                f"I am number {subject.key}."
            ]
            assert shared().store not in stores[:3]


async def test_a_store_at_which_work_goes_on_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shared, "MAX_SUBJECTS", 1)
    with acting(Subject("a")), shared().held():
        store = shared().store
        for number in range(3):
            with acting(Subject(f"b{number}")), shared().held():
                assert shared().store.stats().memories == 0
        assert shared().store is store
        store.remember("Still open.")


async def test_a_server_elsewhere_that_would_take_all_for_its_owner_is_refused(
    people: People,
) -> None:
    config = shared().settings.config_dir
    config.mkdir(parents=True, exist_ok=True)
    (config / "registry.yaml").write_text(
        f"servers:\n  - name: memory\n    transport: http\n    url: {people.url}/mcp/memory\n",
        encoding="utf-8",
    )
    shared().reset()
    with acting(people.subject("ada")):
        run = shared().runs.save("Open the safe.", status="done").id
    said = await people.fault("ada", "orchestrator", "rate_run", run_id=run, rating=1.0)
    assert said.startswith("INVALID_CONFIG: The memory server runs elsewhere")
    assert "leave memory out of `servers`" in said
    assert people.url not in said
    with acting(OWNER), pytest.raises(ConnectionFailed):  # asked, and refused for want of a token
        async with Services(shared().registry, names=("memory",)):
            pass


async def test_no_error_tells_where_anything_lies(people: People) -> None:
    key = people.subject("ada").key
    folder = shared().settings.data_dir / "subjects" / key
    folder.mkdir(parents=True)
    (folder / "ryzanstein.db").write_text("This is no database." * 100, encoding="utf-8")
    said = await people.fault("ada", "memory", "recall", query="safe")
    assert str(shared().settings.data_dir) not in said
    assert "ryzanstein.db" in said
