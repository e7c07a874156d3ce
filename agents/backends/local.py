"""Our own engine, through the inference server, wherever the registry says that runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ryzanstein.agents.backends.base import (
    Completion,
    Message,
    Progress,
    estimated_tokens,
    reporting,
)
from ryzanstein.errors import MemoryLimitError, ModelNotFound
from ryzanstein.resilience import Watch

if TYPE_CHECKING:
    from ryzanstein.registry import BackendSpec, ModelEntry

__all__ = ["Call", "LocalBackend"]

# Calls a tool of the inference server: its name, arguments, progress.
Call = Callable[[str, Mapping[str, Any], Progress | None], Awaitable[dict[str, Any]]]
Hook = Callable[[str], Awaitable[None]]


class LocalBackend:
    """The inference server; a model that memory has no room for gives way to a smaller one.

    Args:
        spec: Its name and limits.
        call: Reaches the server.
        models: The catalogue, for the smaller ones.
        on_failure: Hears why another model than the one asked for answers.
    """

    def __init__(
        self,
        spec: BackendSpec,
        call: Call,
        models: Sequence[ModelEntry],
        on_failure: Hook,
    ) -> None:
        self.name = spec.name
        self.seconds = spec.seconds
        self.total_seconds = spec.total_seconds
        self._model = spec.model
        self._call = call
        self._models = models
        self._on_failure = on_failure
        self._short: dict[str | None, MemoryLimitError] = {}

    @property
    def available(self) -> bool:
        """Always: the server is there, or the call says that it is not."""
        return True

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        watch: Watch,
        progress: Progress | None = None,
        **options: Any,
    ) -> Completion:
        """Continues a conversation under the engine's own constraints.

        Raises:
            MemoryLimitError: Neither the model asked for nor a smaller one has room.
            RyzansteinError: What the server raised.
        """
        report = reporting(watch, progress)

        asked = options.pop("model", None) or self._model
        request = {"messages": [dict(one) for one in messages], **options}
        for model in (asked, *self._smaller(asked)):
            if model in self._short:
                continue
            try:
                found = await self._call("chat", {**request, "model": model}, report)
            except MemoryLimitError as error:
                # To load it in vain again takes as long as the first time.
                self._short[model] = error
                await self._on_failure(f"{model or 'the default model'}: {error}")
            except ModelNotFound:
                if asked not in self._short:
                    raise
            else:
                return Completion(**{name: found[name] for name in Completion.__slots__})
        raise self._short[asked]

    def _smaller(self, asked: str | None) -> list[str]:
        """Models of the catalogue that take less memory, the largest first."""
        sizes = {entry.name: entry.bytes for entry in self._models if entry.folder is None}
        most = sizes.get(asked or "", 0)
        names = [name for name, size in sizes.items() if size < most]
        return sorted(names, key=lambda name: -sizes[name])

    async def count_tokens(self, what: str | Sequence[Message], model: str | None) -> int:
        """Counts in the model's own tokens; an estimate where it cannot be loaded."""
        given = {"text": what} if isinstance(what, str) else {"messages": [*map(dict, what)]}
        asked = model or self._model
        if asked in self._short:
            return estimated_tokens(what)
        try:
            found = await self._call("count_tokens", {**given, "model": asked}, None)
        except MemoryLimitError as error:
            self._short[asked] = error
            await self._on_failure(f"{asked or 'the default model'}: {error}")
            return estimated_tokens(what)
        return int(found["tokens"])
