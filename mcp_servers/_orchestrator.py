"""The orchestrator: finds the agent for a task, runs it, and keeps how it went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import InputRequiredResult, Resource
from pydantic import Field

from ryzanstein.errors import InvalidRequest
from ryzanstein.mcp_servers import _kept_runs, _running, _watch
from ryzanstein.mcp_servers._asking import Client
from ryzanstein.mcp_servers._completions import ANY_PROMPT, Counted
from ryzanstein.mcp_servers._factory import CHANGES, READS, WORKS, make_server, page
from ryzanstein.mcp_servers._prompts import Prompted, tasks_of
from ryzanstein.mcp_servers._ranking import ranked
from ryzanstein.mcp_servers._rounds import in_rounds
from ryzanstein.mcp_servers._run_replies import (
    AgentBrief,
    AgentDescription,
    AgentPage,
    Cancelled,
    Ran,
    Rated,
    Route,
    RunLimits,
    RunState,
)
from ryzanstein.mcp_servers._run_tasks import RunTasks
from ryzanstein.mcp_servers._running import Asked, Resumption
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._skills import Skills, agent_skills
from ryzanstein.mcp_servers._tasks import Tasks

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

KEPT = RunTasks()
TASKS = Tasks(("run_task", "run_agent"), kept=KEPT)

mcp = make_server("orchestrator", "Ryzanstein agents", INSTRUCTIONS, Prompted, [SKILLS, TASKS])
KEPT.answers(mcp)

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
Wait = Annotated[bool, Field(description="False: return the run id at once, for get_run.")]
RunId = Annotated[str, Field(min_length=1, max_length=64)]


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
    wait: Wait = True,
) -> Ran | InputRequiredResult:
    """Give a task to the agent that fits and return its checked answer. The main tool."""
    limits = _limits(max_steps, max_tokens, max_seconds)
    if run_id is not None:
        return await _ran(context, Resumption(run_id, task, limits=limits), wait)
    asked = Asked(task, team=team, model=model, tools=tools, limits=limits)
    return await _ran(context, asked, wait)


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
    wait: Wait = True,
) -> Ran | InputRequiredResult:
    """Give a task to one agent that you chose. Without a choice, run_task."""
    agent = shared().registry.agent(codename).codename
    limits = _limits(max_steps, max_tokens, max_seconds)
    if run_id is not None:
        return await _ran(context, Resumption(run_id, task, agent, limits), wait)
    asked = Asked(task, agent=agent, model=model, tools=tools, limits=limits)
    return await _ran(context, asked, wait)


async def _ran(
    context: Context[Any, Any], wish: Asked | Resumption, wait: bool
) -> Ran | InputRequiredResult:
    """The result of a run, what the client is asked before it, or that it is under way."""
    if not wait:
        return Ran(run_id=await _running.start(wish), status="running")

    async def work(client: Client) -> dict[str, Any]:
        if isinstance(wish, Asked):
            return await _running.run(client, wish)
        return await _running.resume(client, wish)

    found = await in_rounds(context, work)
    return found if isinstance(found, InputRequiredResult) else Ran(**found)


def _limits(steps: int | None, tokens: int | None, seconds: float | None) -> dict[str, float]:
    """Those that were given."""
    given = {"steps": steps, "tokens": tokens, "seconds": seconds}
    return {name: value for name, value in given.items() if value is not None}


@mcp.tool(title="Get a run", annotations=READS)
async def get_run(
    run_id: RunId,
    wait: Annotated[float, Field(ge=0, le=600, description="Seconds to wait for its end.")] = 0,
) -> RunState:
    """Show where a run is, or how it ended, also one that another client started."""
    return RunState(**await _running.state(run_id, wait))


@mcp.tool(title="Cancel a run", annotations=CHANGES)
async def cancel_run(run_id: RunId) -> Cancelled:
    """Stop a run that is under way, in any process; what it has done to files stays."""
    return Cancelled(run_id=run_id, cancelled=await _running.cancel(run_id))


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
    _watch.begin()
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
mcp.completes("run://{id}", "id", lambda typed, _: Counted(*shared().store.names("run", typed)))
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
