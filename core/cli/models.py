"""`ryzanstein models`: what can be run here."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

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
    "ryzanstein models synthesize bitnet-2b-4t 2b.gguf --format gguf-tq2_0",
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


def _names(title: str) -> dict[str, Any]:
    """Options of a parameter whose values are the names in a table of `inference.synthesize`.

    The table, SHAPES for a shape, is imported only when it is needed: other commands stay fast.
    """

    def table() -> list[str]:
        from ryzanstein.inference import synthesize

        return list(getattr(synthesize, f"{title.upper()}S"))

    def known(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
        names = [] if value is None else table()
        if value is not None and value not in names:
            from ryzanstein.nearest import did_you_mean

            hint = did_you_mean(value, names) or f"Known: {', '.join(names)}."
            raise click.BadParameter(f"There is no {title} {value!r}. {hint}", ctx, param)
        return value

    def complete(ctx: click.Context, param: click.Parameter, start: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in table() if name.startswith(start)]

    return {"callback": known, "shell_complete": complete}


@models.add
@command(
    "convert",
    "ryzanstein models convert qwen2.5-coder-0.5b coder-q8.gguf --type q8_0",
    "ryzanstein models convert bitnet.gguf smaller.gguf --type tq1_0",
)
@click.argument("model", metavar="IN")
@click.argument("path", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--type",
    "kind",
    required=True,
    type=click.Choice(["f16", "q8_0", "q6_k", "q4_0", "tq1_0", "tq2_0"]),
    help="tq1_0 and tq2_0 are for BitNet, the others for all others.",
)
@click.option("--force", is_flag=True, help="Replace what is there.")
def convert(out: Output, model: str, path: Path, kind: str, force: bool) -> None:
    """Write the GGUF file of IN, a name or a path, to OUT with weights of another type."""
    from ryzanstein.inference.convert import convert as write
    from ryzanstein.mcp_servers._shared import shared

    source = shared().catalogue.resolve(model)
    with Bytes(path.name, "Writing") as bar:
        made = write(source, path, kind, force=force, report=bar.show)

    def show() -> None:
        print(path)
        lost = f"{100 * made.error:.2f} % of the weights' size lost"
        out.note(f"{made.changed} matrices, {made.bytes / 1e6:,.0f} MB, {lost}")

    out.result({**asdict(made), "path": str(made.path)}, show)


@models.add
@command(
    "synthesize",
    "ryzanstein models synthesize bitnet-2b-4t 2b-4t",
    "ryzanstein models synthesize bitnet-2b-4t 2b.gguf --format gguf-tq2_0 --head q8_0",
    "ryzanstein models synthesize mamba-1.4b mamba.gguf --format gguf-q8_0",
    "ryzanstein models synthesize rwkv7-0.19b rwkv.pth --format pth --seed 7 --json",
)
@click.argument("shape", **_names("shape"))
@click.argument("path", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--format",
    **_names("format"),
    default="hf",
    show_default=True,
    metavar="FORMAT",
    help="hf (a folder), gguf-tq2_0, gguf-tq1_0, gguf-i2_s (BitNet), gguf-q8_0, gguf-q4_0 or "
    "gguf-f16 (Mamba and RWKV), or pth (RWKV).",
)
@click.option(
    "--head",
    **_names("head"),
    metavar="TYPE",
    help="Of the output matrix in a gguf file: q8_0, q6_k, q4_0, f16, …; as llama.cpp's quantiser "
    "chooses without this option.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--force", is_flag=True, help="Replace what is there.")
def synthesize(out: Output, shape: str, path: Path, **options: Any) -> None:
    """Write a model of random weights in a published SHAPE to OUT, to measure speed with.

    SHAPE is bitnet-2b-4t, bitnet-large, bitnet-350m, mamba-130m, mamba-790m, mamba-1.4b,
    mamba-2.8b, mamba2-1.3b, falcon-mamba-7b, rwkv6-1.6b, rwkv7-0.19b, rwkv7-1.5b or rwkv7-2.9b. The
    layout, the types of hf and pth and the size of the tokenizer are those of the published model,
    so other engines read it too. What it writes is no language.
    """
    from ryzanstein.inference.synthesize import synthesize as write

    with Bytes(shape, "Writing") as bar:
        made = write(shape, path, report=bar.show, **options)

    def show() -> None:
        print(path)
        parts = f"{made.body} and {made.head}, {made.bytes / 1e6:,.0f} MB, {made.seconds:.1f} s"
        out.note(f"{made.parameters / 1e6:,.0f} million weights as {parts}")

    out.result(asdict(made), show)
