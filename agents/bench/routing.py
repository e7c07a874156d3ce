"""How often routing is right: from descriptions alone, and with more and more examples.

top1 top3 top5      shares of the test tasks whose label is first, or among the first 3 and 5,
by descriptions (and the examples of the registry's agents) alone
curve               top 1 by examples a label, at most so many of each, drawn once by a fixed
seed, a smaller draw being part of a greater one
auroc_out_of_scope  chance that a task of a label has a higher scope than one of none, at the
end of the curve (Mann-Whitney); refused_at: share of the latter below the
scope that refuses a given share of the former
ms_per_task         median of what routing one task takes by descriptions, its embedding included;
 ms_without_embedding: the same without; ms_learnt: without, at the end of the curve
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from ryzanstein.agents.bench.routing_data import Fold, RoutingData, read_data, registry_tasks
from ryzanstein.agents.routing.route import Router, RouteResult
from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.embed import Embedder, get_embedder
from ryzanstein.memory.prototypes import AgentExamples, add_up
from ryzanstein.registry import Registry

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SIZES", "Remembered", "auroc", "measure", "run"]

SIZES = (0, 2, 5, 10, 25, 50)
_SEED = 17
_TOP = 5
_EMBEDDED_AT_ONCE = 512
# Shares of tasks in scope that are refused, for the trade-off.
_REFUSED = (0.01, 0.02, 0.05)


class Remembered:
    """An embedder that keeps what it has embedded: the benchmark asks for the same texts often."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, NDArray[np.float32]] = {}
        self.model_id = embedder.model_id
        self.dimension = embedder.dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 [len(texts), dimension]."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._embedder.embed(new), strict=True))
        rows = [self._known[text] for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.dimension)


def run(
    *,
    registry: Registry,
    data: Path | None = None,
    labels: Path | None = None,
    embedding: str | None = None,
    progress: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> dict[str, Any]:
    """Measures routing on the registry's own tasks or on a file's.

    Args:
        registry: The agents, and the labels where the data has none of its own.
        data: CSV with columns task, label, split, or CLINC150's JSON.
        labels: CSV with columns label, description.
        embedding: Another embedding than the configured one.
        progress: Hears what is being done.

    Raises:
        InvalidRequest: A file cannot be used.
        ConfigError: There is no such embedding.
    """
    if data is None and labels is not None:
        raise InvalidRequest("--labels goes with --data.", hint="Give the tasks with --data FILE.")
    tasks = registry_tasks(registry) if data is None else read_data(data, labels, registry)
    return measure(tasks, Remembered(get_embedder(embedding)), progress)


def measure(
    data: RoutingData, embedder: Remembered, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Measures zero-shot routing, the learning curve and what is out of scope."""
    count = sum(len(fold.test) for fold in data.folds)
    progress(f"{len(data.registry.agents)} labels, {count} tasks, {len(data.outside)} outside")
    result: dict[str, Any] = {
        "suite": "routing",
        "embedding": embedder.model_id,
        "labels": len(data.registry.agents),
        "tasks": count,
        "tasks_outside": len(data.outside),
    }
    curve: dict[str, float] = {}
    for size in _sizes(data, progress):
        rights, scopes, outside, times = _at(data, size, embedder)
        curve[str(size)] = _share(rights, 1)
        progress(f"{size} examples a label: top 1 {curve[str(size)]:.4f}")
        if size == 0:
            result.update({f"top{top}": _share(rights, top) for top in (1, 3, 5)})
            result["ms_per_task"] = round(median(times), 3)
    result["curve"] = curve
    if outside:
        result["auroc_out_of_scope"] = round(auroc(scopes, outside), 4)
        result["refused_at"] = _trade_off(scopes, outside)
    if len(curve) > 1:
        result["ms_learnt"] = round(median(times), 3)
    # The vectors of all tasks are known by now.
    result["ms_without_embedding"] = round(median(_at(data, 0, embedder)[-1]), 3)
    return result


def auroc(inside: Sequence[float], outside: Sequence[float]) -> float:
    """Chance that a value of the first is above one of the second; ties count half."""
    values = np.concatenate([np.asarray(inside), np.asarray(outside)])
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(times) - (times - 1) / 2)[place]
    first, second = len(inside), len(outside)
    return float((ranks[:first].sum() - first * (first + 1) / 2) / (first * second))


def _sizes(data: RoutingData, progress: Callable[[str], None]) -> list[int]:
    """The sizes of the curve that at least one label has as many examples for."""
    most = max((len(mine) for fold in data.folds for mine in _by_label(fold).values()), default=0)
    kept = [size for size in SIZES if size <= most]
    if kept != list(SIZES):
        progress(f"No label has more than {most} examples to learn from: the curve ends there.")
    return kept


def _at(
    data: RoutingData, size: int, embedder: Remembered
) -> tuple[list[int], list[float], list[float], list[float]]:
    """Routes every task after so many examples a label.

    Returns:
        Place of the right label (from 0; _TOP where it is further down) and scope of each task,
        scope of each task outside, and milliseconds of each task.
    """
    places: list[int] = []
    scopes: list[float] = []
    outside: list[float] = []
    times: list[float] = []
    routing = data.registry.routing
    if size and data.elsewhere:
        routing = routing.model_copy(update={"elsewhere": tuple(data.elsewhere)})
    registry = data.registry.model_copy(update={"routing": routing})
    for fold in data.folds:
        router = Router(registry, embedder)
        _teach(router, fold, size, embedder)
        for task, right in fold.test:
            found = router.route(task, top_k=_TOP)
            places.append(_place(found, right))
            scopes.append(found.scope)
            times.append(found.ms)
        outside += [router.route(task, top_k=1).scope for task in data.outside]
    return places, scopes, outside, times


def _teach(router: Router, fold: Fold, size: int, embedder: Remembered) -> None:
    """Gives a router so many examples of each label as if they were successful runs."""
    if not size:
        return
    drawn = [(task, label) for label, mine in _by_label(fold).items() for task in mine[:size]]
    texts, labels = [task for task, _ in drawn], tuple(label for _, label in drawn)
    for start in range(0, len(texts), _EMBEDDED_AT_ONCE):
        embedder.embed(texts[start : start + _EMBEDDED_AT_ONCE])
    weights, vectors = np.ones(len(texts), dtype=np.float32), embedder.embed(texts)
    examples = AgentExamples(embedder.model_id, labels, tuple(texts), weights, vectors)
    router.use(add_up(embedder.model_id, labels, weights, vectors), examples)


def _by_label(fold: Fold) -> Mapping[str, list[str]]:
    """Different examples of each label, in an order of chance that is always the same."""
    found: dict[str, list[str]] = {}
    for task, label in dict.fromkeys(fold.train):
        found.setdefault(label, []).append(task)
    for label, tasks in found.items():
        random.Random(f"{_SEED} {label}").shuffle(tasks)
    return found


def _place(found: RouteResult, right: Sequence[str]) -> int:
    names = [one.codename for one in found.agents]
    return min((names.index(name) for name in right if name in names), default=_TOP)


def _share(places: Sequence[int], top: int) -> float:
    return round(sum(place < top for place in places) / len(places), 4)


def _trade_off(inside: Sequence[float], outside: Sequence[float]) -> dict[str, float]:
    """Share of tasks outside that is refused where a given share of those inside is."""
    limits = {share: float(np.quantile(inside, share)) for share in _REFUSED}
    return {
        str(share): round(sum(value < limit for value in outside) / len(outside), 4)
        for share, limit in limits.items()
    }
