"""`ryzanstein doctor`: whether everything a run needs is in order, and what to do."""

from __future__ import annotations

from typing import Any

import click

from ryzanstein.cli._client import call
from ryzanstein.cli._group import command
from ryzanstein.cli._output import Output

__all__ = ["doctor"]


@command("doctor", "ryzanstein doctor", "ryzanstein doctor --json", "ryzanstein doctor --kernels")
@click.option("--kernels", is_flag=True, help="Show how matrices are multiplied on this CPU.")
@click.option("--retune", is_flag=True, help="Measure that again; with --kernels.")
def doctor(out: Output, kernels: bool, retune: bool) -> int:
    """Check processor, kernels, memory, disk, registry, model, database, sandbox and clients.

    Exits with 1 where something that a run needs is missing.
    """
    if kernels or retune:
        from ryzanstein.cli._kernels import show_kernels

        return show_kernels(out, retune)
    health = call("analytics", "system_health")
    found: list[dict[str, Any]] = [*health["checks"], *_clients()]

    def show() -> None:
        for check in found:
            print(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['name']:<16}{check['detail']}")

    out.result({"ok": health["ok"], "checks": found}, show)
    return 0 if health["ok"] else 1


def _clients() -> list[dict[str, Any]]:
    """Which clients are configured; none of them is needed, so none of them fails."""
    from ryzanstein.cli._clients import CLIENTS, read
    from ryzanstein.errors import ConfigError

    rows = []
    for name, client in CLIENTS.items():
        path = client.path()
        try:
            entries = read(path, client).get(client.key) or []
            names = [one["name"] for one in entries] if client.yaml else list(entries)
            ours = [one for one in names if str(one).startswith("ryzanstein")]
            detail = (
                f"{', '.join(ours)} in {path}" if ours else f"not set up: ryzanstein setup {name}"
            )
            ok = True
        except (ConfigError, TypeError, KeyError) as error:
            ok, detail = False, str(error)
        rows.append({"name": name, "ok": ok, "detail": detail})
    return rows
