"""What one does with experiences: record, find, rate, ask whom to consult."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ryzanstein.memory.records import AgentPrototypes, Experience, ExperienceHit, Lesson

if TYPE_CHECKING:
    from ryzanstein.memory.experiences import Experiences
    from ryzanstein.memory.prototypes import AgentExamples
    from ryzanstein.memory.sketches.thompson import Draw

__all__ = ["Learning"]


class Learning:
    """The part of a store that holds experiences."""

    _experiences: Experiences

    def record_experience(
        self,
        *,
        task: str,
        agent: str,
        outcome: str,
        fitness: float | None = None,
        strategy: str = "",
        tools: Iterable[str] = (),
        steps: Iterable[str] = (),
        reason: str = "",
        lesson: str = "",
        lessons: Iterable[Lesson | Mapping[str, str]] = (),
        answer: str = "",
        run_id: str | None = None,
        trace_id: str | None = None,
        tier: int | None = None,
        tokens: int = 0,
        seconds: float = 0.0,
    ) -> Experience:
        """Stores how a finished run went; durable on return. Texts are cut at 1,000,000 characters.

        A fitness of None is made of the outcome and of the cost among similar runs. A run that says
        the same as an earlier one (task, agent, strategy, outcome) renews that one, and what an
        agent's run was recorded as before (run_id, task) gives way to what it says now. What is far
        better than its neighbourhood ever was comes back with `breakthrough` set.

        Raises:
            InvalidRequest: The task is empty, or outcome, fitness, cost or lessons do not fit.
        """
        return self._experiences.record(
            task=task,
            agent=agent,
            outcome=outcome,
            fitness=fitness,
            strategy=strategy,
            tools=tools,
            steps=steps,
            reason=reason,
            lesson=lesson,
            lessons=lessons,
            answer=answer,
            run_id=run_id,
            trace_id=trace_id,
            tier=tier,
            tokens=tokens,
            seconds=seconds,
        )

    def find_experiences(
        self, task: str, *, agent: str | None = None, tier: int | None = None, limit: int = 2
    ) -> list[ExperienceHit]:
        """Finds the one or two most useful experiences of similar tasks, and says why each is.

        Args:
            task: What is to be done.
            agent: Only this agent's experiences, and breakthroughs of the tier.
            tier: The asking agent's, for which breakthroughs of its tier are brought up.
            limit: 1 to 1,000.

        Raises:
            InvalidRequest: The task is empty, or the limit or the tier is out of bounds.
        """
        return self._experiences.find(task, agent=agent, tier=tier, limit=limit)

    def breakthroughs(
        self, *, tier: int | None = None, refuted: bool | None = None, limit: int = 20
    ) -> list[Experience]:
        """Returns experiences flagged as breakthroughs, newest first; refuted None means all."""
        return self._experiences.breakthroughs(tier=tier, refuted=refuted, limit=limit)

    def consult(
        self, candidates: Sequence[str], task: str, *, seed: int | None = None
    ) -> list[Draw]:
        """Draws whom to ask about a task (Thompson sampling); the first is the one to ask.

        Args:
            candidates: Codenames, 1 to 1,000.
            task: What it is about.
            seed: For the same draws again.

        Raises:
            InvalidRequest: The task is empty, or there is no candidate or a wrong name.
        """
        return self._experiences.consult(candidates, task, seed=seed)

    def tool_uses(self, tools: Iterable[str]) -> dict[str, int]:
        """About how often runs used each tool: never too low, too high by .1 % of all uses."""
        return self._experiences.uses(tools)

    def distinct_tasks(self) -> dict[str, int]:
        """About how many different tasks each agent has done (standard error 3 %); "" is all."""
        return self._experiences.distinct_tasks()

    def get_experience(self, id: str) -> Experience | None:
        """Returns an experience by its id; None where there is none."""
        return self._experiences.get(id)

    def list_experiences(self, limit: int = 50) -> list[Experience]:
        """Returns the newest experiences.

        Raises:
            InvalidRequest: The limit is out of bounds.
        """
        return self._experiences.newest(limit)

    def rate_experience(self, id: str, rating: float) -> Experience:
        """Keeps a person's rating, 0 to 1; it outweighs what the run thought of itself.

        Raises:
            InvalidRequest: There is no such experience, or the rating is out of bounds.
        """
        return self._experiences.rate(id, rating)

    def prototypes(self) -> AgentPrototypes:
        """Adds up every agent's experiences for routing; kept until the database changes."""
        return self._experiences.prototypes()

    def examples(self, per_agent: int = 50) -> AgentExamples:
        """The newest successes of every agent one by one, for what their sum does not tell."""
        return self._experiences.examples(per_agent)
