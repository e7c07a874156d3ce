"""Commands and groups: each command's module is imported when that command is asked for."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import click

from ryzanstein import __version__
from ryzanstein.cli._output import Output

__all__ = ["LazyGroup", "Root", "command", "group"]

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LazyGroup(click.Group):
    """A group whose commands are `module:attribute`, imported on use."""

    def __init__(self, *args: Any, lazy: dict[str, str] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Lists the names, those of the group's own module first."""
        return [*super().list_commands(ctx), *self._lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports and returns one command."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, attribute = self._lazy[cmd_name].split(":")
        loaded: click.Command = getattr(importlib.import_module(module), attribute)
        return loaded

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; click would print an empty line for an interrupt."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise click.Abort from interrupt

    def add(self, made: click.Command) -> click.Command:
        """Adds a command; used as a decorator."""
        self.add_command(made)
        return made

    def declare(self, name: str, place: str) -> None:
        """Adds a command that is imported on use, from `module:attribute`."""
        self._lazy[name] = place

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds a command; a name that is none gets the nearest ones."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            from ryzanstein.nearest import did_you_mean

            hint = did_you_mean(name, self.list_commands(ctx))
            ctx.fail(f"No such command {name!r}. {hint}".strip())
        return super().resolve_command(ctx, args)


def examples(lines: tuple[str, ...]) -> str | None:
    """Returns the part of a help page that shows examples, unwrapped."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines))) if lines else None


def command(name: str, *shown: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Makes a command of a function whose first argument is the `Output`.

    Args:
        name: As it is typed.
        shown: Examples for its help page.
    """

    def make(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def run(as_json: bool, debug: bool, **options: Any) -> Any:
            return function(Output(as_json), **options)

        flags = (
            click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout."),
            click.option("--debug", is_flag=True, help="Show tracebacks and logs."),
        )
        decorated: Callable[..., Any] = run
        for flag in reversed(flags):
            decorated = flag(decorated)
        return click.command(name, epilog=examples(shown), context_settings=CONTEXT)(decorated)

    return make


def group(name: str, help_text: str, *shown: str) -> LazyGroup:
    """Makes a group of commands."""
    return LazyGroup(name, help=help_text, epilog=examples(shown), context_settings=CONTEXT)


Root = LazyGroup(
    "ryzanstein",
    lazy={
        "ask": "ryzanstein.cli.ask:ask",
        "runs": "ryzanstein.cli.runs:runs",
        "route": "ryzanstein.cli.route:route",
        "agents": "ryzanstein.cli.agents:agents",
        "models": "ryzanstein.cli.models:models",
        "generate": "ryzanstein.cli.generate:generate",
        "memory": "ryzanstein.cli.memory:memory",
        "tools": "ryzanstein.cli.tools:tools",
        "mcp": "ryzanstein.cli.serving:mcp",
        "serve": "ryzanstein.cli.serving:serve",
        "token": "ryzanstein.cli.token:token",
        "setup": "ryzanstein.cli.setup:setup",
        "bench": "ryzanstein.cli.bench:bench",
        "doctor": "ryzanstein.cli.doctor:doctor",
        "completion": "ryzanstein.cli.completion:completion",
    },
    help="Specialist agents, tools and memory on a local model, offered over MCP.",
    epilog=examples(
        (
            'ryzanstein ask "Write a function that checks ISBN-13 numbers, and test it"',
            "ryzanstein setup claude-desktop",
            "ryzanstein doctor",
        )
    ),
    context_settings=CONTEXT,
    no_args_is_help=False,
    invoke_without_command=True,
    params=[
        click.Option(
            ["--debug"], is_flag=True, expose_value=False, help="Show tracebacks and logs."
        )
    ],
)
Root = click.version_option(__version__, prog_name="ryzanstein")(Root)
Root.callback = lambda: _help_without_command()


def _help_without_command() -> None:
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
