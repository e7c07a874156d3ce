"""Options that say how a server listens over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ryzanstein.mcp_servers._serve import Listening

__all__ = ["http_options", "listening"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.option("--host", default="127.0.0.1", show_default=True, help="Where HTTP listens."),
    click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True),
    click.option("--tls-cert", type=_FILE, help="Encrypt with this certificate (PEM, its chain)."),
    click.option("--tls-key", type=_FILE, help="The certificate's key."),
    click.option("--allow-remote", is_flag=True, help="Other machines too, without encryption."),
    click.option("--no-auth", is_flag=True, help="Ask for no token; on this machine only."),
    click.option("--stateless", is_flag=True, help="Keep no sessions for older clients."),
    click.option(
        "--grace",
        type=click.FloatRange(0, 3600),
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="Calls under way get so long to finish when it ends.",
    ),
)


def http_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options to a command, which hands them to `listening`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def listening(given: dict[str, Any]) -> Listening:
    """Returns what the options say.

    Raises:
        UsageError: A certificate without its key, or the other way round.
    """
    from ryzanstein.mcp_servers._serve import Listening

    certificate, key = given["tls_cert"], given["tls_key"]
    if (certificate is None) != (key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together.")
    return Listening(
        host=given["host"],
        port=given["port"],
        tls=None if certificate is None else (certificate, key),
        allow_remote=given["allow_remote"],
        auth=not given["no_auth"],
        stateless=given["stateless"],
        grace_seconds=given["grace"],
    )
