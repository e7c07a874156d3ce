"""`ryzanstein mcp` and `ryzanstein serve`: the servers, over stdio and over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ryzanstein.cli._group import command
from ryzanstein.cli._listening import http_options, listening
from ryzanstein.cli._output import Output
from ryzanstein.cli._permissions import permit, read_only, root

__all__ = ["SERVERS", "mcp", "serve"]

SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")


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
@http_options
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
    era: str,
    toolset: str | None,
    read_only: bool,
    root: tuple[Path, ...],
    **http: Any,
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
    from ryzanstein.mcp_servers._serve import serve as serve_http

    serve_http(listening(http), only=running)


@command(
    "serve",
    "ryzanstein serve",
    "ryzanstein serve --port 9000",
    "ryzanstein serve --host 0.0.0.0 --tls-cert box.pem --tls-key box.key",
)
@http_options
@read_only
@root
def serve(out: Output, read_only: bool, root: tuple[Path, ...], **http: Any) -> None:
    """Serve everything over HTTP: /mcp/NAME, /v1 (OpenAI-compatible), /health, /metrics.

    Clients send a bearer token; `ryzanstein token` shows, adds and revokes them. An interrupt lets
    calls under way finish and leaves longer runs where they can be gone on with.
    """
    how = listening(http)
    log_to_stderr()
    permit(read_only=read_only, roots=root)
    from ryzanstein.mcp_servers._serve import serve as serve_http
    from ryzanstein.mcp_servers._shared import shared

    shared().stay()
    serve_http(how)


def log_to_stderr() -> None:
    """Lets a server's log be seen; it goes to stderr, where clients collect it."""
    import logging

    logging.getLogger().setLevel(logging.WARNING)
