"""Which agent fits a task: declared profile and experience in one score that explains itself.

    P     = α·(description - m) + Σ (example - m) + Σ weight·(experience - m')   per agent
    score = cosine(P, task - m') + t·(0.4·nearest example + 0.06·words) + learnt + cues

The first term is the shrunk prototype: the declared profile holds until experience outweighs it.
An example task counts as an experience of weight 1, the description as α of them (routing.alpha,
2, for every sixteen words of it). m is the mean of the declared profiles, m' that of all
experiences, drawn towards m while they are few. Weights of experiences are those of
ryzanstein.memory.records.experience_weight: successes pull by their fitness, failures push away
gently. Averaged word vectors alone miss names, so the words of the profiles (BM25) join in; t falls
from 1 as experience grows (1/2 at ten good ones an agent). `learnt` is what logistic regression
over single experiences adds to their sum; it takes the place of the nearest example. A mention or a
slash command decides; a file's kind tips. Whether any agent fits is what `scope` says.
`ryzanstein bench routing` measures it; scripts/bench_routing.py prints how each part does alone.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ryzanstein.agents.routing.complexity import Complexity, estimate
from ryzanstein.agents.routing.cues import Cues, read_cues
from ryzanstein.agents.routing.learnt import Learnt, Rows, unit
from ryzanstein.agents.routing.scope import REFUSED_BELOW, Scope, sampled, without_own
from ryzanstein.agents.routing.vocabulary import Vocabulary
from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.records import Reason
from ryzanstein.memory.text import distinct_words
from ryzanstein.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder
    from ryzanstein.memory.prototypes import AgentExamples
    from ryzanstein.memory.records import AgentPrototypes
    from ryzanstein.registry import AgentProfile, Registry

__all__ = ["Ranked", "RouteResult", "Router", "RoutingWeights"]

# Experiences it takes until their own mean counts as much as that of the declared profiles.
_MEAN_PRIOR = 10
# Good experiences an agent, on average, until nearest examples and words count half.
_DECLARED_PRIOR = 10
# Words of a description that count as routing.alpha examples; a shorter one does so too.
_WORDS_OF_ALPHA = 16
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
    learnt: float = 1.0
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


@dataclass(frozen=True, slots=True)
class _Part:
    """One kind of evidence: what it adds to each agent, float32 [agents], and how it says so."""

    kind: str
    weights: NDArray[np.float32]
    detail: Callable[[int], str]


class Router:
    """Ranks agents; the profiles' vectors are made once.

    Args:
        registry: Agents and routing rules.
        embedder: Embeds profiles and tasks.
        prototypes: What past runs add up to; None means no experience.
        weights: What each kind of evidence counts for.
        examples: Past runs one by one, for what their sum does not tell.
    """

    def __init__(
        self,
        registry: Registry,
        embedder: Embedder,
        prototypes: AgentPrototypes | None = None,
        weights: RoutingWeights | None = None,
        examples: AgentExamples | None = None,
    ) -> None:
        self._registry = registry
        self._embedder = embedder
        self.weights = weights or RoutingWeights()
        self._profiles: Sequence[AgentProfile] = registry.agents
        self._place = {profile.codename: at for at, profile in enumerate(self._profiles)}
        self._vocabulary = Vocabulary(self._profiles)
        self._embed_profiles()
        self.use(prototypes, examples)

    def apart(self) -> Router:
        """Returns a router for the same profiles that has no experience yet."""
        other = copy.copy(self)
        other.use(None)
        return other

    def use(
        self, prototypes: AgentPrototypes | None, examples: AgentExamples | None = None
    ) -> None:
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
            prototypes = examples = None
        self._prototypes = prototypes
        self._pull = self._experience(prototypes)
        self._norms = np.maximum(np.linalg.norm(self._declared + self._pull, axis=1), _SMALL)
        self._learn(examples)

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
        query = unit(self._embedder.embed([cues.task]) - self._centre)[0]
        told = [
            *self._of_vectors(query),
            *self._of_examples(query, cues.task),
            *self._of_declared(query, cues.task),
        ]
        parts = [*told, *self._of_cues(cues)]
        totals = np.sum([part.weights for part in parts], axis=0)
        best = np.argsort(-totals, kind="stable")[:top_k]
        ranked = tuple(
            Ranked(self._profiles[at].codename, float(totals[at]), _reasons(parts, at))
            for at in best.tolist()
        )
        known = float(np.sum([part.weights for part in told], axis=0).max())
        scope = 1.0 if cues.decided else self._scope.probability(query, known)
        fits = scope >= REFUSED_BELOW or self._registry.routing.out_of_scope == "nearest"
        ms = 1e3 * (time.perf_counter() - start)
        notes = (*self._notes, *(_unknown(said, self._registry) for said in cues.unknown))
        return RouteResult(ranked, ms, estimate(task), notes, fits, scope)

    def _embed_profiles(self) -> None:
        """Declared pull of each agent, the mean profile, and all example vectors centred on it."""
        count, dimension = len(self._profiles), self._embedder.dimension
        self._descriptions = [
            f"{one.domain}. {one.summary}" if one.summary else one.domain for one in self._profiles
        ]
        said = [len(distinct_words(text)) / _WORDS_OF_ALPHA for text in self._descriptions]
        self._alphas = self._registry.routing.alpha * np.maximum(said, 1).astype(np.float32)
        descriptions = self._embedder.embed(self._descriptions)
        examples = [(at, text) for at, one in enumerate(self._profiles) for text in one.examples]
        texts = [text for _, text in examples]
        owners = np.array([at for at, _ in examples], dtype=np.int64)
        vectors = self._embedder.embed(texts).reshape(len(texts), dimension)
        self._rows = Rows(owners, texts, np.ones(len(texts), dtype=np.float32), vectors)
        sums = self._rows.sums(vectors, count) + self._alphas[:, None] * descriptions
        each = self._alphas + np.bincount(owners, minlength=count).astype(np.float32)
        self._mean: NDArray[np.float32] = (sums / np.maximum(each, _SMALL)[:, None]).mean(axis=0)
        self._declared: NDArray[np.float32] = sums - each[:, None] * self._mean
        self._example_vectors = unit(vectors - self._mean)
        outside = self._registry.routing.elsewhere
        self._outside = self._embedder.embed(outside).reshape(len(outside), dimension)

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

    def _learn(self, examples: AgentExamples | None) -> None:
        """Fits what single past tasks teach, and what is in scope."""
        rows, self._learnt = self._rows, None
        kept = [] if examples is None else self._usable(examples)
        if examples is not None and kept:
            owners = np.array([self._place[examples.agents[at]] for at in kept], dtype=np.int64)
            texts = [examples.tasks[at] for at in kept]
            past = Rows(owners, texts, examples.weights[kept], examples.vectors[kept])
            rows = rows.joined(past)
            prototypes = (self._declared + self._pull) / self._norms[:, None]
            self._learnt = Learnt(
                rows, self._descriptions, prototypes, self._centre, self._alphas, self._trust
            )
        chosen = sampled(len(rows.owners))
        best = self._left_out(rows, chosen).max(axis=1, initial=-1.0)
        near, outside = unit(rows.vectors - self._centre), unit(self._outside - self._centre)
        self._scope = Scope(near, outside, chosen, best)

    def _left_out(self, rows: Rows, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """Scores of some examples for all agents, without what each example adds itself."""
        vectors, sums = rows.vectors - self._centre, self._declared + self._pull
        scores: NDArray[np.float32] = without_own(rows, chosen, vectors, sums, 1.0)
        if self._learnt is not None:
            scores += without_own(rows, chosen, *self._learnt.block)
        declared = len(self._rows.owners)
        for place, row in enumerate(chosen.tolist()):
            near = self._example_vectors @ unit(rows.vectors[row] - self._mean)
            words = self._vocabulary.scores(rows.texts[row])[0]
            if row < declared:
                own = int(rows.owners[row])
                near[row] = -1
                words[own] = self._vocabulary.score_without(rows.texts[row], own)
            scores[place] += self._declaration(self._nearest(near), words)
        return scores

    def _nearest(self, near: NDArray[np.float32]) -> NDArray[np.float32]:
        """Highest similarity of each agent's examples; 0 for an agent without any."""
        best = np.full(len(self._profiles), -1.0, dtype=np.float32)
        np.maximum.at(best, self._rows.owners, near)
        return np.where(best > -1, best, np.float32(0))

    def _declaration(
        self, nearest: NDArray[np.float32], words: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        scale = np.float32(self._trust)
        share = np.float32(self.weights.words * self._vocabulary.richness)
        # The regression has learnt from the declared examples too.
        example = 0.0 if self._learnt is not None else self.weights.example
        return scale * (np.float32(example) * nearest + share * words)

    def _usable(self, examples: AgentExamples) -> list[int]:
        """Rows of successes of agents that are still there."""
        known = enumerate(zip(examples.agents, examples.weights.tolist(), strict=True))
        return [at for at, (name, weight) in known if weight > 0 and name in self._place]

    def _of_vectors(self, query: NDArray[np.float32]) -> list[_Part]:
        """The shrunk prototypes, in the part that is declared and the part that is experience."""
        scale = self.weights.prototype / self._norms
        parts = [
            _Part("profile", scale * (self._declared @ query), lambda _: "what the agent is for")
        ]
        if self._prototypes is not None:
            learnt = scale * (self._pull @ query)
            parts.append(_Part("experience", learnt, self._runs))
        return parts

    def _runs(self, at: int) -> str:
        known = self._prototypes.agents if self._prototypes is not None else {}
        mine = known.get(self._profiles[at].codename)
        if mine is None:
            return "no past run"
        return f"{mine.count} past run{'s' if mine.count != 1 else ''} of weight {mine.weight:.2f}"

    def _of_examples(self, query: NDArray[np.float32], task: str) -> list[_Part]:
        """What single past tasks teach beyond their sum."""
        if self._learnt is None:
            return []
        words, change = self._learnt.scores(query, task)
        scale = self.weights.learnt
        return [
            _Part("learnt words", scale * words, lambda _: "words of past tasks"),
            _Part("learnt", scale * change, lambda _: "regression over past tasks"),
        ]

    def _of_declared(self, query: NDArray[np.float32], task: str) -> list[_Part]:
        """The nearest example task and the words of the profile; both fade with experience."""
        near = self._example_vectors @ query
        best = self._nearest(near)
        scores, words, shares = self._vocabulary.scores(task)

        def example(at: int) -> str:
            place = int(np.flatnonzero((self._rows.owners == at) & (near == best[at]))[0])
            return f'example "{self._rows.texts[place]}", similarity {near[place]:.2f}'

        def shown(at: int) -> str:
            order = np.argsort(-shares[:, at], kind="stable")[:_SHOWN_WORDS]
            named = ", ".join(words[place] for place in order.tolist() if shares[place, at] > 0)
            return f"words {named}"

        return [
            _Part("example", self._declaration(best, 0 * scores), example),
            _Part("words", self._declaration(0 * best, scores), shown),
        ]

    def _of_cues(self, cues: Cues) -> list[_Part]:
        """What the task says outright."""
        parts = []
        for order, name in enumerate(cues.mentioned):
            weight = _MENTIONED / (1 + order)
            parts.append(self._cue("mention", name, weight, f"@{name} was asked for"))
        if cues.command is not None:
            command, name = cues.command
            parts.append(self._cue("command", name, _COMMANDED, f"/{command} is {name}'s"))
        for file, names in cues.files:
            for order, name in enumerate(names):
                weight = self.weights.file / (1 + order) / len(cues.files)
                parts.append(self._cue("file", name, weight, f"works on {file}"))
        return parts

    def _cue(self, kind: str, name: str, weight: float, detail: str) -> _Part:
        weights = np.zeros(len(self._profiles), dtype=np.float32)
        if name in self._place:
            weights[self._place[name]] = weight
        return _Part(kind, weights, lambda _: detail)


def _unknown(said: str, registry: Registry) -> str:
    """Says that there is no such agent or command, and what it might have been."""
    if said.startswith("/"):
        near = did_you_mean(said[1:], registry.routing.commands)
        return f"There is no command {said}. {near}".strip()
    near = did_you_mean(said[1:].upper(), [one.codename for one in registry.agents])
    return f"There is no agent {said}. {near}".strip()


def _reasons(parts: Sequence[_Part], at: int) -> tuple[Reason, ...]:
    """What speaks for and against one agent, the heaviest first."""
    told = [part for part in parts if part.weights[at]]
    reasons = [Reason(part.kind, part.detail(at), float(part.weights[at])) for part in told]
    return tuple(sorted(reasons, key=lambda reason: -abs(reason.weight)))
