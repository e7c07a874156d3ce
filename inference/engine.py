"""The engine: loaded models, one generation at a time on each, and the states of past prompts.

    request -> model (loaded once, least recently used dropped) -> prompt ids -> longest cached
    state -> generation

Everything blocks; asynchronous callers run it in a thread. A `cancel` event is looked at while
waiting for the model, within the prefill, and between any two tokens.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ryzanstein.errors import InferenceError, MemoryLimitError, ValidationError
from ryzanstein.inference.constrain import Grammars
from ryzanstein.inference.generate import Cancel, Plan
from ryzanstein.inference.load import Watch, load_model
from ryzanstein.inference.loaded import LoadedModel, Opening
from ryzanstein.inference.personas import SavedState, StateStore
from ryzanstein.inference.prefix import CachedState, PrefixCaches
from ryzanstein.inference.prompts import chat_prompt, completion_prompt, require_room
from ryzanstein.inference.requests import (
    ChatRequest,
    GenerateRequest,
    GenerateResult,
    Request,
    ScoreResult,
    checked,
)
from ryzanstein.machine import available_memory

if TYPE_CHECKING:
    from ryzanstein.config import Settings
    from ryzanstein.inference.model import Model
    from ryzanstein.inference.tokenizer import Tokenizer
    from ryzanstein.registry import Registry

__all__ = ["Engine", "LoadedModel"]

OnToken = Callable[[str], None]

MAX_MODELS: Final = 3
CACHE_BYTES: Final = 512 << 20
_WAIT_SECONDS: Final = 0.05
_SCORED_AT_ONCE: Final = 64


class Engine:
    """Loads models on demand and generates with them; safe to use from several threads."""

    def __init__(
        self,
        settings: Settings | None = None,
        registry: Registry | None = None,
        *,
        max_models: int = MAX_MODELS,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """Prepares an engine; nothing is loaded yet.

        Args:
            settings: Threads, context length and where models lie; read from the environment by
            default.
            registry: Its `models` are the catalogue; read by default.
            max_models: At most so many models stay loaded.
            cache_bytes: Bound on the states each model keeps of past prompts, of all subjects.
        """
        self._settings = settings
        self._registry = registry
        self._max_models = max_models
        self._cache_bytes = cache_bytes
        self._models: OrderedDict[Path, LoadedModel] = OrderedDict()
        self._table = threading.Lock()
        self._loading = threading.Lock()

    def get(
        self,
        name: str | Path | None = None,
        *,
        cancel: Cancel | None = None,
        watch: Watch | None = None,
    ) -> LoadedModel:
        """Returns a model, loading it if it is not loaded; None asks for the default model.

        Args:
            name: Of the catalogue, or a path.
            cancel: Ends the load between two tensors.
            watch: Told how many tensors were read, of how many.

        Raises:
            InferenceError: the load was cancelled.
            ModelNotFound: there is no such model on this machine.
            ModelLoadError: its file is damaged or not supported.
            MemoryLimitError: there is no room for it, even after dropping idle models.
        """
        asked, path = self._resolve(name)
        found = self._find(path)
        if found is not None:
            return found
        if not _acquire(self._loading, cancel):
            raise _given_up()
        try:
            return self._find(path) or self._load(asked, path, _watching(cancel, watch))
        finally:
            self._loading.release()

    def unload(self, name: str | Path) -> bool:
        """Drops a model, after the generation that runs on it; says whether it was loaded."""
        loaded = self._named(name)
        if loaded is None:
            return False
        with loaded.lock:
            self._drop(loaded)
        return True

    def loaded(self) -> list[str]:
        """Returns the names of the loaded models, most recently used last."""
        with self._table:
            return [loaded.name for loaded in self._models.values()]

    def close(self) -> None:
        """Drops every model, each after the generation that runs on it."""
        for name in self.loaded():
            self.unload(name)

    def generate(
        self,
        request: GenerateRequest | Mapping[str, Any],
        on_token: OnToken | None = None,
        cancel: Cancel | None = None,
    ) -> GenerateResult:
        """Continues a text, or fills the gap before `suffix`.

        Args:
            request: What to generate, checked or as plain values.
            on_token: Called in this thread with every piece of text that has become certain.
            cancel: Ends the generation; the result holds what there is.

        Raises:
            ValidationError: the request is out of bounds, the prompt empty or too long.
            InferenceError: the model cannot be loaded or fails.
        """
        request = checked(GenerateRequest, request)
        loaded = self.get(request.model, cancel=cancel)
        return self._answer(
            loaded, completion_prompt(loaded.tokenizer, request), request, on_token, cancel
        )

    def chat(
        self,
        request: ChatRequest | Mapping[str, Any],
        on_token: OnToken | None = None,
        cancel: Cancel | None = None,
    ) -> GenerateResult:
        """Answers a conversation; arguments and errors are those of `generate`."""
        request = checked(ChatRequest, request)
        loaded = self.get(request.model, cancel=cancel)
        prompt = chat_prompt(loaded.tokenizer, request)
        opening = loaded.opening(request, prompt)
        return self._answer(loaded, prompt, request, on_token, cancel, opening)

    def score(self, model: str | None, text: str, *, cancel: Cancel | None = None) -> ScoreResult:
        """Returns how likely a model finds a text.

        Raises:
            InferenceError: it was cancelled.
            ValidationError: the text has fewer than two tokens, or more than the context.
        """
        loaded = self.get(model, cancel=cancel)
        tokenizer = loaded.tokenizer
        ids = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        ids += tokenizer.encode(text)
        require_room(len(ids), loaded.model.context_tokens)
        if len(ids) < 2:
            raise ValidationError("A text of at least two tokens is needed to score it.")
        if not _acquire(loaded.lock, cancel):
            raise _given_up()
        try:
            logprob = _logprob(loaded.model, ids, cancel)
        finally:
            loaded.lock.release()
        count = len(ids) - 1
        perplexity = math.exp(min(-logprob / count, 700.0))
        return ScoreResult(model=loaded.name, tokens=count, logprob=logprob, perplexity=perplexity)

    def count_tokens(self, model: str | None, text: str | Sequence[Mapping[str, Any]]) -> int:
        """Returns the tokens of a text, or of a conversation's prompt with its template."""
        loaded = self.get(model)
        if isinstance(text, str):
            return len(loaded.tokenizer.encode(text))
        request = checked(ChatRequest, {"messages": list(text)})
        return len(chat_prompt(loaded.tokenizer, request))

    def cache_stats(self) -> dict[str, int]:
        """Returns the current subject's states, bytes, hits and misses of all loaded models."""
        with self._table:
            caches = [loaded.cache for loaded in self._models.values()]
        return {
            "states": sum(len(cache.entries()) for cache in caches),
            "bytes": sum(cache.nbytes for cache in caches),
            "hits": sum(cache.hits for cache in caches),
            "misses": sum(cache.misses for cache in caches),
            "prompt_tokens": sum(cache.prompt_tokens for cache in caches),
            "cached_tokens": sum(cache.cached_tokens for cache in caches),
        }

    def warm(
        self, model: str | None, system: str, label: str = "", cancel: Cancel | None = None
    ) -> SavedState:
        """Makes sure that conversations under a system message start at once, now and later.

        The state after it is computed, unless it is on disk already, and kept there.

        Args:
            model: Catalogue name or path; None means the default model.
            system: The system message.
            label: What people are to know the state by; by default how the message begins.
            cancel: Gives up while the message is read.

        Raises:
            ValidationError: it does not fit the context, or the model's template refuses it.
            InferenceError: the model cannot be loaded, or the state not be saved.
        """
        return self.get(model, cancel=cancel).warm(system, label, cancel)

    @property
    def store(self) -> StateStore:
        """The current subject's states on disk."""
        settings = self._configured()
        return StateStore(settings.states_path, settings.states_mb << 20)

    def cached(self) -> list[tuple[LoadedModel, CachedState]]:
        """Returns the current subject's states with their models, least recently used first."""
        with self._table:
            models = list(self._models.values())
        return [(loaded, entry) for loaded in models for entry in loaded.cache.entries()]

    def clear_cache(self, model: str | None = None) -> int:
        """Drops the current subject's states of one model, or of all; returns how many."""
        with self._table:
            models = [loaded for loaded in self._models.values() if model in (None, loaded.name)]
        dropped = 0
        for loaded in models:
            with loaded.lock:
                dropped += loaded.cache.clear()
        return dropped

    def _answer(
        self,
        loaded: LoadedModel,
        prompt: Sequence[int],
        request: Request,
        on_token: OnToken | None,
        cancel: Cancel | None,
        opening: Opening | None = None,
    ) -> GenerateResult:
        vocabulary = loaded.model.vocabulary
        require_room(len(prompt), loaded.model.context_tokens)
        if any(token >= vocabulary for token in request.logit_bias):
            raise ValidationError(f"logit_bias: token ids must be below {vocabulary:,}.")
        constraint = request.constraint
        plan = Plan(
            max_tokens=request.max_tokens,
            sampling=request.sampling(),
            stops=_stops(loaded.tokenizer, request),
            matcher=loaded.grammars.matcher(constraint.given()) if constraint else None,
            on_text=on_token,
            cancel=cancel,
        )
        if not _acquire(loaded.lock, cancel):
            return _cancelled(loaded.name, len(prompt))
        try:
            return loaded.answer(prompt, plan, opening)
        finally:
            loaded.lock.release()

    def _resolve(self, name: str | Path | None) -> tuple[str, Path]:
        from ryzanstein.inference.catalogue import Catalogue

        if isinstance(name, Path):
            return str(name), name.expanduser().resolve()
        if self._registry is None:
            from ryzanstein.registry import load_registry

            self._registry = load_registry()
        catalogue = Catalogue(self._configured(), self._registry.models)
        asked = name or catalogue.default()
        return asked, catalogue.resolve(asked).resolve()

    def _configured(self) -> Settings:
        if self._settings is None:
            from ryzanstein.config import load_settings

            self._settings = load_settings()
        return self._settings

    def _find(self, path: Path) -> LoadedModel | None:
        with self._table:
            loaded = self._models.get(path)
            if loaded is not None:
                self._models.move_to_end(path)
            return loaded

    def _named(self, name: str | Path) -> LoadedModel | None:
        path = Path(name).expanduser().resolve()
        with self._table:
            return next(
                (m for m in self._models.values() if m.name == name or m.path == path), None
            )

    def _load(self, asked: str, path: Path, watch: Watch) -> LoadedModel:
        while len(self.loaded()) >= self._max_models and self._drop_idle():
            pass
        settings = self._configured()
        while True:
            try:
                model = load_model(
                    path,
                    settings.threads,
                    context_tokens=settings.context_tokens,
                    keep_packed=settings.keep_packed,
                    pin=settings.pin,
                    head=settings.head,
                    read_tokenizer=True,
                    watch=watch,
                )
                _lift_context(model)
                _require_cache_room(model)
                break
            except MemoryLimitError:
                if not self._drop_idle():
                    raise
        caches = PrefixCaches(self._cache_bytes)
        grammars = Grammars(model.tokenizer)
        loaded = LoadedModel(asked, path, model, grammars, caches, lambda: self.store)
        with self._table:
            self._models[path] = loaded
        return loaded

    def _drop_idle(self) -> bool:
        """Drops the least recently used model on which nothing runs; says whether there was one."""
        with self._table:
            models = list(self._models.values())
        for loaded in models:
            if loaded.lock.acquire(blocking=False):
                try:
                    self._drop(loaded)
                finally:
                    loaded.lock.release()
                return True
        return False

    def _drop(self, loaded: LoadedModel) -> None:
        with self._table:
            self._models.pop(loaded.path, None)
        loaded.caches.clear()
        loaded.model.close()


