"""Readers of configuration keys that refuse what makes no sense: config.json and GGUF metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.layouts.layout import UnsupportedModel

__all__ = ["Metadata", "flag", "real", "shown", "whole"]


def whole(config: Mapping[str, Any], key: str, file: str) -> int:
    """A key of config.json as a positive whole number.

    Raises:
        ModelLoadError: it is missing or none.
    """
    value = config.get(key)
    if type(value) is not int or not 0 < value < 1 << 31:
        raise ModelLoadError(
            f"{file}: config.json has {key} = {value!r:.60}, no sensible whole number."
        )
    return value


def real(
    config: Mapping[str, Any], key: str, file: str, default: float, below: float = 1.0
) -> float:
    """A key of config.json as a number above 0 and under `below`.

    Raises:
        ModelLoadError: it is none.
    """
    value = config.get(key)
    value = default if value is None else value
    if type(value) not in (int, float) or not 0 < value < below:
        raise ModelLoadError(f"{file}: config.json has {key} = {value!r:.60}, no sensible number.")
    return float(value)


def flag(config: Mapping[str, Any], key: str, file: str, default: bool) -> bool:
    """A key of config.json as a truth value.

    Raises:
        ModelLoadError: it is none.
    """
    value = config.get(key)
    value = default if value is None else value
    if not isinstance(value, bool):
        raise ModelLoadError(f"{file}: config.json has {key} = {value!r:.60}, not true or false.")
    return value


def shown(value: Any) -> str:
    """A value of the file as it may stand in an error: one short line."""
    return " ".join(repr(value).split())[:60]


class Metadata:
    """The keys of a GGUF file's architecture, `llama.block_count` as `block_count`.

    Every method raises UnsupportedModel where a key is missing or makes no sense.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        self.prefix = str(metadata.get("general.architecture", ""))

    def get(self, key: str) -> Any:
        """A plain value; a list means that layers differ, which no program here does."""
        value = self.metadata.get(f"{self.prefix}.{key}")
        if not isinstance(value, bool | int | float | str | None):
            raise UnsupportedModel(f"{self.prefix}.{key} is a list, which is not supported")
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        """A positive whole number; without a default it has to be there."""
        value = self.get(key)
        value = default if value is None else value
        if value is None:
            raise UnsupportedModel(f"its metadata has no {self.prefix}.{key}")
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
            raise UnsupportedModel(
                f"{self.prefix}.{key} is {shown(value)}, no sensible whole number"
            )
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A positive number; without a default it has to be there."""
        value = self.get(key)
        value = default if value is None else value
        if value is None:
            raise UnsupportedModel(f"its metadata has no {self.prefix}.{key}")
        if not isinstance(value, float | int) or not 0.0 < value < 1e30:
            raise UnsupportedModel(f"{self.prefix}.{key} is {shown(value)}, no sensible number")
        return float(value)

    def vocabulary(self) -> int:
        """Rows of the embedding: as said, or as many as there are tokens."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        return self.whole("vocab_size", len(tokens) if tokens is not None else None)
