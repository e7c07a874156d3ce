"""From a configuration to the dataclass of keys that a computation depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from ryzanstein.errors import ModelLoadError

__all__ = ["known_keys"]

Args = TypeVar("Args")


def known_keys(kind: type[Args], config: Mapping[str, Any]) -> Args:
    """Makes a dataclass of those keys of a configuration that are its fields.

    Raises:
        ModelLoadError: a key that has no default is missing.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    try:
        return kind(**{key: value for key, value in config.items() if key in known})
    except TypeError as error:
        raise ModelLoadError(f"The configuration is incomplete: {error}.") from error