def _lift_context(model: Model) -> None:
    """Gives a model whose state does not grow the context it was made for: it takes no room."""
    if not model.state_shape.page_bytes:
        longest = int(model.config.get("max_position_embeddings", 0) or 0)
        model.context_tokens = max(model.context_tokens, longest)


def _require_cache_room(model: Model) -> None:
    """Refuses a context whose state would not fit beside the weights."""
    shape, context = model.state_shape, model.context_tokens
    needed = shape.pages(context) * shape.page_bytes + shape.fixed_bytes
    free = available_memory()
    if needed > free:
        model.close()
        raise MemoryLimitError(
            f"A context of {context:,} tokens takes {needed / 2**30:.1f} GiB beside the weights, "
            f"and {free / 2**30:.1f} GiB are free.",
            hint="Set a smaller RYZANSTEIN_CONTEXT_TOKENS, or take a smaller model.",
        )


def _stops(tokenizer: Tokenizer, request: Request) -> list[str]:
    """A model without a token for the end of a turn ends it by the next speaker's name."""
    return [*request.stop, *(tokenizer.chat_stops if isinstance(request, ChatRequest) else ())]


def _acquire(lock: threading.Lock, cancel: Cancel | None) -> bool:
    """Waits for a lock; gives up and says so when the caller does."""
    if cancel is None:
        return lock.acquire()
    while not cancel.is_set():
        if lock.acquire(timeout=_WAIT_SECONDS):
            return True
    return False


