"""The sections of a prompt and their shares of the model's window, so that it fits by construction.

    persona and rules    5 %   system message, the same every time
    task                40 %   longer ones are refused with advice
    known               30 %   what was looked up and recalled: at most that, and never more than
                               what the others leave
    tools               10 %   a line each, the last ones left out where there are too many
    work                25 %   questions, calls, results and the answer; a quarter that nothing of
                               the above takes

A text that is longer than its share is cut in the middle with a mark that says how much is
missing, and the run's events tell it. Later questions name the task by at most 8 %, and a result
takes at most 15 %, or a third of what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ryzanstein.agents.clients.services import ToolSpec
from ryzanstein.agents.running.conversation import Conversation
from ryzanstein.errors import InvalidRequest

__all__ = ["LEAST_WINDOW", "known_room", "require_window", "tool_lines"]

PERSONA_SHARE = 0.05
TASK_SHARE = 0.40
KNOWN_SHARE = 0.30
TOOLS_SHARE = 0.10
WORK_SHARE = 0.25
BRIEF_SHARE = 0.08
RESULT_SHARE = 0.15
# Persona, rules, one tool, one call and one answer take so much.
LEAST_WINDOW = 1024
LONGEST_LINE = 240
# With less than that, what is known says nothing.
LEAST_KNOWN = 48


def require_window(window: int, model: str | None) -> None:
    """Makes sure that an agent can work in a window at all.

    Raises:
        InvalidRequest: It cannot.
    """
    if window < LEAST_WINDOW:
        raise InvalidRequest(
            f"An agent needs a window of {LEAST_WINDOW} tokens; {model} has {window}.",
            hint="Choose a model with a larger window, or ask it directly: ryzanstein generate.",
        )


def known_room(talk: Conversation, task: int) -> int:
    """Tokens for what is known, beside a task of so many; 0 where hardly any are left."""
    kept = int(talk.window * (TOOLS_SHARE + WORK_SHARE))
    room = min(int(talk.window * KNOWN_SHARE), talk.room - task - kept)
    return room if room >= LEAST_KNOWN else 0


async def tool_lines(
    shown: Sequence[ToolSpec], talk: Conversation, quoted: Callable[[str], str]
) -> list[str]:
    """A line for each tool, as many as there is room for, one at least.

    Args:
        shown: The tools, best first.
        talk: The conversation they are for.
        quoted: Marks what the server of somebody else says of its tool as data.
    """
    lines = [
        f"- {tool.name}: {quoted(_short(tool.line)) if tool.is_external else _short(tool.line)}"
        for tool in shown
    ]
    most = int(talk.window * TOOLS_SHARE)
    while len(lines) > 1 and await talk.count("\n".join(lines)) > most:
        lines.pop()
    return lines


def _short(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 6]} [...]"
