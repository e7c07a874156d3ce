"""A loaded model with the states it keeps: of past prompts in memory, of system prompts on disk.

    prompt -> longest state in memory, or the one on disk after its system message -> generation
           -> states that are worth keeping: after the system message, before and after the answer

A recurrent state cannot be cut back to such a point later, so it is copied when it passes there.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ryzanstein.errors import InferenceError, ValidationError
from ryzanstein.inference.generate import Cancel, Generation, Plan
from ryzanstein.inference.personas import SavedState, StateStore, state_id
from ryzanstein.inference.prefix import MIN_TOKENS, CachedState, PrefixCache, PrefixCaches
from ryzanstein.inference.prompts import persona_ids, require_room
from ryzanstein.inference.requests import ChatRequest, GenerateResult
from ryzanstein.inference.state import State

if TYPE_CHECKING:
    from ryzanstein.inference.constrain import Grammars
    from ryzanstein.inference.model import Model
    from ryzanstein.inference.tokenizer import Tokenizer

__all__ = ["LoadedModel", "Opening"]

MAX_OPENINGS: Final = 64
# From so many new tokens on, a step of its own for the last one costs little beside them, and a
# state that lacks it can answer the same prompt again.
_LONG: Final = 128
_LABEL: Final = 80


@dataclass(frozen=True, slots=True)
class Opening:
    """What every conversation under a system message begins with.

    Attributes:
        ids: Its tokens.
        label: The beginning of the message.
        keep: It is to be on disk afterwards.
    """

    ids: Sequence[int]
    label: str
    keep: bool


@dataclass(eq=False)
class LoadedModel:
    """A model in memory with all that belongs to it.

    Attributes:
        name: Name it was asked for by: of the catalogue, or a path.
        path: Its file or directory.
        caches: States of past prompts, in memory.
        stores: Gives the current subject's states on disk.
        lock: Held by the one generation that runs on it.
    """

    name: str
    path: Path
    model: Model
    grammars: Grammars
    caches: PrefixCaches
    stores: Callable[[], StateStore]
    lock: threading.Lock = field(default_factory=threading.Lock)
    _openings: OrderedDict[tuple[str, str], list[int]] = field(default_factory=OrderedDict)

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self.model.tokenizer

    @property
    def cache(self) -> PrefixCache:
        """The current subject's states in memory."""
        return self.caches.own()

    @property
    def store(self) -> StateStore:
        """The current subject's states on disk."""
        return self.stores()

    def opening(self, request: ChatRequest, prompt: Sequence[int]) -> Opening | None:
        """Returns what a conversation's prompt begins with, where it has a system message."""
        first = request.messages[0]
        if first.role != "system" or len(request.messages) < 2:
            return None
        ids = self._opening_ids(first.content, request.tools)
        if not MIN_TOKENS <= len(ids) < len(prompt) or list(prompt[: len(ids)]) != ids:
            return None
        keep = request.keep_system or self.store.has(self.model.state_shape, ids)
        return Opening(ids, _label(first.content), keep)

    def answer(
        self, prompt: Sequence[int], plan: Plan, opening: Opening | None = None
    ) -> GenerateResult:
        """Generates, and keeps the states worth keeping; the caller holds the lock."""
        state = self._begin(prompt, opening)
        cached = state.length
        points = self._points(state, prompt, opening)
        generation = Generation(self.model, self.tokenizer, state, prompt, points)
        try:
            generation.run(plan)
        finally:
            for kept in (*generation.kept, state):
                self.caches.put(generation.ids, kept)
        self._save(opening, generation.kept)
        return GenerateResult(
            text=generation.text,
            model=self.name,
            prompt_tokens=len(prompt),
            cached_tokens=cached,
            tokens=generation.tokens,
            finish_reason=generation.finish_reason,
            prefill_seconds=generation.prefill_seconds,
            seconds=generation.seconds,
        )

    def warm(self, system: str, label: str = "", cancel: Cancel | None = None) -> SavedState:
        """Makes sure that the state after a system message is on disk and in memory.

        One that is there under another label, since a conversation left it behind, gets this one.

        Raises:
            ValidationError: the message is too short or too long, or the template refuses it.
            InferenceError: the state cannot be saved.
            ForwardCancelled: `cancel` was set.
        """
        ids = self._opening_ids(system, [])
        require_room(len(ids), self.model.context_tokens)
        if len(ids) < MIN_TOKENS:
            raise ValidationError(f"A prompt of {len(ids)} tokens is too short to be kept.")
        with self.lock:
            shape = self.model.state_shape
            state = self.store.load(shape, ids, self.model.context_tokens)
            if state is not None:
                self.caches.put(ids, state)
                saved = self._saved(ids)
                if label in ("", saved.label):
                    return saved
            else:
                state = self._computed(ids, cancel)
            return self._written(state, ids, label or _label(system))

    def save(self, entry: CachedState, label: str = "") -> SavedState:
        """Writes a state of the cache to disk.

        Raises:
            InferenceError: the disk is full or not writable, or the bound on states too small.
        """
        with self.lock:
            ids = entry.ids.tolist()
            return self._written(entry.state, ids, label or _label(self.text(ids)))

    def restore(self, saved: SavedState) -> CachedState:
        """Brings a state from disk into the cache.

        Raises:
            InferenceError: it is damaged, or of another model, weight form or version.
        """
        shape, capacity = self.model.state_shape, self.model.context_tokens
        state, ids = State.load_with_ids(saved.path, shape, capacity)
        if len(ids) < MIN_TOKENS:
            raise InferenceError(f"The state {saved.path} was saved without its tokens.")
        with self.lock:
            self.caches.put(ids.tolist(), state)
            self.store.touch(saved)
        return CachedState(ids, state)

    def text(self, ids: Sequence[int]) -> str:
        """The beginning of the text that a state holds."""
        return self.tokenizer.decode(ids[:_LABEL])

    def _opening_ids(self, system: str, tools: Sequence[dict[str, Any]]) -> list[int]:
        key = (system, json.dumps(tools) if tools else "")
        found = self._openings.get(key)
        if found is None:
            found = persona_ids(self.tokenizer, system, tools or None)
            self._openings[key] = found
            while len(self._openings) > MAX_OPENINGS:
                self._openings.popitem(last=False)
        return found

    def _begin(self, prompt: Sequence[int], opening: Opening | None) -> State:
        """The state to go on from: the longest in memory, or the one on disk if that is longer."""
        if opening is not None and self.cache.usable(prompt) < len(opening.ids):
            shape, capacity = self.model.state_shape, self.model.context_tokens
            saved = self.store.load(shape, opening.ids, capacity)
            if saved is not None:
                self.caches.put(opening.ids, saved)
        return self.cache.take(prompt) or self.model.new_state()

    def _points(self, state: State, prompt: Sequence[int], opening: Opening | None) -> list[int]:
        """Where the state is to be copied on its way: after the system message, before the answer.

        States with pages need no copies, since they can be cut, but for what goes to disk.
        """
        points = []
        start = state.length
        if opening is not None and start < len(opening.ids):
            start = len(opening.ids)
            if state.recurrent or opening.keep:
                points.append(start)
        if state.recurrent:
            points.append(len(prompt) - (len(prompt) - start >= _LONG))
        return points

    def _computed(self, ids: Sequence[int], cancel: Cancel | None) -> State:
        held = self.cache.take(ids) or self.model.new_state()
        self.model.feed(ids[held.length :], held, cancel)
        self.caches.put(ids, held)
        return held

    def _save(self, opening: Opening | None, kept: Sequence[State]) -> None:
        """Brings the state after the system message to disk, where it is wanted and not there."""
        if opening is None or not opening.keep:
            return
        if self.store.has(self.model.state_shape, opening.ids):
            return
        state = self._held(opening.ids, kept)
        if state is not None:
            self.store.save(state, opening.ids, opening.label)

    def _held(self, ids: Sequence[int], kept: Sequence[State]) -> State | None:
        """A state of just these tokens, if one was passed or can be cut out of the cache."""
        found = next((one for one in kept if one.length == len(ids)), None)
        if found is None:
            entry = self.cache.holding(ids)
            found = entry.state.copy() if entry is not None else None
            if found is not None:
                found.truncate(len(ids))
        return found

    def _written(self, state: State, ids: Sequence[int], label: str) -> SavedState:
        saved = self.store.save(state, ids, label)
        if saved is None:
            raise InferenceError(
                f"The state of {len(ids)} tokens could not be kept in {self.store.folder}.",
                hint="Make room there, or raise RYZANSTEIN_STATES_MB.",
            )
        return saved

    def _saved(self, ids: Sequence[int]) -> SavedState:
        saved = self.store.find(self.model.state_shape, ids)
        if saved is None:
            raise InferenceError(f"The state {state_id(ids)} went away while it was read.")
        return saved


def _label(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LABEL else f"{line[: _LABEL - 1]}…"