def _watching(cancel: Cancel | None, watch: Watch | None) -> Watch:
    """Tells of a load, and ends it when its caller gives up."""

    def told(read: int, of: int) -> None:
        if cancel is not None and cancel.is_set():
            raise _given_up()
        if watch is not None:
            watch(read, of)

    return told


def _given_up() -> InferenceError:
    return InferenceError("It was cancelled.")


def _cancelled(model: str, prompt_tokens: int) -> GenerateResult:
    return GenerateResult(
        text="",
        model=model,
        prompt_tokens=prompt_tokens,
        cached_tokens=0,
        tokens=0,
        finish_reason="cancelled",
        prefill_seconds=0.0,
        seconds=0.0,
    )


def _logprob(model: Model, ids: Sequence[int], cancel: Cancel | None) -> float:
    """Sum of the log-probabilities of ids[1:], each after all before it."""
    state = model.new_state()
    total = 0.0
    for first in range(0, len(ids) - 1, _SCORED_AT_ONCE):
        part = ids[first : min(first + _SCORED_AT_ONCE, len(ids) - 1)]
        if cancel is not None and cancel.is_set():
            raise _given_up()
        logits = model.forward(part, state, all_logits=True)
        targets = np.asarray(ids[first + 1 : first + 1 + len(part)])
        chosen = logits[np.arange(len(part)), targets]
        top = logits.max(axis=1, keepdims=True)
        total += float((chosen - top[:, 0]).sum(dtype=np.float64))
        total -= float(np.log(np.exp(logits - top).sum(axis=1, dtype=np.float64)).sum())
    if not math.isfinite(total):
        raise InferenceError("The model's logits are not finite numbers.")
    return total
