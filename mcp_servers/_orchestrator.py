"""The orchestrator: finds the agent for a task, runs it, and keeps how it went."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import InputRequiredResult, Resource
from pydantic import Field

from ryzanstein.errors import InvalidRequest
from ryzanstein.mcp_servers import _kept_runs, _running
from ryzanstein.mcp_servers._completions import ANY_PROMPT
from ryzanstein.mcp_servers._factory import CHANGES, READS, WORKS, Reply, make_server, page
from ryzanstein.mcp_servers._prompts import Prompted, tasks_of
from ryzanstein.mcp_servers._ranking import ranked
from ryzanstein.mcp_servers._rounds import in_rounds
from ryzanstein.mcp_servers._running import Asked
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._skills import Skills, agent_skills

if TYPE_CHECKING:
    from ryzanstein.registry import AgentProfile

__all__ = ["mcp"]

INSTRUCTIONS = """Forty specialist agents on this machine: private, and free to call.

run_task gives a task to the agent that fits: it recalls what is known, uses tools, checks the
result and remembers how it went. It takes seconds to minutes and reports progress; get_run and
cancel_run take its run id, and with it run_task goes on with a run that was interrupted. Say
everything in the task: an agent does not see this conversation. Call rate_run once you know whether
the answer was good; routing learns from it. To choose yourself: search_agents, describe_agent, then
run_agent. route_task only ranks. Answers come from a small model: check what matters. `verified`
says whether a check ran and passed."""
LISTED_RUNS = 20


SKILLS = Skills(lambda: shared().once("skills", lambda: agent_skills(shared().registry)))

mcp = make_server("orchestrator", "Ryzanstein agents", INSTRUCTIONS, Prompted, [SKILLS])

Task = Annotated[
    str, Field(min_length=1, max_length=100_000, description="Everything the agent must know.")
]
TaskOrRun = Annotated[
    str, Field(max_length=100_000, description="Everything the agent must know; empty with run_id.")
]
GoOn = Annotated[
    str | None, Field(max_length=64, description="A run to go on with behind its last step.")
]
Codename = Annotated[str, Field(min_length=1, max_length=33, description="Codename or id.")]
Model = Annotated[str | None, Field(max_length=500, description="Name or path; none: the default.")]
Tools = Annotated[bool, Field(description="False: answer from the model alone.")]
Team = Annotated[
    str | None,
    Field(
        max_length=500,
        description="Several agents: auto, a team such as security or code review, or codenames.",
    ),
]
Steps = Annotated[int | None, Field(ge=1, le=100)]
Tokens = Annotated[int | None, Field(ge=16, le=1_000_000)]
Seconds = Annotated[float | None, Field(gt=0, le=86_400)]
RunId = Annotated[str, Field(min_length=1, max_length=64)]


class AgentBrief(Reply):
    """An agent in one line."""

    codename: str
    id: str
    tier: int
    tier_name: str
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
    commands: list[str]
    model: str | None
    limits: RunLimits
    prompt_text: str

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
    ms: float
    complexity: str = ""
    fits: bool = True
    scope: float = 1.0
    notes: list[str] = Field(default_factory=list)

    def brief(self) -> str:
        """Returns one line an agent."""
        lines = [f"{one.codename} {one.score:.3f}: {'; '.join(one.reasons)}" for one in self.agents]
        return "\n".join(lines if self.fits else ["No agent fits; the nearest:", *lines])


class Ran(Reply):
    """What a run came to."""

    run_id: str
    agent: str
    answer: str
    verified: bool | None
    checks: list[dict[str, Any]]
    steps: list[dict[str, Any]]
    experiences: list[dict[str, Any]]
    tokens: int
    seconds: float
    model: str = ""
    failures: list[str] = Field(default_factory=list)
    parts: list[dict[str, Any]] = Field(default_factory=list)

    def brief(self) -> str:
        """Returns the answer and, in one line, what it rests on."""
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


class RunState(Reply):
    """Where a run is."""

    run_id: str
    status: str
    task: str
    agent: str | None
    events: list[dict[str, Any]]
    result: dict[str, Any] | None
    hint: str = ""

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
    rating: float

    def brief(self) -> str:
        """Returns one sentence."""
        return f"{self.run_id} is rated {self.rating:g}; routing and recall will use it."


@mcp.tool(title="Search agents", annotations=READS)
def search_agents(
    query: Annotated[str, Field(max_length=2000, description="Empty lists all by id.")] = "",
    limit: Annotated[int, Field(ge=1, le=50)] = 10,
    cursor: Annotated[str, Field(max_length=20)] = "",
) -> AgentPage:
    """Find agents by what they are for. To get a task done, run_task does this by itself."""
    agents = list(shared().registry.agents)
    if query.strip():
        ranked = shared().router.route(query, top_k=len(agents)).agents
        agents = [shared().registry.agent(one.codename) for one in ranked]
    found, following = page(agents, limit, cursor)
    return AgentPage(agents=[AgentBrief(**_brief(one)) for one in found], next_cursor=following)


@mcp.tool(title="Describe an agent", annotations=READS)
def describe_agent(codename: Codename) -> AgentDescription:
    """Show one agent: method, tools, examples, limits, whom it hands on to."""
    return _description(shared().registry.agent(codename))


@mcp.tool(title="Route a task", annotations=READS)
async def route_task(task: Task, top_k: Annotated[int, Field(ge=1, le=50)] = 5) -> Route:
    """Rank the agents for a task and say why, without running anything."""
    if not task.strip():
        raise InvalidRequest("The task is empty.", hint="Say what is to be done.")
    return Route(**await ranked(task, top_k))


@mcp.tool(title="Run a task", annotations=WORKS)
async def run_task(
    context: Context[Any, Any],
    task: TaskOrRun = "",
    model: Model = None,
    tools: Tools = True,
    team: Team = None,
    max_steps: Steps = None,
    max_tokens: Tokens = None,
    max_seconds: Seconds = None,
    run_id: GoOn = None,
) -> Ran | InputRequiredResult:
    """Give a task to the agent that fits and return its checked answer. The main tool."""
    if run_id is not None:
        return await _ran(context, lambda client: _running.resume(client, run_id, task))
    limits = _limits(max_steps, max_tokens, max_seconds)
    asked = Asked(task, team=team, model=model, tools=tools, limits=limits)
    return await _ran(context, lambda client: _running.run(client, asked))


@mcp.tool(title="Run an agent", annotations=WORKS)
async def run_agent(
    codename: Codename,
    context: Context[Any, Any],
    task: TaskOrRun = "",
    model: Model = None,
    tools: Tools = True,
    max_steps: Steps = None,
    max_tokens: Tokens = None,
    max_seconds: Seconds = None,
    run_id: GoOn = None,
) -> Ran | InputRequiredResult:
    """Give a task to one agent that you chose. Without a choice, run_task."""
    agent = shared().registry.agent(codename).codename
    if run_id is not None:
        return await _ran(context, lambda client: _running.resume(client, run_id, task, agent))
    limits = _limits(max_steps, max_tokens, max_seconds)
    asked = Asked(task, agent=agent, model=model, tools=tools, limits=limits)
    return await _ran(context, lambda client: _running.run(client, asked))


async def _ran(
    context: Context[Any, Any], work: Callable[[Any], Awaitable[dict[str, Any]]]
) -> Ran | InputRequiredResult:
    """The result of a run, or what the client is asked before it."""
    found = await in_rounds(context, work)
    return found if isinstance(found, InputRequiredResult) else Ran(**found)


def _limits(steps: int | None, tokens: int | None, seconds: float | None) -> dict[str, float]:
    """Those that were given."""
    given = {"steps": steps, "tokens": tokens, "seconds": seconds}
    return {name: value for name, value in given.items() if value is not None}


@mcp.tool(title="Get a run", annotations=READS)
def get_run(run_id: RunId) -> RunState:
    """Show where a run is, or how it ended, also one that another client started."""
    return RunState(**_running.state(run_id))


@mcp.tool(title="Cancel a run", annotations=CHANGES)
async def cancel_run(run_id: RunId) -> Cancelled:
    """Stop a run that is under way, in any process; what it has done to files stays."""
    return Cancelled(run_id=run_id, cancelled=_running.cancel(run_id))


@mcp.tool(title="Rate a run", annotations=CHANGES)
async def rate_run(
    run_id: RunId, rating: Annotated[float, Field(ge=0, le=1, description="0 bad, 1 good.")]
) -> Rated:
    """Say how good a run's answer was; the next similar task goes better for it."""
    experience = await _kept_runs.rate(run_id, rating)
    return Rated(run_id=run_id, experience_id=experience, rating=rating)


