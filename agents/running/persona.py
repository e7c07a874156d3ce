"""What an agent's conversations begin with: who it is, how it works, the rules.

The text depends on the agent and on the model's window alone, so the engine keeps the state after
it on disk, and neither a start nor a switch of agents reads it again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from ryzanstein.agents.profile import system_prompt
from ryzanstein.agents.running import prompting, sections
from ryzanstein.config import load_settings
from ryzanstein.errors import RyzansteinError

if TYPE_CHECKING:
    from ryzanstein.agents.clients.services import Services
    from ryzanstein.registry import AgentProfile, Registry

__all__ = ["default_model", "system_message", "warm", "window_of"]

# A larger window costs a small model more attention than it brings.
WINDOW = 6144
_CHARACTERS = 4  # of English in a token; a persona is no place to be exact

Done = Callable[[int, int, str], Awaitable[None]]


def window_of(model: str | None, registry: Registry) -> int:
    """Tokens that a conversation may take: the least that model, engine and loop allow."""
    known = [entry.context for entry in registry.models if entry.name == model]
    return min([WINDOW, load_settings().context_tokens, *known])


def system_message(agent: AgentProfile, window: int) -> str:
    """The first message of all conversations of an agent with a model of this window."""
    budget = int(_CHARACTERS * window * sections.PERSONA_SHARE)
    return prompting.system_text(system_prompt(agent, budget=budget))


async def default_model(services: Services) -> str | None:
    """The model that the inference server takes where none is named; None where it does not say."""
    try:
        status = await services.read_json("inference", "inference://status")
    except RyzansteinError:
        return None
    return status.get("default_model")


async def warm(
    services: Services,
    registry: Registry,
    agents: Sequence[AgentProfile],
    *,
    model: str | None = None,
    on_done: Done | None = None,
) -> list[dict[str, Any]]:
    """Has the state after each agent's system message computed and kept, where it is not yet.

    Args:
        services: Reaches the cache server, and the inference server for its default model.
        registry: Knows the models' windows.
        agents: Whose states are wanted.
        model: Name or path; None is each agent's own preference, else the default.
        on_done: Hears how many of all are done, and the agent that comes next.

    Returns:
        One object an agent: its codename, and what the cache server said of the state.

    Raises:
        RyzansteinError: a model cannot be loaded, or a state not be kept.
    """
    found = []
    usual = None if model else await default_model(services)
    for done, agent in enumerate(agents):
        if on_done is not None:
            await on_done(done, len(agents), agent.codename)
        chosen = model or agent.model or usual
        system = system_message(agent, window_of(chosen, registry))
        asked = {"system": system, "label": agent.codename, "model": chosen}
        found.append({"agent": agent.codename, **await services.call("cache", "save_state", asked)})
    if on_done is not None:
        await on_done(len(agents), len(agents), "")
    return found
