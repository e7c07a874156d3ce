"""Experiences as routing takes them: one by one, and added up by agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ryzanstein.memory.records import AgentPrototype, AgentPrototypes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AgentExamples", "add_up"]


@dataclass(frozen=True, slots=True)
class AgentExamples:
    """Past tasks and the agents that did them, row by row.

    Attributes:
        model_id: Embedding model of the vectors.
        agents: Codenames.
        tasks: What was asked.
        weights: `experience_weight` of each, float32 [n].
        vectors: Float32 [n, dimension].
    """

    model_id: str
    agents: tuple[str, ...]
    tasks: tuple[str, ...]
    weights: NDArray[np.float32]
    vectors: NDArray[np.float32]


def add_up(
    model_id: str,
    agents: Sequence[str],
    weights: NDArray[np.float32],
    vectors: NDArray[np.float32],
) -> AgentPrototypes:
    """Adds up the experiences of each agent.

    Args:
        model_id: Embedding model of the vectors.
        agents: Codename of each experience.
        weights: Weight of each, float32 [n].
        vectors: Float32 [n, dimension].
    """
    places: dict[str, list[int]] = {}
    for at, name in enumerate(agents):
        places.setdefault(name, []).append(at)
    prototypes = {
        name: AgentPrototype(len(mine), float(weights[mine].sum()), weights[mine] @ vectors[mine])
        for name, mine in sorted(places.items())
    }
    dimension = vectors.shape[1]
    mean = vectors.mean(axis=0) if len(vectors) else np.zeros(dimension, dtype=np.float32)
    return AgentPrototypes(model_id, dimension, prototypes, mean, len(agents))
