"""One step of an agent: the tool's name alone, then its arguments, each in its own natural form.

    choose     the name, out of the menu                       constraint: choices
    arguments  code           ```python … ```                  prefix and stop
               one of few     an enum, or the files at hand    constraint: choices
               a line         path, SQL, expression            stop at the line's end
               numbers, flags                                  constraint: regex
               more than three required fields                 constraint: the tool's JSON schema

So a call always parses and always fits its schema; optional arguments keep their defaults.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ryzanstein.agents.calls.schema import decodable, fitted, outline, rooted
from ryzanstein.agents.clients.services import ToolSpec
from ryzanstein.agents.running.conversation import Conversation
from ryzanstein.errors import AgentInvocationError, InvalidRequest

__all__ = ["OTHER", "Call", "Step", "Unfilled", "choose", "fill"]

CODE_TOKENS = 400
LINE_TOKENS = 120
JSON_TOKENS = 400
MOST_FIELDS = 3
SEED = 1
OTHER = "something else"
_PATTERNS = {"integer": r"-?[0-9]{1,12}", "number": r"-?[0-9]{1,12}(\.[0-9]{1,9})?"}


class Unfilled(AgentInvocationError):
    """The model gave no arguments that can be read."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool and the arguments it is called with."""

    tool: str
    arguments: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The same text for the same call, to notice repetition."""
        return json.dumps([self.tool, dict(self.arguments)], sort_keys=True)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing the agent did.

    Attributes:
        kind: look, tool, check, reflect or answer.
        tool: The tool that was called, or "".
        arguments: What it was called with.
        observation: What came back, as the model saw it.
        ok: False where the tool refused or failed.
        tokens: Tokens the model generated for it.
        seconds: Wall time of the whole step.
    """

    kind: str
    tool: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    observation: str = ""
    ok: bool = True
    tokens: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The wire form."""
        return asdict(self)


async def choose(talk: Conversation, text: str, names: Sequence[str], *, most: int = 24) -> str:
    """Asks for one of the names, each of at most so many tokens."""
    found = await talk.ask(text, max_tokens=most, choices=list(names))
    return found.text.strip()


async def fill(
    talk: Conversation,
    tool: ToolSpec,
    question: Callable[[str], str],
    known: Mapping[str, Any] | None = None,
    options: Mapping[str, Sequence[str]] | None = None,
    *,
    temperature: float = 0.0,
) -> dict[str, Any]:
    """Asks for the arguments a call needs.

    Args:
        talk: The conversation, in which the tool was just chosen.
        tool: The tool, described.
        question: What to say to get an argument, given its name.
        known: Arguments whose value is clear already.
        options: The values an argument can take, where they are few.
        temperature: Above 0 to get something else than before.

    Raises:
        Unfilled: The model gave no arguments that can be read.
    """
    if len(tool.forms) > MOST_FIELDS or not tool.forms:
        return await _json(talk, tool)
    filled = dict(known or {})
    for name in tool.forms:
        if name not in filled:
            filled[name] = await _argument(talk, tool, name, question(name), options, temperature)
    return filled


async def _json(talk: Conversation, tool: ToolSpec) -> dict[str, Any]:
    example = json.dumps(dict(tool.example), ensure_ascii=False)
    text = (
        f"Write the arguments of {tool.name} as JSON, optional ones only where they are needed.\n"
        f"{outline(tool.schema)}Example: {example}"
    )
    values = await _fitting(talk, text, tool.schema, tool.name)
    if not isinstance(values, dict):
        raise Unfilled(f"The arguments of {tool.name} are no object.")
    return values


async def _fitting(talk: Conversation, text: str, schema: Mapping[str, Any], name: str) -> Any:
    """Asks for JSON that fits a schema, whoever wrote it."""
    try:
        form = decodable(schema)
    except InvalidRequest as error:
        raise Unfilled(f"{name} cannot be filled in: {error}") from error
    found = await talk.ask(text, max_tokens=JSON_TOKENS, json_schema=form)
    return fitted(_read(found.text, name), schema)


def _read(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Unfilled(f"What was written for {name} is cut off or no JSON: {text[:80]}") from error


async def _argument(
    talk: Conversation,
    tool: ToolSpec,
    name: str,
    question: str,
    options: Mapping[str, Sequence[str]] | None,
    temperature: float,
) -> Any:
    schema = tool.properties.get(name, {})
    choices = (options or {}).get(name) or _enumerated(schema)
    if choices:
        chosen = choices[0] if len(choices) == 1 else await choose(talk, question, choices)
        if chosen != OTHER:
            return chosen
    if tool.forms.get(name) == "code":
        return await _code(talk, question, tool, temperature)
    kind = schema.get("type", "string")
    if kind == "boolean":
        return await choose(talk, question, ["true", "false"]) == "true"
    if kind in _PATTERNS:
        found = await talk.ask(question, max_tokens=24, regex=_PATTERNS[kind])
        return _read(found.text, name)
    if kind != "string":
        return await _fitting(talk, question, rooted(schema, tool.schema), name)
    line = await _line(talk, question, tool.name, temperature)
    return line or schema.get("default", "")


def _enumerated(schema: Mapping[str, Any]) -> list[str]:
    if "enum" in schema:
        return [str(value) for value in schema["enum"]]
    return [str(schema["const"])] if "const" in schema else []


async def _code(talk: Conversation, question: str, tool: ToolSpec, heat: float) -> str:
    # Said again in a comment, since a model that sees its own program writes it once more.
    again = (
        "# Corrected, complete with its imports:\n" if heat and tool.language == "python" else ""
    )
    prefix = f"```{tool.language}\n{again}"
    found = await talk.ask(
        question, max_tokens=CODE_TOKENS, prefix=prefix, stop=["```"], temperature=heat, seed=SEED
    )
    return found.text.rstrip() + "\n"


async def _line(talk: Conversation, question: str, tool: str, heat: float) -> str:
    found = await talk.ask(
        question, max_tokens=LINE_TOKENS, stop=["\n"], temperature=heat, seed=SEED
    )
    return bare(found.text, tool)


def bare(line: str, tool: str) -> str:
    """A line without what a model may put around it: the tool's name, brackets, quotes."""
    text = line.strip().strip("`").strip()
    if text.startswith(tool):
        text = text.removeprefix(tool).lstrip(": ")
        text = text[1:-1].strip() if text.startswith("(") and text.endswith(")") else text
    while len(text) > 1 and text[0] == text[-1] and text[0] in "`\"'":
        text = text[1:-1].strip()
    return text
