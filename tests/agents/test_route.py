from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzanstein.agents.bench.routing_data import registry_tasks
from ryzanstein.agents.routing.cues import read_cues
from ryzanstein.agents.routing.route import Router
from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.embed import get_embedder
from ryzanstein.memory.records import AgentPrototypes
from ryzanstein.memory.store import MemoryStore
from ryzanstein.registry import Registry, load_registry


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(user=False)


@pytest.fixture(scope="module")
def router(registry: Registry) -> Router:
    return Router(registry, get_embedder())


def first(router: Router, task: str) -> str:
    return router.route(task).agents[0].codename


@pytest.mark.parametrize(
    ("task", "codename"),
    [
        ("write a Cypher query for friends of friends", "VERTEX"),
        ("our Kafka consumers lag behind", "STREAM"),
        ("map our patient records to FHIR", "PULSE"),
        ("solve the integral of x squared", "AXIOM"),
        ("Write a Python function that returns the n-th Fibonacci number, and check it", "APEX"),
    ],
)
def test_plain_tasks_reach_their_agent(router: Router, task: str, codename: str) -> None:
    assert first(router, task) == codename


def test_nine_in_ten_tasks_that_are_no_examples_reach_a_right_agent(router: Router) -> None:
    tasks = [one for fold in registry_tasks(load_registry(user=False)).folds for one in fold.test]
    right = sum(first(router, task) in agents for task, agents in tasks)
    assert right / len(tasks) >= 0.9


def test_reasons_add_up_to_the_score_and_name_the_example(router: Router) -> None:
    result = router.route("check whether a word is a palindrome in Python", top_k=3)
    assert len(result.agents) == 3 and result.notes == ()
    for ranked in result.agents:
        assert sum(reason.weight for reason in ranked.reasons) == pytest.approx(ranked.score)
    kinds = {reason.kind: reason.detail for reason in result.agents[0].reasons}
    assert "palindrome" in kinds["example"] and "palindrome" in kinds["words"]
    scores = [ranked.score for ranked in result.agents]
    assert scores == sorted(scores, reverse=True)


def test_a_mention_decides_and_several_keep_their_order(router: Router) -> None:
    assert first(router, "@CIPHER write a poem about the sea") == "CIPHER"
    assert first(router, "@cipher write a poem") == "CIPHER"
    two = router.route("let @SCRIBE and @AXIOM talk about databases").agents
    assert [one.codename for one in two[:2]] == ["SCRIBE", "AXIOM"]


def test_what_only_looks_like_a_mention_decides_nothing(registry: Registry) -> None:
    for task in ("mail me@CIPHER.com", "what does the @stream decorator do", "fix @NOBODY"):
        assert read_cues(task, registry).mentioned == ()


def test_a_slash_command_goes_to_its_owner(router: Router, registry: Registry) -> None:
    for command, owner in registry.routing.commands.items():
        assert first(router, f"/{command} the thing in front of you") == owner
    assert read_cues("/etc/passwd shows odd users", registry).command is None
    assert read_cues("/nosuch thing", registry).command is None


def test_an_agent_or_command_that_there_is_not_is_said(router: Router) -> None:
    assert router.route("@NOBODY hi there").notes == ("There is no agent @NOBODY.",)
    (note,) = router.route("let @CIPHR look at the key").notes
    assert note.startswith("There is no agent @CIPHR. ") and "CIPHER" in note
    assert router.route("/nothing here").notes[0].startswith("There is no command /nothing.")
    for task in ("/tmp is full", "mail me@CIPHER.com", "@APEX sort it", "/review this"):
        assert router.route(task).notes == ()


def test_kinds_of_files_are_read_from_the_task(registry: Registry) -> None:
    def names(task: str) -> dict[str, str]:
        return {name: agents[0] for name, agents in read_cues(task, registry).files}

    assert names("why does contracts/vault.sol fail") == {"vault.sol": "CRYPTO"}
    assert names("see test_parser.py, the Dockerfile and main.tf.") == {
        "test_parser.py": "ECLIPSE",
        "Dockerfile": "FLUX",
        "main.tf": "FLUX",
    }
    assert names("use node.js 3.5, e.g. with www.example.com") == {}


def test_a_file_tips_the_balance(router: Router) -> None:
    ranked = router.route("what is wrong with vault.sol").agents
    reasons = [reason for reason in ranked[0].reasons if reason.kind == "file"]
    assert ranked[0].codename == "CRYPTO" and "vault.sol" in reasons[0].detail


