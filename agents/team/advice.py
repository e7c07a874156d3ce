"""One agent asks another: a short answer from the other's persona, without tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ryzanstein.agents.running.conversation import Budget, Conversation
from ryzanstein.agents.running.persona import system_message, window_of
from ryzanstein.agents.running.sections import KNOWN_SHARE

if TYPE_CHECKING:
    from ryzanstein.agents.clients.services import Services
    from ryzanstein.registry import Registry

__all__ = ["Advice", "ask_advice"]

ADVICE_TOKENS = 120
SECONDS = 120.0
_QUESTION = (
    "{asker} works on this part of a task and asks you for advice:\n{part}\n{tried}\n"
    "In at most two sentences: what must be watched out for, or done otherwise?"
)


@dataclass(frozen=True, slots=True)
class Advice:
    """What an agent said when it was asked, and the tokens that took."""

    agent: str
    text: str
    tokens: int

    @property
    def note(self) -> str:
        """The advice as a note for the one who asked."""
        return f"{self.agent} advises: {self.text}"


async def ask_advice(
    services: Services,
    registry: Registry,
    *,
    asker: str,
    adviser: str,
    part: str,
    tried: str = "",
    model: str | None = None,
) -> Advice:
    """Asks an agent what it advises another to do.

    Args:
        services: Reaches the model.
        registry: Knows the agents.
        asker: Codename of the one who asks.
        adviser: Codename of the one asked.
        part: What is to be done.
        tried: What failed so far, as data; "" where nothing did.
        model: Name or path; None is the adviser's preference, else the default.

    Raises:
        RyzansteinError: The model could not be reached.
    """
    profile = registry.agent(adviser)
    model = model or profile.model
    window = window_of(model, registry)
    talk = Conversation(services, Budget(4 * ADVICE_TOKENS, SECONDS), window=window, model=model)
    await talk.system(system_message(profile, window))
    failed = f"What was tried failed:\n{services.caller.quote(tried)}" if tried else ""
    question = _QUESTION.format(asker=asker, part=part, tried=failed)
    fitted = await talk.fit(question, int(window * KNOWN_SHARE))
    found = await talk.ask(fitted, max_tokens=ADVICE_TOKENS, stop=["\n\n"], final=True)
    return Advice(adviser, found.text.strip(), found.tokens)
