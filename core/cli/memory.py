"""`ryzanstein memory`: what is remembered, and why."""

from __future__ import annotations

from typing import Any

import click

from ryzanstein.cli._client import call, read_json, read_text
from ryzanstein.cli._group import command, group
from ryzanstein.cli._output import Output, table
from ryzanstein.memory.records import TIERS

__all__ = ["memory"]

memory = group(
    "memory",
    "The memory: facts and experiences, in a database on this machine.",
    'ryzanstein memory add "The staging database is called heron" --tag work',
    'ryzanstein memory search "which database"',
    "ryzanstein memory import minutes.vtt handbook.pdf",
    "ryzanstein memory export memory.jsonl",
)
_UPKEEP = {
    "mark": "mark",
    "next": "next_out",
    "forget-archived": "forget_archived",
    "consolidate": "consolidate",
    "proposals": "proposals",
    "unmerge": "unmerge",
    "calibrate": "calibrate",
    "experiences": "experiences",
    "breakthroughs": "breakthroughs",
    "export": "export",
    "import": "import_",
}
for _name, _attribute in _UPKEEP.items():
    memory.declare(_name, f"ryzanstein.cli.memory_upkeep:{_attribute}")

_SHOWN = 300
_TIER = click.Choice(TIERS)


def _filters(function: Any) -> Any:
    """Adds the options that say which memories are meant."""
    for option in reversed(
        (
            click.option("--agent", metavar="CODENAME", help="This agent's and everybody's."),
            click.option("--kind"),
            click.option("--tag", "tags", multiple=True, help="May be given again."),
            click.option("--tier", multiple=True, type=_TIER, help="May be given again."),
            click.option("--source", help="Only from exactly this source."),
            click.option("--conversation", metavar="ID"),
            click.option("--since", metavar="TIME", help="What happened or was stored from then."),
            click.option("--until", metavar="TIME", help="What happened or was stored before."),
        )
    ):
        function = option(function)
    return function


@memory.add
@command(
    "add",
    'ryzanstein memory add "Ada prefers tabs"',
    "ryzanstein memory add - --tag minutes < minutes.txt",
    'ryzanstein memory add "The build server is down" --valid-until 2026-06-01',
)
@click.argument("text")
@click.option("--kind", default="fact", show_default=True)
@click.option("--tag", "tags", multiple=True, help="May be given again.")
@click.option("--agent", metavar="CODENAME", help="For one agent only.")
@click.option("--source", help="Where it comes from.")
@click.option("--importance", type=click.FloatRange(0, 1), help="1 keeps it in its tier for good.")
@click.option("--tier", type=_TIER, help="short_term without it.")
@click.option("--task", metavar="RUN", help="The run that a working memory belongs to.")
@click.option("--happened", metavar="TIME", help="When it took place.")
@click.option("--valid-from", metavar="TIME")
@click.option("--valid-until", metavar="TIME")
def add(out: Output, text: str, tags: tuple[str, ...], **options: Any) -> None:
    """Remember TEXT; - reads it from stdin. Times are ISO 8601, in UTC without a zone."""
    found = call("memory", "remember", {"text": read_text(text), "tags": list(tags), **options})
    out.result(found, lambda: print(found["id"]))


@memory.add
@command(
    "search",
    'ryzanstein memory search "what does Ada prefer"',
    'ryzanstein memory search "when did we move" --tier episodic --since 2026-01-01 --why',
    "ryzanstein memory search db --json",
)
@click.argument("query")
@click.option("--limit", type=click.IntRange(1, 50), default=5, show_default=True)
@_filters
@click.option("--at", metavar="TIME", help="What held at that time, instead of now.")
@click.option("--why", is_flag=True, help="Show what each score is made of.")
def search(
    out: Output, query: str, tags: tuple[str, ...], tier: tuple[str, ...], why: bool, **options: Any
) -> None:
    """Find what was remembered, by meaning and by words."""
    arguments = {"query": read_text(query), "tags": list(tags), "tier": list(tier), **options}
    found = call("memory", "recall", arguments)["memories"]

    def show() -> None:
        if not found:
            print("Nothing like that is remembered.")
        elif why:
            for one in found:
                print(f"{one['id']}  {one['text']}")
                print("".join(f"    {reason}\n" for reason in one["reasons"]), end="")
        else:
            rows = [(one["id"], f"{one['similarity']:.2f}", _short(one["text"])) for one in found]
            table(("id", "near", "text"), rows)

    out.result(found, show)


@memory.add
@command(
    "list",
    "ryzanstein memory list --tier short_term",
    "ryzanstein memory list --archived --limit 100 --json",
    "ryzanstein memory list --at 2026-01-01",
)
@_filters
@click.option("--at", metavar="TIME", help="What held at that time, though it was replaced since.")
@click.option("--archived/--current", default=None, help="Only those that left their tier, or not.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--after", metavar="CURSOR", help="The cursor of the page before.")
def list_(out: Output, tier: tuple[str, ...], after: str | None, **options: Any) -> None:
    """List what is remembered, the newest first."""
    from ryzanstein.cli._memory import listed

    page = listed(tier=tier or None, cursor=after, **options)

    def show() -> None:
        rows = [
            (one["id"], one["tier"], one["created"][:10], one["text"]) for one in page["memories"]
        ]
        table(("id", "tier", "stored", "text"), rows)
        if page["cursor"]:
            print(f"More with --after {page['cursor']}")

    out.result(page, show)


@memory.add
@command("show", "ryzanstein memory show mem_0123456789abcdef")
@click.argument("id")
def show(out: Output, id: str) -> None:
    """Show a memory or an experience: where it is from, why it is where it is, what comes next."""
    kind = "experience" if id.startswith("exp_") else "memory"
    found = read_json("memory", f"{kind}://{id}")

    def lines() -> None:
        for key, value in found.items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                for one in value:
                    print(f"{key:<15}{_brief(one)}")
            elif isinstance(value, list) and key in {"reasons", "steps"}:
                for one in value:
                    print(f"{key:<15}{one}")
            elif value not in (None, "", [], 0):
                print(f"{key:<15}{round(value, 4) if isinstance(value, float) else value}")

    out.result(found, lines)


@memory.add
@command("correct", 'ryzanstein memory correct mem_0123456789abcdef "The port is 6543"')
@click.argument("id")
@click.argument("text")
@click.option("--since", metavar="TIME", help="From when on TEXT holds; now without it.")
def correct(out: Output, id: str, text: str, since: str | None) -> None:
    """Replace a memory by TEXT; the old version stays readable in its history."""
    arguments = {"text": read_text(text), "corrects": id, "valid_from": since}
    found = call("memory", "remember", arguments)
    out.result(found, lambda: print(found["id"]))


@memory.add
@command("forget", "ryzanstein memory forget mem_0123456789abcdef")
@click.argument("id")
def forget(out: Output, id: str) -> None:
    """Delete one memory or experience for good."""
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
    """Count what is remembered, and say how it is searched."""
    found = call("memory", "memory_stats")

    def lines() -> None:
        for key, value in found.items():
            counted = isinstance(value, dict)
            shown = ", ".join(f"{k} {v}" for k, v in value.items()) if counted else value
            print(f"{key:<12} {shown}")

    out.result(found, lines)


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"


def _brief(one: dict[str, Any]) -> str:
    return "  ".join(str(value)[:200] for value in one.values() if value not in (None, "", []))
