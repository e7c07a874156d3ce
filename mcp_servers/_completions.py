"""Completion: what an argument of a prompt or of a resource template may be, as one types it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mcp_types import CompleteRequestParams, Completion, PromptReference

__all__ = ["ANY_PROMPT", "Completer", "Completions", "Counted", "matching"]

MOST_VALUES = 100  # the protocol's bound
MOST_TYPED = 1000
ANY_PROMPT = "prompt"


class Counted(NamedTuple):
    """The first values that fit what is typed, and how many do."""

    values: list[str]
    total: int


# From what is typed and the other arguments; what is not Counted is searched through here.
Completer = Callable[[str, Mapping[str, str]], Counted | Iterable[str]]


def matching(typed: str, candidates: Iterable[str]) -> list[str]:
    """Returns the candidates with what is typed in them, those that begin so first; in any case."""
    typed = typed.casefold()
    folded = [(one, one.casefold()) for one in dict.fromkeys(candidates)]
    begins = [one for one, name in folded if name.startswith(typed)]
    return begins + [one for one, name in folded if typed in name and not name.startswith(typed)]


@dataclass
class Completions:
    """What the arguments of one server's prompts and templates complete to."""

    _by_argument: dict[tuple[str, str], Completer] = field(default_factory=dict)

    def add(self, ref: str, argument: str, complete: Completer) -> None:
        """Completes an argument of a template, by its URI, or of prompts, as ANY_PROMPT.

        For prompts the other arguments come with the prompt's own name as `prompt`.
        """
        self._by_argument[ref, argument] = complete

    def complete(self, params: CompleteRequestParams) -> Completion:
        """Returns the values for what is typed; none for an argument that is not known here."""
        ref, typed = params.ref, params.argument.value
        others: dict[str, str] = dict((params.context and params.context.arguments) or {})
        if isinstance(ref, PromptReference):
            of, others["prompt"] = ANY_PROMPT, ref.name
        else:
            of = str(ref.uri)
        complete = self._by_argument.get((of, params.argument.name))
        if complete is None or len(typed) > MOST_TYPED:
            return Completion(values=[], total=0, has_more=False)
        found = complete(typed, others)
        if not isinstance(found, Counted):
            values = matching(typed, found)
            found = Counted(values, len(values))
        shown = found.values[:MOST_VALUES]
        return Completion(values=shown, total=found.total, has_more=found.total > len(shown))
