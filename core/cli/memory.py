"""`ryzanstein memory`: what is remembered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ryzanstein.cli._client import call, read_text
from ryzanstein.cli._group import command, group
from ryzanstein.cli._output import Output, table, written_out

__all__ = ["memory"]

memory = group(
    "memory",
    "The memory: facts and experiences, in a database on this machine.",
    'ryzanstein memory add "The staging database is called heron" --tag work',
    'ryzanstein memory search "which database"',
    "ryzanstein memory export memory.jsonl",
)


@memory.add
@command(
    "add",
    'ryzanstein memory add "Ada prefers tabs"',
    "ryzanstein memory add - --tag minutes < minutes.txt",
)
@click.argument("text")
@click.option("--kind", default="fact", show_default=True)
@click.option("--tag", "tags", multiple=True, help="May be given again.")
@click.option("--agent", metavar="CODENAME", help="For one agent only.")
@click.option("--source", help="Where it comes from.")
@click.option("--importance", type=click.FloatRange(0, 1), default=0.5, show_default=True)
def add(out: Output, text: str, tags: tuple[str, ...], **options: Any) -> None:
    """Remember TEXT; - reads it from stdin."""
    found = call("memory", "remember", {"text": read_text(text), "tags": list(tags), **options})
    out.result(found, lambda: print(found["id"]))


@memory.add
@command(
    "search",
    'ryzanstein memory search "what does Ada prefer"',
    "ryzanstein memory search db --json",
)
@click.argument("query")
@click.option("--limit", type=click.IntRange(1, 50), default=5, show_default=True)
@click.option("--agent", metavar="CODENAME")
@click.option("--kind")
@click.option("--tag", "tags", multiple=True)
def search(out: Output, query: str, tags: tuple[str, ...], **options: Any) -> None:
    """Find what was remembered, by meaning and by words."""
    arguments = {"query": read_text(query), "tags": list(tags), **options}
    found = call("memory", "recall", arguments)["memories"]
    rows = [(one["id"], f"{one['similarity']:.2f}", one["text"]) for one in found]

    def show() -> None:
        if rows:
            table(("id", "near", "text"), rows)
        else:
            print("Nothing like that is remembered.")

    out.result(found, show)


@memory.add
@command("show", "ryzanstein memory show mem_0123456789abcdef")
@click.argument("id")
def show(out: Output, id: str) -> None:
    """Show one memory or experience by its id."""
    from ryzanstein.cli._client import read_json

    kind = "experience" if id.startswith("exp_") else "memory"
    found = read_json("memory", f"{kind}://{id}")

    def lines() -> None:
        for key, value in found.items():
            if value not in (None, "", [], 0):
                print(f"{key:<12} {value}")

    out.result(found, lines)


@memory.add
@command("forget", "ryzanstein memory forget mem_0123456789abcdef")
@click.argument("id")
def forget(out: Output, id: str) -> None:
    """Delete one memory for good."""
    from ryzanstein.errors import InvalidRequest

    found = call("memory", "forget", {"id": id})
    if not found["forgotten"]:
        raise InvalidRequest(
            f"There is no memory {id}.", hint="ryzanstein memory search finds ids."
        )
    out.result(found, lambda: print(f"{id} is deleted."))


@memory.add
@command("stats", "ryzanstein memory stats --json")
def stats(out: Output) -> None:
    """Count what is remembered."""
    found = call("memory", "memory_stats")

    def lines() -> None:
        for key, value in found.items():
            shown = (
                ", ".join(f"{k} {v}" for k, v in value.items())
                if isinstance(value, dict)
                else value
            )
            print(f"{key:<12} {shown}")

    out.result(found, lines)


@memory.add
@command("export", "ryzanstein memory export memory.jsonl", "ryzanstein memory export - | wc -l")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="-")
def export(out: Output, file: str) -> None:
    """Write everything to FILE as JSON lines; - is stdout."""
    from ryzanstein.cli._transfer import export_to

    if file == "-" and not out.as_json:
        with written_out():
            export_to(sys.stdout)
        return
    if file == "-":
        from ryzanstein.cli._transfer import records

        found = records()
        out.result(found)
        return
    count = export_to(Path(file))
    out.result({"file": file, "records": count}, lambda: print(f"{count} records are in {file}."))


@memory.add
@command(
    "import", "ryzanstein memory import memory.jsonl", "ryzanstein memory import - < memory.jsonl"
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
def import_(out: Output, file: str) -> None:
    """Add what FILE holds, written by export; what is there already is skipped."""
    from ryzanstein.cli._transfer import import_from

    report = import_from(file)
    text = "{memories} memories and {experiences} experiences are added, {skipped} were there."
    out.result(report, lambda: print(text.format(**report)))
