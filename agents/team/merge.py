"""What the members found as one answer that says who found what, and what could not be done.

Nothing is written anew: a small model that merges texts changes numbers in them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ryzanstein.agents.team.work import Done

__all__ = ["LEAD", "merged", "verdict"]

# The agent that the registry has for orchestration speaks for a team as a whole.
LEAD = "OMNISCIENT"


def merged(parts: Sequence[Done]) -> str:
    """The parts' answers in their order, each with its agent's name."""
    if len(parts) == 1:
        return _answer(parts[0])
    return "\n\n".join(f"{done.index + 1}. {_indented(_answer(done))}" for done in parts)


def verdict(parts: Sequence[Done]) -> bool | None:
    """False where a part failed or a check did, True where every part was checked, else None."""
    found = [done.verified if done.answer else False for done in parts]
    if any(one is False for one in found):
        return False
    return True if found and all(found) else None


def _answer(done: Done) -> str:
    if not done.answer:
        return f"This could not be done: {done.reason} ({done.agent})"
    checked = {True: ", checked", False: ", CHECK FAILED", None: ""}[done.verified]
    helped = f", advised by {', '.join(done.consulted)}" if done.consulted else ""
    taken = f", taken over from {', '.join(done.handed_on)}" if done.handed_on else ""
    return f"{done.answer}\n({done.agent}{checked}{helped}{taken})"


def _indented(text: str) -> str:
    """A text as an item of a list, so that its code blocks stay whole."""
    return text.replace("\n", "\n   ")
