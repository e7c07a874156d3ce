"""Prompts of the orchestrator: one an agent, and the forty slash commands.

Every prompt has one argument with a default, since some clients fetch every prompt with no
arguments when they load; without a task a prompt asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.prompts.base import PromptArgument

if TYPE_CHECKING:
    from ryzanstein.registry import AgentProfile, Registry

__all__ = ["prompts"]

_TASK = PromptArgument(
    name="task",
    description="What to do, with whatever it is about; without it the agent asks.",
    required=False,
)


def prompts(registry: Registry) -> list[Prompt]:
    """Returns the prompts of a registry: agents in its order, then commands by name."""
    by_agent = [_agent_prompt(agent) for agent in registry.agents]
    commands = [
        _command_prompt(name, registry.agent(owner))
        for name, owner in sorted(registry.routing.commands.items())
    ]
    return [*by_agent, *commands]


def _agent_prompt(agent: AgentProfile) -> Prompt:
    return Prompt(
        name=agent.codename,
        title=f"{agent.codename}, {agent.domain}",
        description=agent.summary,
        arguments=[_TASK],
        context_kwarg=None,
        fn=_text(f"{agent.prompt_text.strip()}\n\n", _ask(agent)),
    )


def _command_prompt(name: str, agent: AgentProfile) -> Prompt:
    what = agent.commands[name]
    return Prompt(
        name=name,
        title=f"/{name} ({agent.codename})",
        description=what,
        arguments=[_TASK],
        context_kwarg=None,
        fn=_text(f"{agent.prompt_text.strip()}\n\n/{name}: {what}\n\n", _ask(agent)),
    )


def _text(before: str, without_task: str) -> Callable[..., str]:
    def render(task: str = "") -> str:
        return before + (f"Task: {task}" if task.strip() else without_task)

    return render


def _ask(agent: AgentProfile) -> str:
    shown = "\n".join(f"- {example}" for example in agent.examples[:3])
    return f"No task was given yet. Ask what is to be done; it may be like one of these:\n{shown}"
