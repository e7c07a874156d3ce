"""`ryzanstein setup`: puts this program into a client's configuration, and takes it out again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ryzanstein.cli._group import command
from ryzanstein.cli._output import Output
from ryzanstein.cli.serving import SERVERS
from ryzanstein.errors import InvalidRequest

if TYPE_CHECKING:
    from ryzanstein.cli._clients import Client
    from ryzanstein.cli._config_files import Change
    from ryzanstein.cli._entries import Wish

__all__ = ["setup"]


@command(
    "setup",
    "ryzanstein setup claude-desktop --root ~/Documents",
    "ryzanstein setup vscode --dry-run",
    "ryzanstein setup vscode --workspace --server orchestrator --server tools",
    "ryzanstein setup continue --url http://127.0.0.1:8000",
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
@click.option(
    "--workspace",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    is_flag=False,
    flag_value=".",
    help="For this folder only; without a name, the current one. Not for Claude Desktop.",
)
@click.option("--url", help="Reach `ryzanstein serve` there, in place of starting the servers.")
@click.option(
    "--root",
    "roots",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder that tools may touch; may be given several times.",
)
@click.option("--read-only", is_flag=True, help="Tools and agents change nothing.")
@click.option("--dry-run", is_flag=True, help="Show the files as they would be, write nothing.")
@click.option("--remove", is_flag=True, help="Take the entries out.")
def setup(
    out: Output,
    client: str,
    servers: tuple[str, ...],
    file: Path | None,
    workspace: Path | None,
    url: str | None,
    roots: tuple[Path, ...],
    read_only: bool,
    dry_run: bool,
    remove: bool,
) -> None:
    """Write the configuration of CLIENT, so that it starts these servers itself.

    Entries of others stay as they are, and each file as it was is kept beside it. Continue gets
    models and slash commands too.
    """
    from ryzanstein.cli._clients import CLIENTS
    from ryzanstein.cli._config_files import planned, written
    from ryzanstein.cli._continue import secret_change
    from ryzanstein.cli._entries import Wish, program

    target = CLIENTS[client]
    _require_possible(target, workspace, url, file)
    wish = Wish(
        servers=() if remove else tuple(dict.fromkeys(servers)),
        command=program(),
        url=url,
        workspace=workspace.absolute() if workspace else None,
        roots=_roots(client, roots, workspace, dry_run=dry_run or remove),
        read_only=read_only,
    )
    changes = [planned(plan) for plan in target.plans(wish, file)]
    if client == "continue" and (wish.servers or not (workspace or file)):
        changes.append(secret_change(bool(wish.servers), url, make=not dry_run))
    if not dry_run:
        changes = [written(change) for change in changes]
    result = _result(client, wish, changes, dry_run=dry_run)
    out.result(result, lambda: _show(target, wish, changes, dry_run=dry_run))


def _require_possible(
    client: Client, workspace: Path | None, url: str | None, file: Path | None
) -> None:
    """Refuses what a client cannot do.

    Raises:
        UsageError: Options that do not go together.
        InvalidRequest: A URL that is none, or that tokens must not be sent to.
    """
    from urllib.parse import urlsplit

    from ryzanstein.cli._continue import is_local

    if workspace and file:
        raise click.UsageError("--workspace and --file name the file both.")
    if workspace and not client.has_workspaces:
        raise click.UsageError(f"{client.title} has no files of folders.")
    if url is None:
        return
    if not client.has_urls:
        raise click.UsageError(f"{client.title} starts servers itself; leave --url out.")
    try:
        parts = urlsplit(url)
        host, scheme, _ = parts.hostname, parts.scheme, parts.port
        more = parts.query or parts.fragment or parts.username or parts.password
    except ValueError:
        host, scheme, more = None, "", ""
    if scheme not in {"http", "https"} or not host or more:
        raise InvalidRequest(
            "--url is no address of a server.", hint="For instance http://127.0.0.1:8000"
        )
    if re.search(r"/(mcp|v1)(/|$)", parts.path):
        raise InvalidRequest(
            "--url is where `ryzanstein serve` is, not one server of it.",
            hint="Leave /mcp/… and /v1 out.",
        )
    if scheme == "http" and not is_local(url):
        hint = "Use https, or a tunnel to 127.0.0.1."
        raise InvalidRequest(f"A token must not go to {host} unencrypted.", hint=hint)


def _roots(
    client: str, given: Sequence[Path], workspace: Path | None, *, dry_run: bool
) -> tuple[Path, ...]:
    """Folders that tools may touch; none leaves it to where the client starts the server.

    Claude Desktop starts servers in the root of the disk, which is no folder to let tools into.
    """
    from ryzanstein.config import load_settings

    if given or client != "claude-desktop":
        own = Path("${workspaceFolder}") if client == "vscode" and workspace else None
        return tuple(path.absolute() for path in given) or ((own,) if own else ())
    settings = load_settings()
    if settings.roots:
        return settings.roots
    folder = settings.data_dir / "files"
    if not dry_run:
        folder.mkdir(parents=True, exist_ok=True)
    return (folder,)


def _result(client: str, wish: Wish, changes: Sequence[Change], *, dry_run: bool) -> dict[str, Any]:
    from ryzanstein.cli._entries import entry_name

    files = [
        {
            "file": str(one.path),
            "changed": one.differs,
            "written": one.differs and not dry_run,
            "backup": str(one.backup) if one.backup else None,
            **({"text": one.shown} if dry_run else {}),
            **({"kept": list(one.kept)} if one.kept else {}),
        }
        for one in changes
    ]
    return {
        "client": client,
        **files[0],
        "changed": any(one.differs for one in changes),
        "written": any(one.differs for one in changes) and not dry_run,
        "servers": sorted(entry_name(server) for server in wish.servers),
        "files": files,
    }


def _show(client: Client, wish: Wish, changes: Sequence[Change], *, dry_run: bool) -> None:
    for one in changes:
        if dry_run:
            print(f"# {one.path}{'' if one.differs else ' (unchanged)'}")
            print(one.shown)
        elif not one.differs:
            print(f"{one.path} is as it should be.")
        else:
            done = "written" if one.text else "removed"
            print(f"{one.path} is {done}." + (f" Before: {one.backup}" if one.backup else ""))
        if one.kept:
            print(f"Left as they are, since they are yours: {', '.join(one.kept)}")
    if dry_run:
        return
    if any(one.differs for one in changes):
        print(client.restart if wish.servers else f"{client.title} sees it when it starts again.")
    if wish.url is not None and wish.servers:
        print("Start `ryzanstein serve`; `ryzanstein token show` prints the token it asks for.")
    elif client.title == "Continue" and wish.servers:
        print("Its models answer while `ryzanstein serve` runs.")
