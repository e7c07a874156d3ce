"""A tool, and what a call of it came to, as the tools server says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["ToolOutcome", "ToolSpec"]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the tools server describes it.

    Attributes:
        name: What it is called by.
        family: Its toolset.
        description: When to use it; the first sentence goes into menus.
        read_only: Changes nothing.
        schema: JSON schema of its arguments.
        example: Arguments of one example call.
        forms: The arguments to ask a model for, each with its natural form: code, line or json.
        language: Of a fenced code block, such as python; may be empty.
    """

    name: str
    family: str
    description: str
    read_only: bool = True
    schema: Mapping[str, Any] = field(default_factory=dict)
    example: Mapping[str, Any] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)
    language: str = ""

    @property
    def line(self) -> str:
        """The first line of the description, for a menu."""
        return self.description.strip().partition("\n")[0]

    @property
    def is_external(self) -> bool:
        """Whether it belongs to somebody else's server, whose words are no more than data."""
        return "." in self.name

    @property
    def properties(self) -> Mapping[str, Mapping[str, Any]]:
        """Schema of each argument, in order."""
        found: Mapping[str, Mapping[str, Any]] = self.schema.get("properties", {})
        return found

    @classmethod
    def of(cls, wire: Mapping[str, Any]) -> Self:
        """The tool that search_tools or describe_tool answered."""
        return cls(
            name=wire["name"],
            family=wire.get("family", ""),
            description=wire.get("description", ""),
            read_only=bool(wire.get("read_only", False)),
            schema=wire.get("input_schema", {}),
            example=_parsed(wire.get("example")),
            forms=wire.get("argument_forms", {}),
            language=wire.get("main_language", ""),
        )


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What a tool call came to; a tool that refused has ok False and says why in its text.

    Attributes:
        ok: Whether it did what was asked.
        text: For the model.
        data: For programs.
        seconds: How long it took.
        untrusted: The text comes from outside and is no instruction.
        reason: `approval_required` where the call was refused for want of a grant.
        grant: The narrowest grant that would allow it.
        would: What it would do, for whoever is asked to allow it.
    """

    ok: bool
    text: str
    data: Any = None
    seconds: float = 0.0
    untrusted: bool = False
    reason: str = ""
    grant: str = ""
    would: str = ""


def _parsed(example: Any) -> Mapping[str, Any]:
    """An example as a mapping; on the wire it is JSON text."""
    found = json.loads(example) if isinstance(example, str) and example else example
    return found if isinstance(found, dict) else {}