def test_success_pulls_similar_tasks_and_failure_pushes_them_away(
    registry: Registry, tmp_path: Path
) -> None:
    task = "sort the holiday pictures of my grandmother"
    router = Router(registry, get_embedder())

    def score(codename: str) -> float:
        ranked = router.route(task, top_k=100).agents
        return next(one.score for one in ranked if one.codename == codename)

    before = {name: score(name) for name in ("CANVAS", "LEDGER")}
    with MemoryStore(f"sqlite:///{tmp_path / 'm.db'}") as store:
        for number in range(3):
            asked = f"sort the holiday pictures of grandmother {number}"
            store.record_experience(task=asked, agent="CANVAS", outcome="success", fitness=1.0)
            store.record_experience(task=asked, agent="LEDGER", outcome="failure", fitness=0.0)
        store.record_experience(
            task="file my taxes", agent="LEDGER", outcome="success", fitness=1.0
        )
        router.use(store.prototypes())
    assert score("CANVAS") > before["CANVAS"] and score("LEDGER") < before["LEDGER"]
    best = router.route(task).agents[0]
    assert best.codename == "CANVAS"
    reason = next(reason for reason in best.reasons if reason.kind == "experience")
    assert reason.detail == "3 past runs of weight 3.00" and reason.weight > 0


def test_experience_with_other_vectors_is_left_out_and_said_so(registry: Registry) -> None:
    other = AgentPrototypes("another-model", 8, {}, np.zeros(8, np.float32), 1)
    result = Router(registry, get_embedder(), other).route("write a function")
    assert "another-model" in result.notes[0]


def test_routing_costs_little_beside_the_embedding(router: Router) -> None:
    taken = sorted(router.route(f"speed up loop number {n}").ms for n in range(30))
    assert taken[len(taken) // 2] < 5


def test_complexity_follows_what_is_asked(router: Router) -> None:
    assert router.route("reverse this string").complexity.level == "direct"
    asked = "read the log, then count the errors and finally draw a chart"
    assert router.route(asked).complexity.level == "reasoned"
    assert router.route("1. load the data\n2. plot it").complexity.level == "reasoned"


def test_an_empty_task_is_refused_and_a_huge_one_is_not(router: Router) -> None:
    for task, top_k in (("  ", 5), ("fine", 0)):
        with pytest.raises(InvalidRequest):
            router.route(task, top_k=top_k)
    assert first(router, "normalise the FHIR resources of our hospital. " * 4_400) == "PULSE"


@settings(max_examples=60, deadline=None)
@given(task=st.text(min_size=1, max_size=200))
def test_any_text_is_routed_with_finite_scores(task: str) -> None:
    if not task.strip():
        return
    router = _any_router()
    ranked = router.route(task, top_k=40).agents
    assert len({one.codename for one in ranked}) == 40
    assert all(np.isfinite(one.score) for one in ranked)


_ROUTERS: list[Router] = []


def _any_router() -> Router:
    if not _ROUTERS:
        _ROUTERS.append(Router(load_registry(user=False), get_embedder()))
    return _ROUTERS[0]


@pytest.mark.parametrize(
    ("task", "mentioned"),
    [
        ("@nobody fix this", ()),
        ("ask @CIPHER, then @AXIOM and @CIPHER again", ("CIPHER", "AXIOM")),
        ("(@CIPHER) is this safe?", ("CIPHER",)),
        ("write to apex@CIPHER.example.com", ()),
        ("@@CIPHER and a@CIPHER", ()),
        ("@CIPHERS are many", ()),
        ("@cipher: look", ("CIPHER",)),
        ("look, @cipher", ()),
        ("@CIPHER", ("CIPHER",)),
    ],
)
def test_mentions_are_whole_names(
    registry: Registry, task: str, mentioned: tuple[str, ...]
) -> None:
    assert read_cues(task, registry).mentioned == mentioned


def test_paths_and_unknown_words_are_no_commands(registry: Registry) -> None:
    assert "review" in registry.routing.commands
    for task in ("/review/x.py is broken", "/reviews please", "please /review this", "/ review"):
        assert read_cues(task, registry).command is None
    assert read_cues("@CIPHER /review src/a.py", registry).command is not None
    assert read_cues("/review", registry).command is not None


def test_files_that_come_with_a_task_count_as_those_it_names(
    registry: Registry, router: Router
) -> None:
    for name in ("contracts/vault.sol", r"C:\contracts\vault.sol"):
        assert read_cues("what is wrong here", registry, [name]).files[0][0] == "vault.sol"
    found = router.route("what is wrong here", files=["contracts/vault.sol"])
    assert found.agents[0].codename == "CRYPTO" and found.fits
