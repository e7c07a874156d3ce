"""`ryzanstein memory`, the upkeep: what stays and goes, consolidation, experiences, files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ryzanstein.cli._client import call, read_json
from ryzanstein.cli._group import command
from ryzanstein.cli._output import Output, table, written_out
from ryzanstein.memory.records import TIERS

__all__ = [
    "breakthroughs",
    "calibrate",
    "consolidate",
    "experiences",
    "export",
    "forget_archived",
    "import_",
    "mark",
    "next_out",
    "proposals",
    "unmerge",
]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@command(
    "mark",
    "ryzanstein memory mark mem_0123456789abcdef 1",
    "ryzanstein memory mark mem_0123456789abcdef none",
)
@click.argument("id")
@click.argument("importance")
def mark(out: Output, id: str, importance: str) -> None:
    """Say how much a memory matters, 0 to 1; at 1 it never leaves its tier; none takes it back."""
    from ryzanstein.cli._memory import marked

    found = marked(id, importance)
    out.result(found, lambda: print(f"{id} has importance {found['importance']:.2f}."))


@command(
    "forget-archived",
    "ryzanstein memory forget-archived --before 2025-01-01",
)
@click.option("--before", metavar="TIME", help="Only what was archived before then.")
def forget_archived(out: Output, before: str | None) -> None:
    """Delete for good what left its tier; nothing else ever deletes by itself."""
    from ryzanstein.cli._memory import forgotten_archived

    count = forgotten_archived(before)
    out.result({"forgotten": count}, lambda: print(f"{count} archived memories are deleted."))


@command(
    "experiences",
    'ryzanstein memory experiences "reverse a linked list"',
    'ryzanstein memory experiences "tune a query" --agent VERTEX --limit 5',
)
@click.argument("task")
@click.option("--agent", metavar="CODENAME", help="This agent's, and its tier's breakthroughs.")
@click.option("--limit", type=click.IntRange(1, 50), default=2, show_default=True)
def experiences(out: Output, task: str, **options: Any) -> None:
    """Find how similar tasks went, and why each experience is useful."""
    found = call("memory", "find_experiences", {"task": task, **options})["experiences"]

    def show() -> None:
        if not found:
            print("No experience with a task like that.")
        for one in found:
            print(f"{one['id']}  {one['agent']}, {one['outcome']}: {one['task']}")
            for text in filter(None, (one["reason"], one["lesson"], *one["reasons"])):
                print(f"    {text}")

    out.result(found, show)


@command("breakthroughs", "ryzanstein memory breakthroughs --tier 1")
@click.option("--tier", type=click.IntRange(1), help="Of the agents.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
def breakthroughs(out: Output, **options: Any) -> None:
    """List runs that went far better than anything like them before, refuted ones too."""
    from ryzanstein.cli._memory import broken_through

    found = broken_through(**options)
    rows = [
        (
            one["id"],
            one["agent"],
            f"{one['breakthrough']:.1f}",
            "refuted" * one["refuted"],
            one["task"],
        )
        for one in found
    ]
    out.result(found, lambda: table(("id", "agent", "z", "", "task"), rows))


@command(
    "consolidate",
    "ryzanstein memory consolidate --dry-run",
    "ryzanstein memory consolidate --seconds 60",
)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=10.0, show_default=True)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def consolidate(out: Output, **options: Any) -> None:
    """Merge memories that say the same, mark contradictions, distil facts from episodes.

    Sources stay readable, `unmerge` undoes a merge, and the next call goes on where this stopped.
    """
    from ryzanstein.mcp_servers._memory_replies import Consolidated

    found = call("memory", "consolidate_memory", options)
    out.result(found, lambda: print(Consolidated(**found).brief()))


@command("proposals", "ryzanstein memory proposals --limit 50")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
def proposals(out: Output, limit: int) -> None:
    """List pairs that are near each other and were not merged, and why not."""
    from ryzanstein.cli._memory import proposed

    found = proposed(limit)
    rows = [
        (
            f"{one['similarity']:.2f}",
            one["verdict"],
            f"{one['memory']['text']}\n{one['other']['text']}",
            "; ".join(one["reasons"]),
        )
        for one in found
    ]
    out.result(found, lambda: table(("near", "verdict", "the two", "because"), rows))


@command("unmerge", "ryzanstein memory unmerge mem_0123456789abcdef")
@click.argument("id")
def unmerge(out: Output, id: str) -> None:
    """Undo a merge: the memories it was made of are current again."""
    from ryzanstein.cli._memory import unmerged

    found = unmerged(id)
    out.result(found, lambda: print("\n".join(one["id"] for one in found)))


@command("calibrate", "ryzanstein memory calibrate pairs.jsonl")
@click.argument("file", type=_FILE)
def calibrate(out: Output, file: Path) -> None:
    """Measure the thresholds of consolidation on labelled pairs, and keep them.

    FILE has a JSON object a line, {"a": TEXT, "b": TEXT, "same": true or false}. The thresholds
    are those of the embedding model in use.
    """
    from ryzanstein.cli._memory import calibrated

    found = calibrated(file)
    text = "Pairs are looked at from {proposes:.2f} and merged from {merges:.2f}, by {pairs} pairs."
    out.result(found, lambda: print(text.format(**found)))


@command("next", "ryzanstein memory next --tier long_term")
@click.option("--tier", type=click.Choice(TIERS), default="short_term", show_default=True)
def next_out(out: Output, tier: str) -> None:
    """Show what would leave a tier next, the weakest first, and where it would go."""
    found = read_json("memory", f"memory://next/{tier}")["next"]
    rows = [(one["id"], f"{one['strength']:.3f}", one["next"], one["text"]) for one in found]

    def show() -> None:
        if rows:
            table(("id", "strength", "next", "text"), rows)
        else:
            print(f"Nothing would leave {tier}.")

    out.result(found, show)


@command("export", "ryzanstein memory export memory.jsonl", "ryzanstein memory export - | wc -l")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="-")
def export(out: Output, file: str) -> None:
    """Write everything to FILE as JSON lines; - is stdout."""
    from ryzanstein.cli._memory import export_to, records

    if file == "-" and not out.as_json:
        with written_out():
            export_to(sys.stdout)
        return
    if file == "-":
        out.result(records())
        return
    count = export_to(Path(file))
    out.result({"file": file, "records": count}, lambda: print(f"{count} records are in {file}."))


@command(
    "import",
    "ryzanstein memory import memory.jsonl",
    "ryzanstein memory import chat.json meeting.vtt handbook.pdf notes.md",
    "ryzanstein memory import - < memory.jsonl",
)
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    "--as",
    "kind",
    type=click.Choice(["auto", "records", "conversation", "document"]),
    default="auto",
    show_default=True,
    help="What the files are; auto looks at them.",
)
@click.option("--tag", "tags", multiple=True, help="For conversations and documents.")
@click.option("--agent", metavar="CODENAME", help="For one agent only.")
def import_(out: Output, files: tuple[str, ...], **options: Any) -> None:
    """Add what FILES hold: exported records, transcripts of conversations, or documents.

    Records are JSON lines written by export. Transcripts are chats in JSON, WebVTT, SRT or lines
    that name a speaker. Documents are Markdown, text or PDF. What is there already is skipped; an
    import that was interrupted goes on where it stopped.
    """
    from ryzanstein.cli._memory import import_files

    # Said file by file: what was added stays, even where a later file cannot be read.
    tell = out.note if out.as_json else print
    reports = []
    for report in import_files(files, **options):
        with written_out():
            tell(report["summary"])
        reports.append(report)
    if out.as_json:
        out.result(reports[0] if len(files) == 1 else reports)
