"""One tool call or several, decoded under a grammar of the tools' own schemas.

    joint      {"name": …, "arguments": {…}}     one decode; an array of them for several calls
    stepwise   how many, then for each the name and then the arguments: decodes of their own

Whatever the model is, the answer parses and fits: the grammar leaves it no other way, and the
engine leads an answer that grows too long to its end. The tools stand before the task, so that
what was read of them stays cached from one task to the next. Optional arguments that the task does
not state are left out. How each way does, and at what cost: `ryzanstein bench calls`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from ryzanstein.agents.calls.schema import decodable, fitted, outline, scoped
from ryzanstein.agents.calls.stated import stated
from ryzanstein.agents.clients.services import Completion
from ryzanstein.agents.running.step import Call
from ryzanstein.errors import AgentInvocationError, InvalidRequest

__all__ = ["MOST", "CallableTool", "Decoded", "Way", "decode_calls"]

Way = Literal["joint", "stepwise"]
MOST: Final = 8
_TOKENS_A_CALL: Final = 400
_TOKENS_MORE: Final = 100
_NAME_TOKENS: Final = 48
_SYSTEM: Final = """You turn the user's request into {what}.

# Tools

<tools>
{tools}</tools>

{form}
{rules}"""
_ONE: Final = """Reply with one JSON object within <tool_call></tool_call> marks:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>"""
_SEVERAL: Final = """Reply with a JSON array of calls within <tool_calls></tool_calls> marks, \
one for each thing that is asked, none of them twice:
<tool_calls>
[{"name": <function-name>, "arguments": <args-json-object>}, ...]
</tool_calls>"""
_RULES: Final = (
    "Copy names, texts and numbers from the request as they are written there, "
    "formulas in Python's way (x**2), percentages for a float as fractions (5% is 0.05). "
    "Give an optional argument only where the request says what it is to be."
)


class CallableTool(Protocol):
    """A tool as a model may call it."""

    @property
    def name(self) -> str:
        """What it is called by."""

    @property
    def description(self) -> str:
        """What it does."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """JSON schema of its arguments."""


class Chat(Protocol):
    """Runs a model: `Services`, or a backend of its own."""

    async def chat(self, messages: Sequence[Mapping[str, str]], **options: Any) -> Completion:
        """Continues a conversation; options are those of the inference server's `chat`."""
        ...


@dataclass(slots=True)
class Decoded:
    """Calls, and what they took.

    Attributes:
        calls: In the order in which the model made them.
        tokens: Tokens generated.
        prompt_tokens: Tokens read, over all decodes, cached ones included.
        seconds: In the model.
    """

    calls: list[Call] = field(default_factory=list)
    tokens: int = 0
    prompt_tokens: int = 0
    seconds: float = 0.0

    def charge(self, found: Completion) -> str:
        """Adds what a decode took, and returns its text."""
        self.tokens += found.tokens
        self.prompt_tokens += found.prompt_tokens
        self.seconds += found.seconds
        return found.text


async def decode_calls(
    backend: Chat,
    task: str,
    tools: Sequence[CallableTool],
    *,
    most: int = 1,
    way: Way = "joint",
    tokens: int = _TOKENS_A_CALL,
    **options: Any,
) -> Decoded:
    """Lets a model call the tools that a task asks for.

    Args:
        backend: Runs the model.
        task: What the user wants.
        tools: What can be called; their names are different.
        most: At most so many calls; there is always one, and none is made twice.
        way: All in one decode, or each part in its own.
        tokens: At most so many for a call; longer texts are cut there.
        options: Of `chat`, such as model and temperature.

    Raises:
        InvalidRequest: No task, no tools, two of one name, or a schema that cannot be followed.
        AgentInvocationError: The answer is no call, which a model without a grammar can come to.
    """
    _check(task, tools, most)
    schemas = {tool.name: decodable(tool.schema) for tool in tools}
    messages = [
        {"role": "system", "content": system_text(tools, several=most > 1)},
        {"role": "user", "content": task},
    ]
    asked = _Asked(backend, messages, schemas, options, tokens)
    calls = await (asked.together(most) if way == "joint" else asked.one_by_one(most))
    given = {tool.name: tool.schema for tool in tools}
    asked.spent.calls = _until_repeated(
        Call(name, fitted(stated(task, values, given[name]), given[name])) for name, values in calls
    )
    return asked.spent


