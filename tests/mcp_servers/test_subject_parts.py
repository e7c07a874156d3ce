"""What a process holds for each subject: states in memory, open stores, servers elsewhere."""

from __future__ import annotations

import httpx2
import pytest

from ryzanstein.agents.clients.services import Services
from ryzanstein.errors import ConnectionFailed
from ryzanstein.mcp_servers import _shared
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.subject import OWNER, Subject, acting
from tests.mcp_servers.people import People

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
        async with httpx2.AsyncClient(headers=headers, timeout=60, verify=False) as http:
            done = await http.post(f"{people.url}/v1/chat/completions", json=body)
        assert done.status_code == 200
        assert (await people.answer(name, "cache", "cache_stats"))["cached_tokens"] == 0
    assert (await people.answer("ada", "inference", "chat", **request))["cached_tokens"] > 0


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
