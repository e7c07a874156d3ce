"""Options that say what tools may do: nothing but read, only in some folders, or overwrite too."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["grant", "permit", "read_only", "root"]

read_only = click.option(
    "--read-only",
    is_flag=True,
    help="The tools server and agents refuse every tool that changes something.",
)
root = click.option(
    "--root",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder that tools may touch; may be given several times.",
)
grant = click.option(
    "--grant",
    multiple=True,
    metavar="TOOL[:TARGET]",
    help="Let this tool or family overwrite and delete without asking; may be given several times.",
)


def permit(
    *, read_only: bool = False, roots: tuple[Path, ...] = (), grants: tuple[str, ...] = ()
) -> None:
    """Sets what the tools of this process may do, beside what is configured."""
    if not (read_only or roots or grants):
        return
    import dataclasses

    from ryzanstein.mcp_servers._shared import shared

    settings = shared().settings
    changed = dataclasses.replace(
        settings,
        read_only=read_only or settings.read_only,
        roots=tuple(path.absolute() for path in roots) or settings.roots,
        grants=(*settings.grants, *grants),
    )
    shared().reset(settings=changed)
