"""`ryzanstein mcp` and `ryzanstein serve`: the servers, over stdio and over HTTP."""

from __future__ import annotations

from pathlib import Path

import click

from ryzanstein.cli._group import command
from ryzanstein.cli._output import Output
from ryzanstein.cli._permissions import permit, read_only, root
from ryzanstein.errors import InvalidRequest

__all__ = ["SERVERS", "mcp", "serve"]

SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")
LOCAL = ("127.0.0.1", "localhost", "::1")


@command(
    "mcp",
    "ryzanstein mcp",
    "ryzanstein mcp memory",
    "ryzanstein mcp tools --toolset files,git --read-only",
    "ryzanstein mcp tools --root ~/notes --root ~/work",
    "ryzanstein mcp inference --transport streamable-http --port 8001",
)
@click.argument("server", type=click.Choice(SERVERS), default="orchestrator")
@click.option(
    "--transport",
    type=click.Choice(["stdio", "streamable-http"]),
    default="stdio",
    show_default=True,
)
@click.option("--host", default="127.0.0.1", show_default=True, help="For HTTP.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True)
@click.option("--allow-remote", is_flag=True, help="Let --host be another than this machine.")
@click.option(
    "--era",
    type=click.Choice(["auto", "legacy"]),
    default="auto",
    show_default=True,
    help="Over stdio: legacy knows `initialize` only, for clients that a newer answer confuses.",
)
@click.option("--toolset", metavar="A,B", help="Families that the tools server shows directly.")
@read_only
@root
def mcp(
    out: Output,
    server: str,
    transport: str,
    host: str,
    port: int,
    allow_remote: bool,
    era: str,
    toolset: str | None,
    read_only: bool,
    root: tuple[Path, ...],
) -> None:
    """Run one MCP SERVER; without a name, the orchestrator.

    Over stdio, stdout carries the protocol and nothing else. Over HTTP it answers at /mcp.
    """
    import importlib

    from ryzanstein.mcp_servers._shared import shared

    if toolset and server != "tools":
        raise click.UsageError("--toolset is for the tools server.")
    log_to_stderr()
    permit(read_only=read_only, roots=root)
    shared().stay()
    from ryzanstein.mcp_servers._stdio import run_stdio, take_wire

    # Before the server is imported: what a library prints then is no message either.
    wire = take_wire() if transport == "stdio" else None
    if toolset:
        from ryzanstein.mcp_servers._tools import make

        running = make(tuple(name.strip() for name in toolset.split(",") if name.strip()))
    else:
        running = importlib.import_module(f"ryzanstein.mcp_servers.{server}").mcp
    if wire is not None:
        run_stdio(running, "legacy" if era == "legacy" else "auto", wire)
        return
    require_local(host, allow_remote)
    from ryzanstein.mcp_servers.httpd import run_one

    run_one(running, host, port)


@command("serve", "ryzanstein serve", "ryzanstein serve --port 9000")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True)
@click.option("--allow-remote", is_flag=True, help="Let --host be another than this machine.")
@read_only
@root
def serve(
    out: Output,
    host: str,
    port: int,
    allow_remote: bool,
    read_only: bool,
    root: tuple[Path, ...],
) -> None:
    """Serve everything over HTTP: /mcp/NAME, /v1 (OpenAI-compatible), /health, /metrics.

    There is no password yet: whoever reaches the port can use it. It listens on this machine only.
    """
    require_local(host, allow_remote)
    log_to_stderr()
    permit(read_only=read_only, roots=root)
    from ryzanstein.mcp_servers._shared import shared
    from ryzanstein.mcp_servers.httpd import run_all

    shared().stay()
    run_all(host, port)


def require_local(host: str, allow_remote: bool) -> None:
    """Refuses to listen to other machines unless that was asked for.

    Raises:
        InvalidRequest: The host is not this machine, and no flag allows it.
    """
    if host not in LOCAL and not allow_remote:
        raise InvalidRequest(
            f"{host} can be reached from other machines, and there is no password.",
            hint="Use 127.0.0.1, or add --allow-remote in a network you trust.",
        )


def log_to_stderr() -> None:
    """Lets a server's log be seen; it goes to stderr, where clients collect it."""
    import logging

    logging.getLogger().setLevel(logging.WARNING)
