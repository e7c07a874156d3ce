"""Who does what: the member that fits a part, whom it asks, and whom it hands work on to.

The registry says who consults whom and who takes over; routing says which of them fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ryzanstein.errors import InvalidRequest
from ryzanstein.nearest import did_you_mean

if TYPE_CHECKING:
    from ryzanstein.agents.routing.route import Router
    from ryzanstein.registry import Registry

__all__ = ["AUTO", "best_of", "consulted", "members_of", "successor"]

# The team is whoever fits each part.
AUTO = "auto"


def members_of(team: str, registry: Registry) -> tuple[str, ...]:
    """Codenames of a team, in the registry's order; all agents for `auto`.

    Args:
        team: A kind of task that the registry has a team for, codenames joined by commas, or auto.
        registry: Knows teams and agents.

    Raises:
        InvalidRequest: There is no such team, or the list is empty.
        AgentNotFound: There is no agent of a name in the list.
    """
    if team == AUTO:
        return tuple(one.codename for one in registry.agents)
    named = {name.casefold(): names for name, names in registry.routing.teams.items()}
    wanted = " ".join(team.replace("-", " ").replace("_", " ").split()).casefold()
    if wanted in named:
        return tuple(named[wanted])
    if "," in team:
        found = [registry.agent(name).codename for name in team.split(",") if name.strip()]
        if not found:
            raise InvalidRequest("A team needs a member.", hint="Name agents: --team APEX,CIPHER.")
        return tuple(dict.fromkeys(found))
    near = did_you_mean(wanted, named)
    raise InvalidRequest(
        f"No team is called {team!r}.",
        hint=f"{near} There are: {', '.join(sorted(named))}; or name agents: APEX,CIPHER.".strip(),
    )


def best_of(task: str, members: Sequence[str], router: Router) -> str:
    """The member that fits a task best; there is one at least."""
    if len(members) == 1:
        return members[0]
    ranked = [one.codename for one in router.route(task, top_k=1000).agents]
    return min(members, key=lambda name: ranked.index(name) if name in ranked else len(ranked))


def consulted(agent: str, question: str, registry: Registry, router: Router) -> str | None:
    """Whom an agent asks about a question, of those the registry says it consults."""
    known = [name for name in registry.agent(agent).consults if name != agent]
    return best_of(question, known, router) if known else None


def successor(
    agent: str, part: str, tried: Sequence[str], registry: Registry, router: Router
) -> str | None:
    """Who takes a part over from an agent, of those it hands on to and that have not tried."""
    known = [name for name in registry.agent(agent).hands_on_to if name not in tried]
    return best_of(part, known, router) if known else None
