"""Tools: declared by a decorator on a typed async function, found by name, called in one way.

    @tool(title="Read a file", read_only=True, example={"path": "notes.txt"}, main=("path", "line"))
    async def read_file(ctx: ToolContext, path: Annotated[str, Field(max_length=4096)]) -> Output:
        \"\"\"Read a text file.

        Use when you need to know what a file says.
        \"\"\"

The first line of the docstring is the tool's summary, the lines up to "Raises:" its description.
A family is a module of `ryzanstein.tools.families`, or a package there where it is a large one; a
new file is found without being named anywhere. `call_tool` is the only way in: permissions,
arguments, time, output and audit are dealt with there, so a tool function holds only its own work.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import pkgutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import anyio
import anyio.to_thread
import pydantic

from ryzanstein.errors import ApprovalRequired, RyzansteinError, ToolError, ToolNotFound
from ryzanstein.nearest import did_you_mean
from ryzanstein.tools.context import CallRecord, Output, ToolContext, ToolResult, ToolTimeout
from ryzanstein.tools.permission import approval, refusal
from ryzanstein.tools.schema import arguments_model, json_schema, validated, validated_json

__all__ = [
    "Form",
    "Tool",
    "all_tools",
    "call_tool",
    "family_names",
    "get_tool",
    "missing_approval",
    "permitted",
    "record_refusal",
    "tool",
]

Form = Literal["code", "line", "json"]
Destroys = Callable[[ToolContext, Mapping[str, Any]], str]
Reaches = Callable[[Mapping[str, Any]], tuple[str, ...]]
_Function = Callable[..., Awaitable[Output]]
_FAMILIES = "ryzanstein.tools.families"
_SUMMARY_LENGTH = 80
_AUDITED_LENGTH = 200
# Families whose results hold nothing but what was asked: a file's name is outside text already.
_OWN_WORDS = frozenset({"mathematics", "logic"})
# Few, since which of them a run fetches could spell something out.
_MOST_NAMED = 12
_MOST_OFFERED = 10


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    Attributes:
        name: verb_noun, unique.
        family: The module or package of the families it is declared in.
        title: For people.
        summary: One line under 80 characters, for menus.
        description: When and how to use it.
        input_schema: JSON schema of its arguments.
        annotations: read_only, destructive, idempotent, open_world.
        example: Arguments that validate.
        main_argument: The one argument a small model is asked for.
        main_form: How to ask for it: code in a fenced block, one line, or JSON with everything.
        main_language: Of the fenced block, such as python.
        argument_forms: For each required argument, how it is best asked for.
        untrusted: Whether its text may come from outside: everything but what is calculated.
        time_limit: Seconds.
        reads_unless: Name of the flag without which it only reads; empty where there is none.
        destroys: Says what a call would overwrite or delete, in words or as a path; empty for
            nothing. Without it, every call of a destructive tool counts.
        reaches: Says which addresses a call of an open-world tool goes to; none where that is only
            what the user configured. Without it they count as unknown.
        function: Does the work.
        model: Of its arguments; None for a tool of somebody else's server, which has a schema.
    """

    name: str
    family: str
    title: str
    summary: str
    description: str
    input_schema: Mapping[str, Any]
    annotations: Mapping[str, bool]
    example: Mapping[str, Any]
    main_argument: str
    main_form: Form
    main_language: str
    argument_forms: Mapping[str, Form]
    untrusted: bool
    time_limit: float
    reads_unless: str
    destroys: Destroys | None
    reaches: Reaches | None
    function: _Function
    model: type[pydantic.BaseModel] | None

    @property
    def is_external(self) -> bool:
        """Whether it belongs to somebody else's server."""
        return self.model is None

    @property
    def read_only(self) -> bool:
        """Whether it changes nothing outside its sandbox."""
        return self.annotations["read_only"]


