"""`ryzanstein completion`: the script that a shell needs to complete commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ryzanstein.cli._group import Root, command
from ryzanstein.cli._output import Output

__all__ = ["completion"]


@command(
    "completion",
    "ryzanstein completion bash > ~/.local/share/bash-completion/completions/ryzanstein",
    'eval "$(ryzanstein completion zsh)"',
    "ryzanstein completion fish > ~/.config/fish/completions/ryzanstein.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(out: Output, shell: str) -> None:
    """Print the completion script of a SHELL."""
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(Root, {}, "ryzanstein", "_RYZANSTEIN_COMPLETE").source()
    out.result({"shell": shell, "script": script}, lambda: print(script))
