"""`ryzanstein setup`: puts this program into a client's configuration, and takes it out again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ryzanstein.cli._group import command
from ryzanstein.cli._output import Output
from ryzanstein.cli.serving import SERVERS

__all__ = ["setup"]


@command(
    "setup",
    "ryzanstein setup claude-desktop",
    "ryzanstein setup vscode --dry-run",
    "ryzanstein setup continue --server orchestrator --server memory",
    "ryzanstein setup claude-desktop --remove",
)
@click.argument("client", type=click.Choice(["claude-desktop", "vscode", "continue"]))
@click.option(
    "--server",
    "servers",
    type=click.Choice(SERVERS),
    multiple=True,
    default=("orchestrator",),
    show_default=True,
    help="May be given again.",
)
@click.option(
    "--file", type=click.Path(dir_okay=False, path_type=Path), help="In place of the client's own."
)
@click.option("--dry-run", is_flag=True, help="Show the file as it would be, write nothing.")
@click.option("--remove", is_flag=True, help="Take the entries out.")
def setup(
    out: Output,
    client: str,
    servers: tuple[str, ...],
    file: Path | None,
    dry_run: bool,
    remove: bool,
) -> None:
    """Write the configuration of CLIENT, so that it starts these servers itself.

    Entries of others stay as they are, and the file as it was is kept beside it.
    """
    from ryzanstein.cli._clients import CLIENTS, change, program

    target = CLIENTS[client]
    path = file or target.path()
    entries = (
        {} if remove else {_entry_name(name): target.entry(program(), name) for name in servers}
    )
    # An entry that is not asked for any more goes with --remove only.
    gone = [_entry_name(name) for name in SERVERS] if remove else []
    changed = change(path, target, entries, gone, dry_run=dry_run)
    result: dict[str, Any] = {
        "client": client,
        "file": str(path),
        "changed": changed.differs,
        "written": changed.differs and not dry_run,
        "backup": str(changed.backup) if changed.backup else None,
        "servers": sorted(entries),
    }
    if dry_run:
        result["text"] = changed.text

    def show() -> None:
        if dry_run:
            print(f"# {path}{'' if changed.differs else ' (unchanged)'}")
            print(changed.text)
            return
        if not changed.differs:
            print(f"{path} is as it should be.")
            return
        print(f"{path} is written." + (f" Before: {changed.backup}" if changed.backup else ""))
        print(f"Restart {target.title} to see it.")

    out.result(result, show)


def _entry_name(server: str) -> str:
    return "ryzanstein" if server == "orchestrator" else f"ryzanstein-{server}"
