"""How often routing finds the right agent, part by part; the last line of stdout is JSON.

    python scripts/bench_routing.py

leave one out   every example task of the registry, routed by a registry without that example;
                hard on purpose, as the examples of one agent are chosen to differ from each other
development     tasks the registry's examples were improved with (agents/bench/routing_tasks.yaml)
held_out        tasks written afterwards, same file
apart           160 tasks by another author, same file
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ryzanstein.agents.bench.routing import Remembered
from ryzanstein.agents.routing.route import Router, RoutingWeights
from ryzanstein.machine import cpu_name
from ryzanstein.memory.embed import Embedder, get_embedder
from ryzanstein.registry import Registry, load_registry

TASKS = Path(__file__).parent.parent / "agents" / "bench" / "routing_tasks.yaml"
VARIANTS = {
    "prototype": RoutingWeights(example=0, words=0, file=0),
    "nearest example": RoutingWeights(prototype=0, words=0, file=0),
    "words": RoutingWeights(prototype=0, example=0, file=0),
    "prototype + nearest example": RoutingWeights(words=0, file=0),
    "prototype + words": RoutingWeights(example=0, file=0),
    "all but file kinds": RoutingWeights(file=0),
    "all": RoutingWeights(),
}


# A router, a task for it, and the agents that may rightly get the task.
Routed = tuple[Router, str, Sequence[str]]


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
    listed = yaml.safe_load(TASKS.read_text(encoding="utf-8"))
    del listed["outside"]
    return {
        name: [(router, one["task"], one["agents"]) for one in tasks]
        for name, tasks in listed.items()
    }


def by_variant(triples: Iterable[Routed]) -> dict[str, dict[str, float]]:
    """Routes each task by every part alone and together."""
    scores = {name: Score() for name in VARIANTS}
    for router, task, right in triples:
        for name, weights in VARIANTS.items():
            router.weights = weights
            scores[name].add(router, task, right)
    return {name: score.result() for name, score in scores.items()}


def main() -> None:
    """Prints one line a variant, then all of it as JSON."""
    registry, embedder = load_registry(user=False), Remembered(get_embedder())
    result: dict[str, Any] = {"machine": cpu_name(), "suite": "routing"}
    result["embedding"] = embedder.model_id
    suites: dict[str, Iterable[Routed]] = {"leave_one_out": leave_one_out(registry, embedder)}
    suites |= written_tasks(Router(registry, embedder))
    for suite, tasks in suites.items():
        result[suite] = by_variant(tasks)
        for name, shares in result[suite].items():
            print(suite, name, shares, flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