def tool(
    *,
    title: str,
    example: Mapping[str, Any],
    main: tuple[str, Form] | tuple[str, Form, str],
    family: str = "",
    read_only: bool = False,
    destructive: bool = False,
    idempotent: bool = False,
    open_world: bool = False,
    untrusted: bool = False,
    forms: Mapping[str, Form] | None = None,
    time_limit: float = 30.0,
    reads_unless: str = "",
    destroys: Destroys | None = None,
    reaches: Reaches | None = None,
) -> Callable[[_Function], Tool]:
    """Declares an async function (context, typed arguments) -> Output as a tool.

    Args:
        title: For people.
        example: Arguments that validate.
        main: Name and form of the main argument, and the language of a code block.
        family: Where it is another than the module or package it is in.
        read_only: It changes nothing.
        destructive: It may overwrite or delete.
        idempotent: Calling it again with the same arguments changes nothing more.
        open_world: It reaches beyond this machine.
        untrusted: Its text comes from outside.
        forms: For further arguments, how they are best asked for.
        time_limit: Seconds.
        reads_unless: Name of the flag without which it only reads.
        destroys: What a call with these arguments would overwrite or delete.
        reaches: Which addresses a call with these arguments goes to.

    Raises:
        TypeError: The declaration does not hold together.
    """

    def declare(function: _Function) -> Tool:
        model = arguments_model(function)
        schema = json_schema(model)
        summary, description = _documentation(function)
        toolset = family or _family(function.__module__)
        if main[0] not in schema["properties"] or len(summary) >= _SUMMARY_LENGTH:
            raise TypeError(f"{function.__name__}: no argument {main[0]}, or too long a summary")
        return Tool(
            name=function.__name__,
            family=toolset,
            title=title,
            summary=summary,
            description=description,
            input_schema=schema,
            annotations={
                "read_only": read_only,
                "destructive": destructive,
                "idempotent": idempotent or read_only,
                "open_world": open_world,
            },
            example=example,
            main_argument=main[0],
            main_form=main[1],
            main_language=main[2] if len(main) == 3 else "",
            argument_forms=_forms(schema, main, forms or {}),
            untrusted=untrusted or toolset not in _OWN_WORDS,
            time_limit=time_limit,
            reads_unless=reads_unless,
            destroys=destroys,
            reaches=reaches,
            function=function,
            model=model,
        )

    return declare


def _family(module: str) -> str:
    """`families.files` and `families.files.reading` are both of the family files."""
    inside = module.removeprefix(f"{_FAMILIES}.")
    return module.rpartition(".")[2] if inside == module else inside.partition(".")[0]


def _documentation(function: _Function) -> tuple[str, str]:
    text = inspect.cleandoc(function.__doc__ or "").partition("\nRaises:")[0].strip()
    summary = text.partition("\n")[0].strip()
    if not summary:
        raise TypeError(f"{function.__name__} has no docstring")
    return summary, text


def _forms(
    schema: Mapping[str, Any], main: tuple[Any, ...], forms: Mapping[str, Form]
) -> dict[str, Form]:
    result: dict[str, Form] = {name: forms.get(name, "line") for name in schema.get("required", [])}
    if main[1] != "json":
        result[main[0]] = main[1]
    return result


@functools.cache
def all_tools() -> tuple[Tool, ...]:
    """Returns every tool: families in alphabetical order, each in the order of its file.

    Raises:
        TypeError: Two tools of one name.
    """
    package = importlib.import_module(_FAMILIES)
    found: dict[str, Tool] = {}
    modules = pkgutil.walk_packages(package.__path__, f"{_FAMILIES}.")
    for name in sorted(module.name for module in modules):
        loaded = importlib.import_module(name)
        for value in vars(loaded).values():
            if isinstance(value, Tool) and value.function.__module__ == loaded.__name__:
                if value.name in found:
                    raise TypeError(f"two tools are called {value.name}")
                found[value.name] = value
    return tuple(found.values())


def family_names() -> tuple[str, ...]:
    """Returns the names of the families, in order."""
    return tuple(dict.fromkeys(item.family for item in all_tools()))


def get_tool(name: str) -> Tool:
    """Returns the tool of that name.

    Raises:
        ToolNotFound: There is none; the hint has the nearest names.
    """
    found = {item.name: item for item in all_tools()}
    if name in found:
        return found[name]
    hint = did_you_mean(name, found) or f"Tools: {', '.join(found)}."
    raise ToolNotFound(f"There is no tool {name!r}.", hint=hint)


def permitted(ctx: ToolContext) -> tuple[Tool, ...]:
    """Returns the tools that this context lets be called."""
    return tuple(item for item in all_tools() if not refusal(ctx, item))


async def call_tool(
    ctx: ToolContext, name: str | Tool, args: Mapping[str, Any] | str
) -> ToolResult:
    """Calls a tool.

    Args:
        ctx: What it may reach.
        name: Its name, or the tool itself where it is of no family here.
        args: Its arguments; a plain text stands for the main argument.

    Raises:
        ToolNotFound: There is no such tool.
        ToolTimeout: It took too long.
        ApprovalRequired: It would overwrite or delete something, or reach a place the user did not
            name after outside text was read, and nobody approved of that.
        ToolError: It may not be called here, its arguments are wrong, or it failed; always with
            what can be done about it.
        ServerUnavailable: What it needs, such as the sandbox, is not installed.
    """
    item = await _known(ctx, name, args) if isinstance(name, str) else name
    given = {item.main_argument: args} if isinstance(args, str) else dict(args)
    began = time.monotonic()
    failure: RyzansteinError | None = None
    output: Output | None = None
    try:
        output = await _run(ctx, item, given)
    except RyzansteinError as error:
        failure = error
        raise
    finally:
        seconds = time.monotonic() - began
        if ctx.on_call is not None:
            record = _record(ctx, item, given, output, failure, seconds)
            with anyio.CancelScope(shield=True):
                await ctx.on_call(record)
    ctx.made.update(output.made)
    ctx.offered.update(output.offered[: max(0, _MOST_OFFERED - len(ctx.offered))])
    text, left_out = _shortened(output.text, ctx.output_chars)
    return ToolResult(text, output.data, output.ok, seconds, item.untrusted, left_out)


