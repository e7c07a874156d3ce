"""States of past prompts, so that a prompt with the same beginning pays only for what is new.

An agent asks several short questions on one growing context: each continues the state that saves it
the most tokens.

    keys and values   cut where the prompts part, so one state stands for all its beginnings
    recurrent         used where all its tokens begin the prompt; kept beside longer ones

States share pages when copied (`state.py`), so keeping a branch costs only its own pages.

Every subject has a cache of its own: how many tokens were cached, and how fast an answer came,
would else tell one what another had asked.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from ryzanstein.subject import current

if TYPE_CHECKING:
    from ryzanstein.inference.model import State

__all__ = ["CachedState", "PrefixCache", "PrefixCaches"]

MAX_STATES: Final = 32
# Below this, computing the tokens again is about as quick as copying the first page.
MIN_TOKENS: Final = 8

_Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class CachedState:
    """A state with the tokens it holds."""

    ids: _Ids
    state: State


class PrefixCache:
    """The last states of one model, least recently used dropped first.

    Attributes:
        max_bytes: Bound on the sum of the states' bytes; pages that states share count for each.
        hits: Prompts that found a state.
        misses: Prompts that found none.
        prompt_tokens: Tokens of all prompts.
        cached_tokens: How many of them were in a state that was found.
    """

    def __init__(self, max_bytes: int, max_states: int = MAX_STATES) -> None:
        self.max_bytes = max_bytes
        self.max_states = max_states
        self.hits = 0
        self.misses = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self._entries: OrderedDict[int, CachedState] = OrderedDict()
        self._next = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all states."""
        return sum(entry.state.nbytes for entry in self._entries.values())

    def entries(self) -> list[CachedState]:
        """Returns the states, least recently used first."""
        return list(self._entries.values())

    def usable(self, prompt: Sequence[int]) -> int:
        """Returns how many of the prompt's tokens `take` would save."""
        return self._best(np.asarray(prompt, np.int32))[1]

    def take(self, prompt: Sequence[int]) -> State | None:
        """Returns a state that holds the longest cached beginning of the prompt, or None.

        At least the prompt's last token is left to compute, since its logits are needed. The state
        is the caller's own.
        """
        ids = np.asarray(prompt, np.int32)
        key, usable = self._best(ids)
        self.prompt_tokens += len(ids)
        if key is None:
            self.misses += 1
            return None
        self.hits += 1
        self.cached_tokens += usable
        entry = self._entries[key]
        if usable == len(entry.ids) and not entry.state.recurrent:
            # The prompt continues all of it, so what is put back will stand for both.
            del self._entries[key]
            return entry.state
        self._entries.move_to_end(key)
        state = entry.state.copy()
        state.truncate(usable)
        return state

    def put(self, ids: Sequence[int], state: State) -> None:
        """Keeps a state with the tokens it holds, and drops old ones beyond the bounds."""
        held = np.asarray(ids[: state.length], np.int32)
        if len(held) < MIN_TOKENS or state.nbytes > self.max_bytes:
            return
        for key, entry in list(self._entries.items()):
            whole = not state.recurrent or len(entry.ids) == len(held)
            if whole and _common(entry.ids, held) == len(entry.ids):
                del self._entries[key]  # the new one can stand for it
        self._entries[self._next] = CachedState(held, state)
        self._next += 1
        while len(self._entries) > self.max_states or self.nbytes > self.max_bytes:
            self._entries.popitem(last=False)

    def holding(self, ids: Sequence[int]) -> CachedState | None:
        """Returns a state that is, or can be cut to, just these tokens; counts as no use."""
        held = np.asarray(ids, np.int32)
        for entry in self._entries.values():
            exact = len(entry.ids) == len(held) or not entry.state.recurrent
            if exact and _common(entry.ids, held) == len(held):
                return entry
        return None

    def drop(self, entry: CachedState) -> bool:
        """Drops one of `entries`; says whether it was still there."""
        found = [key for key, one in self._entries.items() if one is entry]
        for key in found:
            del self._entries[key]
        return bool(found)

    def clear(self) -> int:
        """Drops every state; returns how many there were."""
        count = len(self._entries)
        self._entries.clear()
        return count

    def _best(self, ids: _Ids) -> tuple[int | None, int]:
        """The state that saves the most tokens of a prompt, and how many; at least MIN_TOKENS."""
        best: tuple[int | None, int] = (None, MIN_TOKENS - 1)
        for key, entry in self._entries.items():
            common = _common(entry.ids, ids)
            usable = min(common, len(ids) - 1)
            if entry.state.recurrent and usable < len(entry.ids):
                continue
            if usable > best[1]:
                best = (key, usable)
        return best if best[0] is not None else (None, 0)


class PrefixCaches:
    """The prefix caches of one model, one a subject, within one bound.

    Attributes:
        max_bytes: Bound on the bytes of all of them.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._caches: OrderedDict[str, PrefixCache] = OrderedDict()

    def own(self) -> PrefixCache:
        """Returns the current subject's."""
        with self._lock:
            cache = self._caches.setdefault(current().key, PrefixCache(self.max_bytes))
            self._caches.move_to_end(current().key)
            return cache

    def put(self, ids: Sequence[int], state: State) -> None:
        """Keeps a state of the current subject; beyond the bound the others' oldest go first."""
        self.own().put(ids, state)
        with self._lock:
            taken = {key: cache.nbytes for key, cache in self._caches.items()}
            for key in list(taken)[:-1]:
                if sum(taken.values()) > self.max_bytes:
                    del self._caches[key], taken[key]

    def clear(self) -> None:
        """Drops every state of everybody."""
        with self._lock:
            self._caches.clear()


def _common(left: _Ids, right: _Ids) -> int:
    """Length of the longest common beginning."""
    size = min(len(left), len(right))
    differing = np.flatnonzero(left[:size] != right[:size])
    return int(differing[0]) if differing.size else size
