"""`ryzanstein models`: what can be run here."""

from __future__ import annotations

import click

from ryzanstein.cli._client import call
from ryzanstein.cli._group import command, group
from ryzanstein.cli._output import Output, table
from ryzanstein.cli._progress import Bytes

__all__ = ["models"]

models = group(
    "models",
    "The models: the catalogue, and what is on this machine.",
    "ryzanstein models list",
    "ryzanstein models pull qwen2.5-coder-1.5b",
)


@models.add
@command("list", "ryzanstein models list", "ryzanstein models list --json")
def list_models(out: Output) -> None:
    """List the catalogue and what of it is here."""
    found = call("model", "list_models", {"limit": 100})["models"]
    rows = [
        (
            one["name"],
            f"{one['bytes'] / 1e6:,.0f} MB",
            one["licence"],
            ("here" if one["present"] else "-") + (", default" if one["default"] else ""),
        )
        for one in found
    ]
    out.result(found, lambda: table(("model", "size", "licence", ""), rows))


@models.add
@command("pull", "ryzanstein models pull smollm2-135m")
@click.argument("name")
def pull(out: Output, name: str) -> None:
    """Bring a model of the catalogue here; an interrupted pull goes on where it stopped."""
    with Bytes(name) as bar:
        found = call("model", "pull_model", {"name": name}, bar.report)
    out.result(found, lambda: print(found["path"]))


@models.add
@command("show", "ryzanstein models show qwen2.5-coder-0.5b", "ryzanstein models show ./model.gguf")
@click.argument("name")
def show(out: Output, name: str) -> None:
    """Show one model: NAME of the catalogue, or a file."""
    found = call("model", "describe_model", {"name": name})

    def lines() -> None:
        for key, value in found.items():
            if key != "config" and value not in (None, [], {}):
                shown = "\n             ".join(value) if isinstance(value, list) else value
                print(f"{key:<12} {shown}")
        for key, value in sorted(found["config"].items()):
            print(f"  {key} = {value}")

    out.result(found, lines)


@models.add
@command("remove", "ryzanstein models remove smollm2-135m")
@click.argument("name")
def remove(out: Output, name: str) -> None:
    """Delete a model's files from this machine."""
    found = call("model", "remove_model", {"name": name})
    out.result(
        found, lambda: print(f"{name} is deleted, {found['freed_bytes'] / 1e6:.0f} MB freed.")
    )