def _check(task: str, tools: Sequence[CallableTool], most: int) -> None:
    if not task.strip():
        raise InvalidRequest("The task is empty.", hint="Say what is to be done.")
    if not tools:
        raise InvalidRequest("There are no tools to call.", hint="Give at least one.")
    names = [tool.name for tool in tools]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidRequest(f"Two tools are called {twice!r}.", hint="Give each its own name.")
    if most < 1:
        raise InvalidRequest(f"most is {most}.", hint="Give a number from 1.")


def system_text(tools: Sequence[CallableTool], *, several: bool) -> str:
    """Returns the tools and how to call them, which is the same for every task."""
    described = [
        f"{tool.name}: {' '.join(tool.description.split())}\n{outline(tool.schema)}"
        for tool in tools
    ]
    return _SYSTEM.format(
        what="function calls" if several else "one function call",
        tools="".join(described),
        form=_SEVERAL if several else _ONE,
        rules=_RULES,
    )


@dataclass(slots=True)
class _Asked:
    """One task put to a model."""

    backend: Chat
    messages: Sequence[Mapping[str, str]]
    schemas: Mapping[str, dict[str, Any]]
    options: Mapping[str, Any]
    tokens: int
    spent: Decoded = field(default_factory=Decoded)

    async def together(self, most: int) -> list[tuple[str, dict[str, Any]]]:
        """All calls in one decode."""
        schema, defs = _any_call(self.schemas)
        prefix = "<tool_call>\n"
        if most > 1:
            schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": most}
            prefix = "<tool_calls>\n"
        schema = {**schema, "$defs": defs} if defs else schema
        found = await self._json(schema, prefix, self.tokens + _TOKENS_MORE * (most - 1))
        calls = found if isinstance(found, list) else [found]
        return [_pair(one, self.schemas) for one in calls]

    async def one_by_one(self, most: int) -> list[tuple[str, dict[str, Any]]]:
        """How many calls, then each: its name alone, then its arguments."""
        count, said = 1, ""
        if most > 1:
            said = "Number of calls: "
            numbers = [str(one) for one in range(1, most + 1)]
            number = await self._choice(numbers, said)
            said, count = f"{said}{number}\n", int(number)
        calls = []
        for _ in range(count):
            said += '<tool_call>\n{"name": "'
            names = list(self.schemas)
            name = names[0] if len(names) == 1 else await self._choice(names, said)
            said += f'{name}", "arguments": '
            values = await self._json(self.schemas[name], said, self.tokens)
            said += f"{json.dumps(values, ensure_ascii=False)}}}\n</tool_call>\n"
            calls.append(_pair({"name": name, "arguments": values}, self.schemas))
        return calls

    async def _choice(self, names: Sequence[str], prefix: str) -> str:
        found = await self._chat(prefix, _NAME_TOKENS, choices=list(names))
        if found.strip() not in names:
            raise _no_call(found)
        return found.strip()

    async def _json(self, schema: dict[str, Any], prefix: str, tokens: int) -> Any:
        text = await self._chat(prefix, tokens, json_schema=schema)
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise _no_call(text) from error

    async def _chat(self, prefix: str, tokens: int, **constraint: Any) -> str:
        found = await self.backend.chat(
            self.messages, answer_prefix=prefix, max_tokens=tokens, **constraint, **self.options
        )
        return self.spent.charge(found)


def _any_call(schemas: Mapping[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of a call of any of the tools, and its definitions."""
    calls: list[dict[str, Any]] = []
    definitions: dict[str, Any] = {}
    for number, (name, schema) in enumerate(schemas.items()):
        arguments, own = scoped(schema, f"{number}.")
        definitions |= own
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": name}, "arguments": arguments},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return (calls[0] if len(calls) == 1 else {"anyOf": calls}), definitions


def _pair(call: Any, schemas: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of a call that a model wrote."""
    name = call.get("name") if isinstance(call, dict) else None
    arguments = call.get("arguments") if isinstance(call, dict) else None
    if name not in schemas or not isinstance(arguments, dict):
        raise _no_call(json.dumps(call))
    return str(name), arguments


def _until_repeated(calls: Iterable[Call]) -> list[Call]:
    """The calls before the first that is made again: a small model that is done goes in circles."""
    found: dict[str, Call] = {}
    for call in calls:
        if call.key in found:
            break
        found[call.key] = call
    return list(found.values())


def _no_call(text: str) -> AgentInvocationError:
    return AgentInvocationError(
        f"The model answered with something that is no call: {text!r:.120}",
        hint="Allow more tokens a call, or use a backend that follows grammars.",
    )