async def _known(ctx: ToolContext, name: str, args: Mapping[str, Any] | str) -> Tool:
    """The tool of that name; that there is none is kept like any other call."""
    try:
        return get_tool(name)
    except ToolNotFound as error:
        await record_refusal(ctx, name, {"": args} if isinstance(args, str) else args, error)
        raise


async def record_refusal(
    ctx: ToolContext, name: str, args: Mapping[str, Any], failure: RyzansteinError
) -> None:
    """Keeps a call that was refused before any tool was asked, such as one of no tool's name."""
    if ctx.on_call is None:
        return
    record = CallRecord(
        tool=str(_audited(name)),
        arguments={str(_audited(key)): _audited(value) for key, value in args.items()},
        ok=False,
        code=failure.code,
        message=str(failure),
        seconds=0.0,
        changes=False,
        agent=ctx.agent,
        run_id=ctx.run_id,
    )
    with anyio.CancelScope(shield=True):
        await ctx.on_call(record)


async def _run(ctx: ToolContext, item: Tool, given: Mapping[str, Any]) -> Output:
    _check(ctx, item)
    arguments = _validated(item, given)
    _check(ctx, item, wants_change=bool(arguments.get(item.reads_unless)))
    await _approved(ctx, item, arguments)
    limit = item.time_limit if ctx.time_limit is None else ctx.time_limit
    try:
        with anyio.fail_after(limit):
            return await item.function(ctx, **arguments)
    except TimeoutError as error:
        raise ToolTimeout(
            f"{item.name} took longer than {limit:g} s and was stopped.",
            hint="Ask for less: a smaller input, a narrower path or an earlier limit.",
        ) from error


def _check(ctx: ToolContext, item: Tool, *, wants_change: bool = False) -> None:
    reason = refusal(ctx, item, wants_change)
    if reason:
        allowed = permitted(ctx)
        # Those that do something alike first.
        names = [one.name for one in sorted(allowed, key=lambda one: one.family != item.family)]
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        others = ", ".join(names[:_MOST_NAMED]) + more
        raise ToolError(f"{item.name} {reason}.", hint=f"Allowed: {others or 'no tool'}.")


def _validated(item: Tool, given: Mapping[str, Any]) -> dict[str, Any]:
    if item.model is None:
        return validated_json(item.name, item.input_schema, given, item.example)
    return validated(item.name, item.model, item.input_schema, given, item.example)


async def missing_approval(
    ctx: ToolContext, item: Tool, given: Mapping[str, Any]
) -> ApprovalRequired | None:
    """Returns what would have to be approved for a call, None where nothing has.

    Raises:
        ToolError: The call would be refused, whoever approved of it.
    """
    _check(ctx, item)
    arguments = _validated(item, given)
    _check(ctx, item, wants_change=bool(arguments.get(item.reads_unless)))
    return await anyio.to_thread.run_sync(approval, ctx, item, arguments)


async def _approved(ctx: ToolContext, item: Tool, arguments: Mapping[str, Any]) -> None:
    """Goes on where nothing has to be approved, or where it is."""
    missing = await anyio.to_thread.run_sync(approval, ctx, item, arguments)
    if missing is not None and (ctx.approve is None or not await ctx.approve(missing)):
        raise missing


def _record(
    ctx: ToolContext,
    item: Tool,
    given: Mapping[str, Any],
    output: Output | None,
    failure: RyzansteinError | None,
    seconds: float,
) -> CallRecord:
    return CallRecord(
        tool=item.name,
        arguments={key: _audited(value) for key, value in given.items()},
        ok=output is not None and output.ok,
        code=failure.code if failure else None,
        message=str(failure) if failure else "cancelled" if output is None else "",
        seconds=seconds,
        changes=not item.read_only and bool(given.get(item.reads_unless, True)),
        agent=ctx.agent,
        run_id=ctx.run_id,
    )


def _audited(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if len(text) <= _AUDITED_LENGTH:
        return value
    return f"{text[:_AUDITED_LENGTH]}... ({len(text)} characters)"


def _shortened(text: str, limit: int) -> tuple[str, int]:
    """Leaves out the middle: the start says what it is, the end how it went."""
    if len(text) <= limit:
        return text, 0
    tail = limit // 4
    left_out = len(text) - limit
    note = f"\n[... {left_out:,} characters left out; ask for a smaller part ...]\n"
    return text[: limit - tail] + note + text[len(text) - tail :], left_out
