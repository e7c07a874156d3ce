"""Which agent fits a task: declared profile and experience in one score that explains itself.

    P     = α·(description - m) + Σ (example - m) + Σ weight·(experience - m')   per agent
    score = cosine(P, task - m') + t·(0.4·nearest example + 0.06·words) + cues

The first term is the shrunk prototype: the declared profile holds until experience outweighs it.
An example task counts as an experience of weight 1, the description as α of them (routing.alpha,
2). m is the mean of the declared profiles, m' that of all experiences, drawn towards m while they
are few. Weights of experiences are those of ryzanstein.memory.records.experience_weight: successes
pull by their fitness, failures push away gently. Averaged word vectors alone miss names, so the
words of the profiles (BM25) join in; t falls from 1 as experience grows (1/2 at ten good ones an
agent). A mention or a slash command decides; a file's kind tips.
scripts/bench_routing.py prints how each part does by itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ryzanstein.agents.complexity import Complexity, estimate
from ryzanstein.agents.cues import Cues, read_cues
from ryzanstein.agents.vocabulary import Vocabulary
from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.records import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder
    from ryzanstein.memory.records import AgentPrototypes
    from ryzanstein.registry import AgentProfile, Registry

__all__ = ["Ranked", "RouteResult", "Router", "RoutingWeights"]

# Experiences it takes until their own mean counts as much as that of the declared profiles.
_MEAN_PRIOR = 10
# Good experiences an agent, on average, until nearest examples and words count half.
_DECLARED_PRIOR = 10
_MENTIONED = 10.0
_COMMANDED = 5.0
_SHOWN_WORDS = 4
_SMALL = 1e-9


@dataclass(frozen=True, slots=True)
class RoutingWeights:
    """What each kind of evidence counts for; measured by scripts/bench_routing.py."""

    prototype: float = 1.0
    example: float = 0.4
    words: float = 0.06
    file: float = 0.45


@dataclass(frozen=True, slots=True)
class Ranked:
    """An agent, its score, and the reasons whose weights add up to it."""

    codename: str
    score: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class RouteResult:
    """Agents for a task.

    Attributes:
        agents: Best first.
        ms: Milliseconds it took, the embedding of the task included.
        complexity: How much work the task is, and what may be spent on it.
        notes: What the caller should know, for instance that experience could not be used.
        fits: Whether any agent fits; where none does, `agents` are the nearest all the same.
        scope: Probability that the task is one for these agents at all.
    """

    agents: tuple[Ranked, ...]
    ms: float
    complexity: Complexity
    notes: tuple[str, ...] = ()
    fits: bool = True
    scope: float = 1.0


class Router:
    """Ranks agents; the profiles' vectors are made once.

    Args:
        registry: Agents and routing rules.
        embedder: Embeds profiles and tasks.
        prototypes: What past runs add up to; None means no experience.
        weights: What each kind of evidence counts for.
    """

    def __init__(
        self,
        registry: Registry,
        embedder: Embedder,
        prototypes: AgentPrototypes | None = None,
        weights: RoutingWeights | None = None,
    ) -> None:
        self._registry = registry
        self._embedder = embedder
        self.weights = weights or RoutingWeights()
        self._profiles: Sequence[AgentProfile] = registry.agents
        self._alpha = registry.routing.alpha
        self._embed_profiles()
        self._vocabulary = Vocabulary(self._profiles)
        self.use(prototypes)

    def use(self, prototypes: AgentPrototypes | None) -> None:
        """Takes newer experience; the profiles need not be embedded again."""
        self._notes: tuple[str, ...] = ()
        if prototypes is not None and (
            prototypes.model_id != self._embedder.model_id
            or prototypes.dimension != self._embedder.dimension
        ):
            self._notes = (
                f"Past runs were left out: their vectors are {prototypes.model_id}'s, "
                f"the router's {self._embedder.model_id}'s.",
            )
            prototypes = None
        self._prototypes = prototypes
        self._pull = self._experience(prototypes)

    def route(self, task: str, top_k: int = 5, files: Sequence[str] = ()) -> RouteResult:
        """Ranks the agents for a task.

        Args:
            task: What is asked.
            top_k: Agents to return.
            files: Names of files that come with the task besides those it mentions.

        Raises:
            InvalidRequest: The task is empty, or top_k is below 1.
        """
        start = time.perf_counter()
        if not task.strip():
            raise InvalidRequest("The task is empty.", hint="Say what is to be done.")
        if top_k < 1:
            raise InvalidRequest(f"top_k is {top_k}.", hint="Give a number from 1.")
        cues = read_cues(task, self._registry, files)
        evidence = self._evidence(cues)
        totals = np.array([sum(reason.weight for reason in one) for one in evidence])
        best = np.argsort(-totals, kind="stable")[:top_k]
        ranked = tuple(
            Ranked(
                self._profiles[at].codename,
                float(totals[at]),
                tuple(sorted(evidence[at], key=lambda reason: -abs(reason.weight))),
            )
            for at in best.tolist()
        )
        ms = 1e3 * (time.perf_counter() - start)
        return RouteResult(ranked, ms, estimate(task), self._notes)

    def _embed_profiles(self) -> None:
        """Declared pull of each agent, the mean profile, and all example vectors centred on it."""
        count, dimension = len(self._profiles), self._embedder.dimension
        descriptions = self._embedder.embed(
            [f"{one.domain}. {one.summary}" for one in self._profiles]
        )
        examples = [(at, text) for at, one in enumerate(self._profiles) for text in one.examples]
        self._examples = [text for _, text in examples]
        self._owners = np.array([at for at, _ in examples], dtype=np.int64)
        vectors = self._embedder.embed(self._examples)
        sums = np.zeros((count, dimension), dtype=np.float32)
        np.add.at(sums, self._owners, vectors)
        texts = self._alpha + np.bincount(self._owners, minlength=count).astype(np.float32)
        sums += self._alpha * descriptions
        self._mean: NDArray[np.float32] = (sums / np.maximum(texts, _SMALL)[:, None]).mean(axis=0)
        self._declared: NDArray[np.float32] = sums - texts[:, None] * self._mean
        self._example_vectors = _unit(vectors - self._mean)

    def _experience(self, prototypes: AgentPrototypes | None) -> NDArray[np.float32]:
        """Pull of each agent's experience, float32 [agents, dimension]."""
        pull = np.zeros_like(self._declared)
        self._centre, self._trust = self._mean, 1.0
        if prototypes is None or not prototypes.count:
            return pull
        count = prototypes.count
        mean = (count * prototypes.mean + _MEAN_PRIOR * self._mean) / (count + _MEAN_PRIOR)
        self._centre = mean.astype(np.float32)
        each = sum(max(one.weight, 0.0) for one in prototypes.agents.values()) / len(pull)
        self._trust = _DECLARED_PRIOR / (_DECLARED_PRIOR + each)
        for at, profile in enumerate(self._profiles):
            mine = prototypes.agents.get(profile.codename)
            if mine is not None:
                pull[at] = mine.total - mine.weight * mean
        return pull

    def _evidence(self, cues: Cues) -> list[list[Reason]]:
        query = _unit(self._embedder.embed([cues.task]) - self._centre)[0]
        evidence: list[list[Reason]] = [[] for _ in self._profiles]
        self._add_prototypes(evidence, query)
        self._add_examples(evidence, query)
        self._add_words(evidence, cues.task)
        self._add_cues(evidence, cues)
        return evidence

    def _add_prototypes(self, evidence: list[list[Reason]], query: NDArray[np.float32]) -> None:
        norms = np.maximum(np.linalg.norm(self._declared + self._pull, axis=1), _SMALL)
        declared = self.weights.prototype * (self._declared @ query) / norms
        learnt = self.weights.prototype * (self._pull @ query) / norms
        known = self._prototypes.agents if self._prototypes is not None else {}
        for at, profile in enumerate(self._profiles):
            evidence[at].append(Reason("profile", "what the agent is for", float(declared[at])))
            mine = known.get(profile.codename)
            if mine is not None:
                runs = f"{mine.count} past run{'s' if mine.count != 1 else ''}"
                detail = f"{runs} of weight {mine.weight:.2f}"
                evidence[at].append(Reason("experience", detail, float(learnt[at])))

    def _add_examples(self, evidence: list[list[Reason]], query: NDArray[np.float32]) -> None:
        near = self._example_vectors @ query
        best = np.full(len(self._profiles), -1.0, dtype=np.float32)
        np.maximum.at(best, self._owners, near)
        for place in np.flatnonzero(near == best[self._owners]).tolist():
            at = int(self._owners[place])
            if any(reason.kind == "example" for reason in evidence[at]):
                continue
            detail = f'example "{self._examples[place]}", similarity {near[place]:.2f}'
            weight = self._trust * self.weights.example * float(near[place])
            evidence[at].append(Reason("example", detail, weight))

    def _add_words(self, evidence: list[list[Reason]], task: str) -> None:
        scores, words, shares = self._vocabulary.scores(task)
        for at in np.flatnonzero(scores).tolist():
            order = np.argsort(-shares[:, at], kind="stable")[:_SHOWN_WORDS]
            shown = ", ".join(words[place] for place in order.tolist() if shares[place, at] > 0)
            weight = self._trust * self.weights.words * float(scores[at])
            evidence[at].append(Reason("words", f"words {shown}", weight))

    def _add_cues(self, evidence: list[list[Reason]], cues: Cues) -> None:
        place = {profile.codename: at for at, profile in enumerate(self._profiles)}
        for order, name in enumerate(cues.mentioned):
            weight = _MENTIONED / (1 + order)
            evidence[place[name]].append(Reason("mention", f"@{name} was asked for", weight))
        if cues.command is not None and cues.command[1] in place:
            command, name = cues.command
            reason = Reason("command", f"/{command} is {name}'s", _COMMANDED)
            evidence[place[name]].append(reason)
        for file, names in cues.files:
            for order, name in enumerate(names):
                if name in place:
                    weight = self.weights.file / (1 + order) / len(cues.files)
                    evidence[place[name]].append(Reason("file", f"works on {file}", weight))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: NDArray[np.float32] = vectors / np.maximum(norms, _SMALL)
    return result
