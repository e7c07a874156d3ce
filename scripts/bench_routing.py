"""How often routing finds the right agent, part by part; the last line of stdout is JSON.

    python scripts/bench_routing.py [--data clinc150.json]

leave one out   every example task of the registry, routed by a registry without that example;
                hard on purpose, as the examples of one agent are chosen to differ from each other
development     tasks the registry's examples were improved with (tests/agents/routing_tasks.yaml)
held_out        tasks written afterwards, same file
apart           160 tasks by another author (tests/agents/data/routing_tasks.json)
clinc           with --data: CLINC150's 150 intents as agents that have only their names as
                description, and 0 to 20 experiences each; top 1 on its test set
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ryzanstein.agents.route import Router, RoutingWeights
from ryzanstein.machine import cpu_name
from ryzanstein.memory.embed import Embedder, get_embedder
from ryzanstein.memory.records import AgentPrototype, AgentPrototypes
from ryzanstein.registry import AgentProfile, Registry, Routing, load_registry

TESTS = Path(__file__).parent.parent / "tests" / "agents"
VARIANTS = {
    "prototype": RoutingWeights(example=0, words=0, file=0),
    "nearest example": RoutingWeights(prototype=0, words=0, file=0),
    "words": RoutingWeights(prototype=0, example=0, file=0),
    "prototype + nearest example": RoutingWeights(words=0, file=0),
    "prototype + words": RoutingWeights(example=0, file=0),
    "all but file kinds": RoutingWeights(file=0),
    "all": RoutingWeights(),
}
EXPERIENCES = (0, 1, 2, 5, 10, 20)


# A router, a task for it, and the agents that may rightly get the task.
Routed = tuple[Router, str, Sequence[str]]


class Remembered:
    """An embedder that keeps what it has embedded: the benchmark asks for the same texts often."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, Any] = {}
        self.model_id = embedder.model_id
        self.dimension = embedder.dimension

    def embed(self, texts: Sequence[str]) -> Any:
        """Returns float32 [len(texts), dimension]."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._embedder.embed(new), strict=True))
        rows = [self._known[text] for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.dimension)


class Score:
    """Counts how often the right agent came first and among the first three."""

    def __init__(self) -> None:
        self.first = self.third = 0
        self.times: list[float] = []

    def add(self, router: Router, task: str, right: Sequence[str]) -> None:
        """Routes one task that any of some agents may rightly get."""
        found = router.route(task, top_k=3)
        names = [one.codename for one in found.agents]
        self.first += names[0] in right
        self.third += not set(names).isdisjoint(right)
        self.times.append(found.ms)

    def result(self) -> dict[str, float]:
        """Shares, number of tasks and median milliseconds, the embedding looked up."""
        count = len(self.times)
        shares = {"top1": round(self.first / count, 3), "top3": round(self.third / count, 3)}
        return {**shares, "tasks": count, "p50_ms": round(float(np.median(self.times)), 2)}


def leave_one_out(registry: Registry, embedder: Embedder) -> Iterator[Routed]:
    """Every example with a router of a registry that lacks it."""
    for at, profile in enumerate(registry.agents):
        for example in profile.examples:
            rest = tuple(text for text in profile.examples if text != example)
            agents = list(registry.agents)
            agents[at] = profile.model_copy(update={"examples": rest})
            without = registry.model_copy(update={"agents": tuple(agents)})
            yield Router(without, embedder), example, [profile.codename]


def written_tasks(router: Router) -> dict[str, list[Routed]]:
    """The tasks that are no examples, by set."""
    listed = yaml.safe_load((TESTS / "routing_tasks.yaml").read_text(encoding="utf-8"))
    sets = {
        name: [(router, one["task"], one["agents"]) for one in tasks]
        for name, tasks in listed.items()
    }
    apart = json.loads((TESTS / "data" / "routing_tasks.json").read_text(encoding="utf-8"))
    pairs = [(task, codename) for codename, tasks in apart.items() for task in tasks]
    return {**sets, "apart": [(router, task, [codename]) for task, codename in pairs]}


def by_variant(triples: Iterable[Routed]) -> dict[str, dict[str, float]]:
    """Routes each task by every part alone and together."""
    scores = {name: Score() for name in VARIANTS}
    for router, task, right in triples:
        for name, weights in VARIANTS.items():
            router.weights = weights
            scores[name].add(router, task, right)
    return {name: score.result() for name, score in scores.items()}


def clinc(path: Path, embedder: Embedder) -> dict[str, Any]:
    """Top 1 on CLINC150's test set by how many experiences each intent has."""
    data = json.loads(path.read_text(encoding="utf-8"))
    by_intent: dict[str, list[str]] = {}
    for text, intent in data["train"]:
        by_intent.setdefault(intent, []).append(text)
    registry = _intents(sorted(by_intent))
    result = {}
    for count in EXPERIENCES:
        known = (
            {name: embedder.embed(by_intent[name][:count]) for name in by_intent} if count else {}
        )
        everything = np.concatenate([np.zeros((0, embedder.dimension)), *known.values()])
        prototypes = AgentPrototypes(
            embedder.model_id,
            embedder.dimension,
            {n: AgentPrototype(len(v), float(len(v)), v.sum(axis=0)) for n, v in known.items()},
            everything.mean(axis=0) if known else np.zeros(embedder.dimension, np.float32),
            len(everything),
        )
        router = Router(registry, embedder, prototypes)
        score = Score()
        for text, intent in data["test"]:
            score.add(router, text, [intent])
        result[str(count)] = score.result()["top1"]
    return result


def _intents(names: Sequence[str]) -> Registry:
    # Not validated: intents have no prompts, and their names are no codenames.
    agents = tuple(
        AgentProfile.model_construct(
            id=str(at),
            codename=name,
            tier=1,
            domain=name.replace("_", " "),
            summary="",
            prompt_text="",
            examples=(),
        )
        for at, name in enumerate(names)
    )
    return Registry(models=(), backends=(), servers=(), routing=Routing(), agents=()).model_copy(
        update={"agents": agents}
    )


def main() -> None:
    """Prints one line a variant, then all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="CLINC150's JSON file")
    options = parser.parse_args()
    registry, embedder = load_registry(user=False), Remembered(get_embedder())
    result: dict[str, Any] = {"machine": cpu_name(), "suite": "routing"}
    result["embedding"] = embedder.model_id
    suites: dict[str, Iterable[Routed]] = {"leave_one_out": leave_one_out(registry, embedder)}
    suites |= written_tasks(Router(registry, embedder))
    for suite, tasks in suites.items():
        result[suite] = by_variant(tasks)
        for name, shares in result[suite].items():
            print(suite, name, shares, flush=True)
    if options.data is not None:
        result["clinc"] = clinc(options.data, embedder)
        print("clinc", result["clinc"])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
