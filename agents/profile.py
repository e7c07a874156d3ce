"""An agent's system prompt, cut to a budget without cutting a sentence in two.

A prompt file opens with who the agent is and what matters most, followed by `## ` sections. A small
model gets little room, so whole sections are left out, later ones first, and the opening is kept:

    opening          always; alone too long for the budget, it ends at a sentence
    tools            always where there are any: without them no call can be made
    ## sections      in their order, each one that still fits
    team             whom the agent may name, where it still fits
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ryzanstein.registry import AgentProfile, Registry

__all__ = ["DEFAULT_BUDGET", "Section", "sections", "system_prompt", "team_of"]

DEFAULT_BUDGET = 2400
_HEADING = re.compile(r"^## +", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_GAP = "\n\n"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a prompt file; the opening has an empty title."""

    title: str
    text: str

    def __str__(self) -> str:
        return f"## {self.title}\n{self.text}" if self.title else self.text


def sections(prompt: str) -> tuple[Section, ...]:
    """Splits a prompt file at its `## ` headings; the opening comes first."""
    opening, *rest = _HEADING.split(prompt.strip())
    titled = (part.partition("\n") for part in rest)
    return (
        Section("", opening.strip()),
        *(Section(title.strip(), text.strip()) for title, _, text in titled),
    )


def team_of(agent: AgentProfile, registry: Registry) -> dict[str, str]:
    """Codename and domain of those the agent consults and hands on to, each once, in that order."""
    names = dict.fromkeys((*agent.consults, *agent.hands_on_to))
    return {name: registry.agent(name).domain for name in names}


def system_prompt(
    agent: AgentProfile,
    *,
    tools: Mapping[str, str] | None = None,
    team: Mapping[str, str] | None = None,
    budget: int = DEFAULT_BUDGET,
    measure: Callable[[str], int] = len,
) -> str:
    """Assembles the system prompt of an agent.

    Args:
        agent: Whose prompt file is used.
        tools: Name and one line on each tool it may use, in the order to show them.
        team: Codename and domain of the agents it may name, as `team_of` gives them.
        budget: What the result may measure; exceeded only where opening sentence and tools do so.
        measure: Size of a text in the budget's unit: characters, or a tokenizer's count.
    """
    opening, *later = sections(agent.prompt_text)
    tool_part = _listed("Tools", tools or {})
    parts = [_shortened(opening.text, tool_part, budget, measure), *tool_part]
    candidates = [*map(str, later), *_listed("Team", team or {})]
    for candidate in candidates:
        if measure(_GAP.join((*parts, candidate))) <= budget:
            parts.append(candidate)
    return _GAP.join(parts)


def _listed(title: str, items: Mapping[str, str]) -> list[str]:
    """One section of `- name: text` lines, or nothing."""
    if not items:
        return []
    lines = [f"- {name}: {text}" for name, text in items.items()]
    return [f"## {title}\n" + "\n".join(lines)]


def _shortened(
    opening: str, kept: Sequence[str], budget: int, measure: Callable[[str], int]
) -> str:
    """The opening, ended after as many sentences as fit beside `kept`, but at least one."""
    if measure(_GAP.join((opening, *kept))) <= budget:
        return opening
    shown = ""
    for sentence in _SENTENCE.split(opening):
        longer = f"{shown} {sentence}".strip()
        if shown and measure(_GAP.join((longer, *kept))) > budget:
            break
        shown = longer
    return shown
