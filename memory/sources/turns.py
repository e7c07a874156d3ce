"""What every format of a conversation is read into, and the records its turns become.

text          the turn's own words; a long turn is cut into passages, one record each
context       speaker, day in words, title, captions of what was shown: found by, not said
conversation, session, turn    where it stands; turns are numbered through all sessions
place         how the transcript itself names it ("D1:3", "line 12", "message 7")
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ryzanstein.memory.checks import cleaned
from ryzanstein.memory.records import Draft
from ryzanstein.memory.sources.chunks import MOST, size
from ryzanstein.memory.sources.markdown import markdown_passages
from ryzanstein.memory.sources.moments import in_words

__all__ = ["TURN", "Conversation", "Turn", "conversation_id", "drafts"]

TURN = "turn"
_NAME = 120
_UNFIT = re.compile(r"[^\w.:@/+-]+")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker said before the next one did.

    Attributes:
        text: The words.
        place: How the transcript names it.
        speaker: Who said it; None where nobody is named.
        happened: When, UTC; None where no time is given.
        session: One sitting of several; None where there is one only.
        about: Words that describe it and were not said, as a picture's caption.
    """

    text: str
    place: str
    speaker: str | None = None
    happened: datetime | None = None
    session: str | None = None
    about: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """The turns of one conversation in order.

    Attributes:
        id: The transcript's own, or made from its first turn: a file that has grown keeps it.
        turns: In order; their number is their position.
        left_out: Messages without words for people: a system's, a tool's, empty ones.
    """

    id: str
    turns: Sequence[Turn]
    left_out: int = 0


def conversation_id(given: object, name: str, turns: Sequence[Turn]) -> str:
    """Returns an id of at most 80 characters that fits a name.

    Args:
        given: The transcript's own id; anything but a text or number is ignored.
        name: The file's, without its ending.
        turns: The first of them tells two files of one name apart.
    """
    if isinstance(given, str | int) and str(given).strip():
        own = str(given).strip()
        if len(own) <= 80 and not _UNFIT.search(own):
            return own
        return f"{_UNFIT.sub('-', own)[:60]}-{_digest(own)}"
    first = turns[0] if turns else Turn("", "")
    start = "\x00".join((first.speaker or "", str(first.happened or ""), first.text))
    return f"{_UNFIT.sub('-', name)[:60] or 'conversation'}-{_digest(start)}"


def drafts(
    conversation: Conversation,
    *,
    source: str | None = None,
    agent: str | None = None,
    tags: Sequence[str] = (),
) -> Iterator[Draft]:
    """Yields the records to remember, in order."""
    for number, turn in enumerate(conversation.turns):
        parts = [text for text in map(cleaned, _parts(turn.text)) if text]
        for part, text in enumerate(parts, start=1):
            yield Draft(
                text=text,
                kind=TURN,
                tier="episodic",
                agent=agent,
                tags=tuple(tags),
                source=source,
                place=turn.place if len(parts) == 1 else f"{turn.place} part {part}",
                speaker=short(turn.speaker),
                context=_context(turn),
                conversation=conversation.id,
                session=short(turn.session, 80),
                turn=number,
                happened=turn.happened,
            )


def short(name: str | None, most: int = _NAME) -> str | None:
    """Returns a name as it is stored: one line, 120 characters at most."""
    return None if name is None else " ".join(cleaned(name).split())[:most].strip() or None


def _parts(text: str) -> list[str]:
    if size(text) <= MOST:
        return [text]
    # Long turns are mostly a model's, and models write Markdown.
    return [passage.text for passage in markdown_passages(text)]


def _context(turn: Turn) -> str | None:
    day = in_words(turn.happened) if turn.happened else None
    words = [short(turn.speaker), day, *(cleaned(one) for one in turn.about)]
    return ", ".join(word for word in words if word) or None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:10]
