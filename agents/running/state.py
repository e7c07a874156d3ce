"""A run as JSON between two of its steps, and a run made from that again.

    version agent trace_id model                who does it, and with what
    stage parts part found brief acting talk     where it is
    around facts told reminders used             what it knows
    steps checks answer failures tokens seconds  what it did
    nonce tainted                                its marks, and whether it read from outside

It holds what the run needs to go on behind its last finished step in another process: the
conversation as it was sent, what was found, and where the use of tools was. A step that was under
way when the process ended is done again, but not a call that changes something: it may have been
made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ryzanstein.agents.running.ground import Named, Place, Surroundings
from ryzanstein.agents.running.step import Step
from ryzanstein.agents.verification.checks import Check
from ryzanstein.errors import InvalidRequest

if TYPE_CHECKING:
    from ryzanstein.agents.running.run import Run

__all__ = ["VERSION", "agent_of", "restore", "to_json"]

VERSION = 1
_PLAIN = (
    *("stage", "part", "taken", "found", "brief", "facts", "told", "reminders", "used"),
    *("answer", "failures", "model", "changed"),
)


def to_json(run: Run) -> dict[str, Any]:
    """The state of a run behind a finished step."""
    return {
        "version": VERSION,
        "agent": run.profile.codename,
        "trace_id": run.trace_id,
        **{name: getattr(run, name) for name in _PLAIN},
        "parts": list(run.parts),
        "notes": list(run.notes),
        "acting": asdict(run.acting) if run.acting else None,
        "talk": run.talk.to_json(),
        "around": asdict(run.around),
        "steps": [step.to_json() for step in run.steps],
        "checks": [asdict(check) for check in run.checks],
        "nonce": run.services.caller.nonce,
        "tainted": run.services.caller.tainted,
        "tokens": run.budget.all_tokens,
        "seconds": run.budget.all_seconds,
    }


def agent_of(state: Mapping[str, Any]) -> str:
    """The agent whose run a state is of.

    Raises:
        InvalidRequest: It is no state of a run that this version can go on from.
    """
    if state.get("version") != VERSION or not isinstance(state.get("agent"), str):
        raise _unreadable()
    return str(state["agent"])


def restore(run: Run, state: Mapping[str, Any]) -> None:
    """Puts a run where the state says it was.

    Raises:
        InvalidRequest: The state is damaged.
    """
    from ryzanstein.agents.running.run import Acting

    try:
        for name in _PLAIN:
            setattr(run, name, state[name])
        run.trace_id = str(state["trace_id"])
        run.parts = tuple(state["parts"])
        run.notes = tuple(state["notes"])
        run.acting = Acting(**state["acting"]) if state["acting"] else None
        run.around = _surroundings(state["around"])
        run.steps = [Step(**one) for one in state["steps"]]
        run.checks = [Check(**one) for one in state["checks"]]
        run.budget.earlier = (int(state["tokens"]), float(state["seconds"]))
        run.talk.restore(state["talk"])
        run.services.caller.nonce = str(state["nonce"])
        run.services.caller.tainted = bool(state["tainted"])
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable() from error


def _surroundings(wire: Mapping[str, Any]) -> Surroundings:
    place = Place(tuple(wire["place"]["files"]), bool(wire["place"]["complete"]))
    return Surroundings(place, tuple(Named(**one) for one in wire["named"]))


def _unreadable() -> InvalidRequest:
    return InvalidRequest(
        "The state of the run cannot be read.",
        hint="Another version may have written it. Give the task again.",
    )
