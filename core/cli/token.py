"""`ryzanstein token`: what clients of the HTTP servers prove themselves with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ryzanstein.cli._group import command, group
from ryzanstein.cli._output import Output, table

if TYPE_CHECKING:
    from ryzanstein.tokens import Token, Tokens

__all__ = ["token"]

token = group(
    "token",
    "Tokens of `ryzanstein serve`: show yours, add others', list and revoke them.",
    "ryzanstein token show",
    "ryzanstein token add ann --days 90",
    "ryzanstein token revoke ann",
)


@token.add
@command("show", "ryzanstein token show")
def show(out: Output) -> None:
    """Print the owner's token; it is made where there is none yet."""
    tokens = _tokens()
    kept = tokens.owner()
    out.result({"token": kept, "file": str(tokens.path)}, lambda: print(kept))


@token.add
@command("add", "ryzanstein token add ann", "ryzanstein token add ci --days 7 --admin")
@click.argument("name")
@click.option("--days", type=click.IntRange(1, 36_500), help="It expires then; never by default.")
@click.option("--admin", is_flag=True, help="Allow what concerns everybody: models, metrics.")
def add(out: Output, name: str, days: int | None, admin: bool) -> None:
    """Make a token for somebody else, who gets runs, memories and files of their own.

    It is printed once and cannot be shown again.
    """
    made = _tokens().add(name, admin=admin, days=days)
    out.result({"name": name, "token": made}, lambda: print(made))
    out.note("Keep it now: it is not shown again.")


@token.add
@command("list", "ryzanstein token list", "ryzanstein token list --json")
def list_(out: Output) -> None:
    """List the tokens, and never what they are."""
    found = [_described(one) for one in _tokens().all()]
    rows = [
        (one["name"], " ".join(one["scopes"]), one["created"][:10], _until(one)) for one in found
    ]
    out.result(found, lambda: table(("name", "scopes", "created", "expires"), rows))


@token.add
@command("revoke", "ryzanstein token revoke ann", "ryzanstein token revoke owner")
@click.argument("name")
def revoke(out: Output, name: str) -> None:
    """Make a token worthless at once; what its owner has stored stays.

    The owner's is replaced by a new one when it is next needed.
    """
    _tokens().revoke(name)
    out.result({"revoked": name}, lambda: print(f"The token of {name} is worthless now."))


def _tokens() -> Tokens:
    from ryzanstein.config import load_settings
    from ryzanstein.tokens import Tokens

    return Tokens(load_settings().data_dir)


def _described(one: Token) -> dict[str, Any]:
    from ryzanstein.tokens import OWNER

    return {
        "name": one.name or OWNER,
        "scopes": list(one.scopes),
        "created": _time(one.created),
        "expires": None if one.expires is None else _time(one.expires),
        "valid": one.is_valid,
    }


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _until(one: dict[str, Any]) -> str:
    if one["expires"] is None:
        return "never"
    return str(one["expires"])[:10] if one["valid"] else "has expired"
