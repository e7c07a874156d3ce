"""What the tools of the orchestrator answer."""

from __future__ import annotations

from typing import Any

from mcp_types import ResourceLink
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema as Aside

from ryzanstein.mcp_servers._factory import Reply, linked

__all__ = [
    "AgentBrief",
    "AgentDescription",
    "AgentPage",
    "Cancelled",
    "Ran",
    "RankedAgent",
    "Rated",
    "Route",
    "RunLimits",
    "RunState",
]


class AgentBrief(Reply):
    """An agent in one line."""

    codename: str
    id: Aside[str]
    tier: int
    tier_name: Aside[str]
    domain: str
    summary: str


class AgentPage(Reply):
    """Agents, best first where there was a query."""

    agents: list[AgentBrief]
    next_cursor: str | None = None

    def brief(self) -> str:
        """Returns one line an agent."""
        lines = [f"{agent.codename}: {agent.summary}" for agent in self.agents]
        if self.next_cursor:
            lines.append(f"More with cursor={self.next_cursor}.")
        return "\n".join(lines) or "No agent fits."


class RunLimits(Reply):
    """What a run may spend."""

    steps: int
    tokens: int
    seconds: float


class AgentDescription(AgentBrief):
    """Everything an agent is."""

    tools: list[str]
    examples: list[str]
    consults: list[str]
    hands_on_to: list[str]
    commands: Aside[list[str]]
    model: Aside[str | None]
    limits: Aside[RunLimits]
    prompt_text: Aside[str]

    def brief(self) -> str:
        """Returns what helps to choose; the prompt is in the structured content."""
        return "\n".join(
            (
                f"{self.codename} ({self.domain}): {self.summary}",
                f"Tools: {', '.join(self.tools) or 'none'}",
                f"For instance: {'; '.join(self.examples[:4])}",
                f"Hands on to: {', '.join(self.hands_on_to) or 'nobody'}",
            )
        )

    def elsewhere(self) -> list[ResourceLink]:
        """Returns the agent's resource, with its prompt."""
        return [linked(f"agent://{self.codename}", self.codename)]


class RankedAgent(Reply):
    """An agent's place for a task, and why."""

    codename: str
    score: float
    reasons: list[str]


class Route(Reply):
    """Agents for a task, best first; where none `fits`, they are only the nearest.

    `scope` is the probability that the task is one for any of these agents.
    """

    agents: list[RankedAgent]
    ms: Aside[float]
    complexity: Aside[str] = ""
    fits: bool = True
    scope: Aside[float] = 1.0
    notes: Aside[list[str]] = Field(default_factory=list)

    def brief(self) -> str:
        """Returns one line an agent."""
        lines = [f"{one.codename} {one.score:.3f}: {'; '.join(one.reasons)}" for one in self.agents]
        return "\n".join(lines if self.fits else ["No agent fits; the nearest:", *lines])


class Ran(Reply):
    """What a run came to; with the status `running`, only that it is under way."""

    run_id: str
    agent: str = ""
    answer: str = ""
    verified: bool | None = None
    checks: list[dict[str, Any]] = Field(default_factory=list)
    steps: list[dict[str, Any]] = Field(default_factory=list)
    experiences: Aside[list[dict[str, Any]]] = Field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    status: str = "done"
    model: Aside[str] = ""
    failures: Aside[list[str]] = Field(default_factory=list)
    parts: Aside[list[dict[str, Any]]] = Field(default_factory=list)

    def brief(self) -> str:
        """Returns the answer and, in one line, what it rests on."""
        if self.status == "running":
            return (
                f"{self.run_id} is under way. get_run with wait says how it went, cancel_run "
                "stops it."
            )
        checked = {True: "check passed", False: "CHECK FAILED", None: "nothing to check"}[
            self.verified
        ]
        used = [str(one.get("id")) for one in self.experiences if one.get("id")]
        return "\n".join(
            (
                self.answer.strip(),
                "",
                f"[{self.agent}, {checked}, {len(self.steps)} steps, {self.tokens} tokens, "
                f"{self.seconds:.1f} s, run {self.run_id}"
                + (f", used {', '.join(used)}]" if used else "]"),
            )
        )

    def elsewhere(self) -> list[ResourceLink]:
        """Returns the run's resource, with its steps and events."""
        return [linked(f"run://{self.run_id}", self.run_id)]


class RunState(Reply):
    """Where a run is."""

    run_id: str
    status: str
    task: Aside[str]
    agent: str | None
    events: list[dict[str, Any]]
    result: dict[str, Any] | None
    hint: Aside[str] = ""

    def brief(self) -> str:
        """Returns the status, and the answer or the latest stage."""
        if self.result and "answer" in self.result:
            return f"{self.status}. {self.result['answer']}"
        if self.result and self.result.get("error"):
            return f"{self.status}. {self.result['error'].get('message', '')} {self.hint}".strip()
        latest = self.events[-1] if self.events else {"stage": "start", "message": ""}
        return f"{self.status}: {latest['stage']} {latest['message']} {self.hint}".strip()


class Cancelled(Reply):
    """Whether a run was under way and is stopping."""

    run_id: str
    cancelled: bool

    def brief(self) -> str:
        """Returns one sentence."""
        if self.cancelled:
            return f"{self.run_id} is stopping."
        return f"{self.run_id} is not under way; get_run says how it ended."


class Rated(Reply):
    """An experience with its new rating."""

    run_id: str
    experience_id: str
    rating: Aside[float]

    def brief(self) -> str:
        """Returns one sentence."""
        return f"{self.run_id} is rated {self.rating:g}; routing and recall will use it."
