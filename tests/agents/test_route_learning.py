"""What routing learns from single past tasks, and what it holds to be out of scope."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ryzanstein.agents.bench.routing import auroc
from ryzanstein.agents.bench.routing_data import registry_tasks
from ryzanstein.agents.routing.grams import Grams
from ryzanstein.agents.routing.logistic import fit
from ryzanstein.agents.routing.route import Router
from ryzanstein.agents.routing.scope import REFUSED_BELOW
from ryzanstein.memory.embed import get_embedder
from ryzanstein.memory.prototypes import AgentExamples, add_up
from ryzanstein.memory.store import MemoryStore
from ryzanstein.registry import Registry
from tests.everyday.tasks import HELD_BACK, TASKS


def taught(router: Router, tasks: dict[str, list[str]]) -> None:
    """Gives a router successful runs."""
    embedder = get_embedder()
    pairs = [(agent, task) for agent, mine in tasks.items() for task in mine]
    agents, texts = tuple(agent for agent, _ in pairs), tuple(task for _, task in pairs)
    weights, vectors = np.ones(len(pairs), np.float32), embedder.embed(texts)
    examples = AgentExamples(embedder.model_id, agents, texts, weights, vectors)
    router.use(add_up(embedder.model_id, agents, weights, vectors), examples)


def test_regression_is_the_prior_without_examples_and_learns_what_separates() -> None:
    generator = np.random.default_rng(3)
    centres = generator.normal(size=(5, 12)).astype(np.float32)
    classes = np.repeat(np.arange(5), 40)
    features = centres[classes] + generator.normal(size=(200, 12)).astype(np.float32)
    prior = np.zeros((5, 12), np.float32)
    prior[:, 0] = 0.5
    nothing = fit(features[:0], classes[:0], np.zeros(0, np.float32), prior)
    assert np.array_equal(nothing, prior)
    weights = np.ones(200, np.float32)
    found = fit(features, classes, weights, prior, iterations=200, tolerance=1e-7)
    assert ((features @ found.T).argmax(axis=1) == classes).mean() > 0.95
    # At the optimum the pull of the data and that of the prior cancel out.
    chances = np.exp(features @ found.T)
    chances /= chances.sum(axis=1, keepdims=True)
    chances[np.arange(200), classes] -= 1
    assert np.abs(chances.T @ features + 0.3 * (found - prior)).max() < 0.05
    again = fit(features, classes, weights, prior, iterations=200, tolerance=1e-7)
    assert np.array_equal(found, again)


def test_examples_without_weight_teach_nothing() -> None:
    features, prior = np.eye(3, dtype=np.float32), np.zeros((3, 3), np.float32)
    assert not fit(features, np.arange(3), np.zeros(3, np.float32), prior).any()


def test_rare_words_and_pairs_make_texts_alike() -> None:
    texts = ["the red heron", "the blue whale", "the red car", "the old heron"]
    vectors = Grams(texts).vectors([*texts, "heron, red", "", "nothing known"])
    assert vectors[4] @ vectors[0] > vectors[4] @ vectors[1]
    assert not vectors[5].any() and not vectors[6].any()
    assert np.allclose(np.linalg.norm(vectors[:5], axis=1), 1)


def test_past_tasks_teach_words_that_no_profile_has(declared: Registry) -> None:
    router = Router(declared, get_embedder())
    tasks = {
        "VERTEX": [f"ask the zorblax about shelf {n}" for n in range(20)],
        "HELIX": [f"ask the quimbly about shelf {n}" for n in range(20)],
    }
    taught(router, tasks)
    for agent, word in (("VERTEX", "zorblax"), ("HELIX", "quimbly")):
        best = router.route(f"what does the {word} say of shelf 77").agents[0]
        assert best.codename == agent
        assert {"learnt", "experience"} <= {reason.kind for reason in best.reasons}
        assert sum(reason.weight for reason in best.reasons) == pytest.approx(best.score, abs=1e-4)


def test_experience_of_some_agents_leaves_the_others_reachable(declared: Registry) -> None:
    router = Router(declared, get_embedder())
    tasks = registry_tasks(declared).folds
    busy = [f"write a function number {n} that sorts a list" for n in range(50)]
    taught(router, {"APEX": busy, "GONE": ["an agent that is no longer there"]})
    asked = [one for fold in tasks for one in fold.test]
    right = sum(router.route(task).agents[0].codename in agents for task, agents in asked)
    assert right / len(asked) > 0.88


def test_every_task_in_scope_fits_and_most_outside_do_not(
    declared: Registry, router: Router
) -> None:
    data = registry_tasks(declared)
    asked = [task for fold in data.folds for task, _ in fold.test]
    asked += [text for task in (*TASKS, *HELD_BACK) for text in task.asks]
    assert [task for task in asked if not router.route(task).fits] == []
    inside = [router.route(task).scope for task in asked]
    outside = [router.route(task).scope for task in data.outside]
    assert auroc(inside, outside) > 0.94
    assert sum(scope < REFUSED_BELOW for scope in outside) / len(outside) > 0.35


@pytest.mark.parametrize(
    "task",
    [
        *("Proofread: 'I has a apple'", "Who won the world cup 2014?", "Hilfe", "yes please"),
        *("good night", "hello", "thanks", "What time is it?", "Tell me a joke", "2+2"),
    ],
)
def test_everyday_sentences_fit(router: Router, task: str) -> None:
    assert router.route(task).fits


@pytest.mark.parametrize(
    "task", ["play some jazz", "transfer money", "transfer 100 dollars to my savings account"]
)
def test_errands_fit_no_agent(router: Router, task: str) -> None:
    assert not router.route(task).fits


def test_what_is_asked_for_by_name_or_kept_in_mind_always_fits(router: Router) -> None:
    task = "order a pizza with mushrooms for tonight"
    refused = router.route(task)
    assert not refused.fits and refused.scope < REFUSED_BELOW and len(refused.agents) == 5
    for way in ("@CIPHER {}", "/review {}", "remember that I {}", "{} as in menu.py"):
        found = router.route(way.format(task))
        assert found.fits and found.scope == 1.0


def test_the_nearest_agent_gets_it_where_the_registry_says_so(declared: Registry) -> None:
    routing = declared.routing.model_copy(update={"out_of_scope": "nearest"})
    lenient = Router(declared.model_copy(update={"routing": routing}), get_embedder())
    found = lenient.route("turn off all lights upstairs")
    assert found.fits and found.scope < REFUSED_BELOW


def test_the_store_gives_the_newest_successes_of_each_agent(tmp_path: Path) -> None:
    with MemoryStore(f"sqlite:///{tmp_path / 'm.db'}") as store:
        assert store.examples().tasks == ()
        for number in range(4):
            store.record_experience(
                task=f"feed heron {number}", agent="HELIX", outcome="success", fitness=1.0
            )
        store.record_experience(
            task="feed whale", agent="HELIX", outcome="failure", fitness=0.0, reason="no whale"
        )
        store.record_experience(
            task="count " + "cars " * 500, agent="PRISM", outcome="success", fitness=1.0
        )
        found = store.examples(per_agent=2)
    assert found.agents == ("HELIX", "HELIX", "PRISM")
    assert found.tasks[:2] == ("feed heron 2", "feed heron 3") and len(found.tasks[2]) == 500
    assert found.vectors.shape == (3, 256) and (found.weights > 0).all()
