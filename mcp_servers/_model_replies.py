"""What the model server answers: models, and what was done to them."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema as Aside

from ryzanstein.mcp_servers._factory import Reply

__all__ = [
    "Benchmarked",
    "ConvertedModel",
    "Loaded",
    "ModelBrief",
    "ModelDescription",
    "ModelPage",
    "Pulled",
    "Removed",
    "Unloaded",
]


class ModelBrief(Reply):
    """A model of the catalogue."""

    name: str
    family: Aside[str]
    parameters: Aside[int]
    bytes: int
    licence: Aside[str]
    present: bool
    loaded: bool
    default: bool

    def brief(self) -> str:
        """Returns it in one line."""
        marks = [
            word
            for word, holds in (
                ("default", self.default),
                ("here" if self.present else "not here", True),
                ("loaded", self.loaded),
            )
            if holds
        ]
        return f"{self.name}: {self.family}, {self.bytes / 1e6:.0f} MB, {', '.join(marks)}"


class ModelPage(Reply):
    """Models of the catalogue."""

    models: list[ModelBrief]
    next_cursor: str | None = None

    def brief(self) -> str:
        """Returns one line a model."""
        lines = [model.brief() for model in self.models]
        if self.next_cursor:
            lines.append(f"More with cursor={self.next_cursor}.")
        return "\n".join(lines) or "The catalogue is empty."


class ModelDescription(Reply):
    """A model, from the catalogue or from its own file."""

    name: str
    family: str
    path: str
    present: bool
    loaded: Aside[bool]
    bytes: int
    packed_bytes: Aside[int | None] = None
    parameters: Aside[int | None] = None
    licence: Aside[str | None] = None
    context: int | None = None
    sha256: Aside[str | None] = None
    sources: Aside[list[str]] = Field(default_factory=list)
    config: Aside[dict[str, Any]] = Field(default_factory=dict)

    def brief(self) -> str:
        """Returns the main facts in a few lines."""
        lines = [
            f"{self.name}: {self.family}, {self.bytes / 1e6:.0f} MB",
            f"{'At' if self.present else 'Not here; would be at'} {self.path}",
        ]
        if self.packed_bytes:
            lines.append(f"Packed weights kept for the next load: {self.packed_bytes / 1e6:.0f} MB")
        if self.context:
            lines.append(f"Context of {self.context} tokens, licence {self.licence}")
        return "\n".join(lines)


class Pulled(Reply):
    """A model that is on this machine now."""

    name: str
    path: str
    bytes: int
    seconds: Aside[float]
    already_present: bool

    def brief(self) -> str:
        """Returns one sentence."""
        if self.already_present:
            return f"{self.name} was here already: {self.path}"
        return f"{self.name} is at {self.path} ({self.bytes / 1e6:.0f} MB, {self.seconds:.0f} s)."


class Loaded(Reply):
    """A model in memory."""

    name: str
    seconds: Aside[float]
    bytes: int

    def brief(self) -> str:
        """Returns one sentence."""
        return f"{self.name} is loaded: {self.bytes / 1e6:.0f} MB in {self.seconds:.1f} s."


class Unloaded(Reply):
    """Whether a model was in memory and is not any more."""

    name: str
    unloaded: bool

    def brief(self) -> str:
        """Returns one sentence."""
        return f"{self.name} is unloaded." if self.unloaded else f"{self.name} was not loaded."


class ConvertedModel(Reply):
    """A file that was written; `error` is the share of its weights that the new type lost."""

    path: str
    bytes: int
    changed: Aside[int]
    error: float
    seconds: Aside[float]

    def brief(self) -> str:
        """Returns one sentence."""
        return (
            f"{self.path}, {self.bytes / 1e6:.0f} MB: {self.changed} matrices changed, "
            f"{100 * self.error:.2f} % lost, {self.seconds:.0f} s. Give this path as model."
        )


class Removed(Reply):
    """A model whose files are gone."""

    name: str
    freed_bytes: int

    def brief(self) -> str:
        """Returns one sentence."""
        return f"{self.name} is deleted, {self.freed_bytes / 1e6:.0f} MB freed."


class Benchmarked(Reply):
    """Speeds of a model on this machine."""

    model: str
    prefill_tok_s: float
    decode_tok_s: float
    measures: Aside[dict[str, Any]]

    def brief(self) -> str:
        """Returns both speeds."""
        return (
            f"{self.model}: {self.prefill_tok_s:.0f} tokens/s read, "
            f"{self.decode_tok_s:.1f} tokens/s written."
        )
