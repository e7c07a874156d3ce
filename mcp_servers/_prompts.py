"""Prompts of the orchestrator: one an agent, and the forty slash commands.

Every prompt has one argument with a default, since some clients fetch every prompt with no
arguments when they load; without a task a prompt works on what the conversation is about, and says
what may be asked where there is nothing yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.prompts.base import PromptArgument
from mcp_types import GetPromptResult, InputRequiredResult
from mcp_types import Prompt as WirePrompt

from ryzanstein.mcp_servers._factory import Server
from ryzanstein.mcp_servers._shared import shared

if TYPE_CHECKING:
    from ryzanstein.registry import AgentProfile, Registry

__all__ = ["Prompted", "prompts", "tasks_of"]

_TASK = PromptArgument(
    name="task",
    description="What to do, with whatever it is about; without it, what the conversation is at.",
    required=False,
)
_SHOWN = 3


class Prompted(Server):
    """Makes its prompts from the registry when they are first asked for, not at start."""

    async def list_prompts(self) -> list[WirePrompt]:
        """Lists a prompt an agent, then the slash commands."""
        made: dict[str, Prompt] = shared().once("prompts", _made)
        if self._prompt_manager.list_prompts() != list(made.values()):
            for old in self._prompt_manager.list_prompts():
                self.remove_prompt(old.name)
            for prompt in made.values():
                self.add_prompt(prompt)
        return await super().list_prompts()

    async def get_prompt(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        context: Context[Any, Any] | None = None,
    ) -> GetPromptResult | InputRequiredResult:
        """Renders a prompt."""
        await self.list_prompts()
        return await super().get_prompt(name, arguments, context)


def _made() -> dict[str, Prompt]:
    return {one.name: one for one in prompts(shared().registry)}


def prompts(registry: Registry) -> list[Prompt]:
    """Returns the prompts of a registry: agents in its order, then commands by name."""
    by_agent = [_agent_prompt(agent) for agent in registry.agents]
    commands = [
        _command_prompt(name, registry.agent(owner), registry)
        for name, owner in sorted(registry.routing.commands.items())
    ]
    return [*by_agent, *commands]


def tasks_of(typed: str, others: Mapping[str, str]) -> list[str]:
    """Returns examples of tasks for the agent of a prompt, as completions of its task."""
    registry, prompt = shared().registry, others.get("prompt", "")
    name = registry.routing.commands.get(prompt, prompt)
    return next((list(one.examples) for one in registry.agents if one.codename == name), [])


def _agent_prompt(agent: AgentProfile) -> Prompt:
    without = (
        "No task was given with this. If this conversation is at one, do that; else ask what is "
        f"to be done. It may be like one of these:\n{_examples(agent)}"
    )
    return _prompt(
        agent.codename, f"{agent.codename}, {agent.domain}", agent.summary, agent, "", without
    )


def _command_prompt(name: str, agent: AgentProfile, registry: Registry) -> Prompt:
    what = agent.commands[name]
    before = f"/{name}: {what}\n\n"
    without = (
        "Do this with what this conversation is about: the latest code, text, change or question "
        "in it. Where there is nothing yet, say in one line what you need for it, and ask for "
        f"that. You are asked for things like these:\n{_examples(agent)}"
    )
    if name == "help":
        listed = "\n".join(
            f"/{one} ({owner}): {registry.agent(owner).commands[one]}"
            for one, owner in sorted(registry.routing.commands.items())
        )
        before += f"These are the commands:\n{listed}\n\n"
        without = "Say in a few lines what can be done here, with three commands as examples."
    return _prompt(name, f"/{name} ({agent.codename})", what, agent, before, without)


def _prompt(
    name: str, title: str, description: str, agent: AgentProfile, before: str, without_task: str
) -> Prompt:
    """A prompt that puts an agent's method before the task, or before what to do without one."""
    return Prompt(
        name=name,
        title=title,
        description=description,
        arguments=[_TASK],
        context_kwarg=None,
        fn=_text(f"{agent.prompt_text.strip()}\n\n{before}", without_task),
    )


def _text(before: str, without_task: str) -> Callable[..., str]:
    def render(task: str = "") -> str:
        return before + (f"Task: {task}" if task.strip() else without_task)

    return render


def _examples(agent: AgentProfile) -> str:
    return "\n".join(f"- {example}" for example in agent.examples[:_SHOWN])
