"""What one subject keeps is never another's, over real sockets with two tokens and the owner's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import anyio
import httpx2
import pytest
from mcp import MCPError
from mcp.server.elicitation import AcceptedElicitation
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp_types import ElicitResult, ResourceTemplateReference
from pydantic import BaseModel

from ryzanstein.mcp_servers import _subject
from ryzanstein.mcp_servers._auth import Auth, OwnTokens
from ryzanstein.mcp_servers._factory import Reply, make_server
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._subject import Own, subject_of
from ryzanstein.subject import OWNER, Subject, acting, current
from ryzanstein.tokens import Tokens
from tests.mcp_servers.people import People, token
from tests.messages import INITIALIZE

SECRET = "Ada's safe opens with the number 5318."
NO_RUN = "run-0000000000000000"

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
    async with httpx2.AsyncClient(headers=accepts, verify=False) as http:

        async def post(name: str, body: dict[str, Any], session: str) -> httpx2.Response:
            headers = {"authorization": f"Bearer {people.tokens[name]}"}
            headers |= {"mcp-session-id": session} if session else {}
            return await http.post(url, json=body, headers=headers)

        session = (await post("ada", INITIALIZE, "")).headers["mcp-session-id"]
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
    people = People(await serving({"safe": server}, auth=Auth(OwnTokens(tokens))), tokens)

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