@mcp.resource("agent://{codename}", mime_type="application/json", title="An agent")
def agent(codename: str) -> str:
    """One agent, with its prompt."""
    return _description(shared().registry.agent(codename)).model_dump_json()


@mcp.resource("run://{id}", mime_type="application/json", title="A run")
async def run(id: str) -> str:
    """Where a run is: status, what happened so far, and the answer once it has ended."""
    return RunState(**await _running.state(id)).model_dump_json()


@mcp.lists
def latest_runs() -> list[Resource]:
    """The latest runs."""
    return [
        Resource(
            uri=f"run://{one.id}",
            name=" ".join(one.task.split())[:80] or one.id,
            description=f"A run of {one.agent or 'an agent yet to be found'}, {one.status}.",
            mime_type="application/json",
        )
        for one in map(_kept_runs.settled, shared().runs.list(limit=LISTED_RUNS))
    ]


mcp.completes(
    "agent://{codename}", "codename", lambda *_: [one.codename for one in shared().registry.agents]
)
mcp.completes("run://{id}", "id", lambda typed, _: shared().store.names("run", typed))
mcp.completes(ANY_PROMPT, "task", tasks_of)
SKILLS.offer(mcp)


def _brief(agent: AgentProfile) -> dict[str, Any]:
    return {name: getattr(agent, name) for name in AgentBrief.model_fields}


def _description(agent: AgentProfile) -> AgentDescription:
    return AgentDescription(
        **_brief(agent),
        tools=list(agent.tools),
        examples=list(agent.examples),
        consults=list(agent.consults),
        hands_on_to=list(agent.hands_on_to),
        commands=list(agent.commands),
        model=agent.model,
        limits=RunLimits(**agent.limits.model_dump()),
        prompt_text=agent.prompt_text,
    )
