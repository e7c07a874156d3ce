"""`ryzanstein doctor`: whether everything a run needs is in order, and what to do."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ryzanstein.cli._client import call
from ryzanstein.cli._group import command
from ryzanstein.cli._output import Output

if TYPE_CHECKING:
    from ryzanstein.cli._probe import Found

__all__ = ["doctor"]


@command("doctor", "ryzanstein doctor", "ryzanstein doctor --json", "ryzanstein doctor --kernels")
@click.option("--kernels", is_flag=True, help="Show how matrices are multiplied on this CPU.")
@click.option("--retune", is_flag=True, help="Measure that again; with --kernels.")
def doctor(out: Output, kernels: bool, retune: bool) -> int:
    """Check processor, kernels, memory, disk, registry, model, database, sandbox and clients.

    Servers in clients' configurations are started as the client would, and their tools listed.
    Exits with 1 where something that a run needs is missing, or such a server does not start.
    """
    if kernels or retune:
        from ryzanstein.cli._kernels import show_kernels

        return show_kernels(out, retune)
    health = call("analytics", "system_health")
    found: list[dict[str, Any]] = [*health["checks"], *_clients()]
    ok = bool(health["ok"]) and all(check["ok"] for check in found[len(health["checks"]) :])

    def show() -> None:
        for check in found:
            print(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['name']:<16}{check['detail']}")
            for server in check.get("servers", ()):
                what = server["fault"] or server["note"]
                what = what or f"{server['seconds']:.1f} s: {', '.join(server['tools'])}"
                print(f"      {'':<16}{server['name']}: {what}")

    out.result({"ok": ok, "checks": found}, show)
    return 0 if ok else 1


def _clients() -> list[dict[str, Any]]:
    """Which clients are configured, and whether what they are to start does start."""
    from ryzanstein.cli._clients import CLIENTS
    from ryzanstein.cli._probe import Configured, configured, probe
    from ryzanstein.errors import ConfigError

    rows: list[dict[str, Any]] = []
    files: dict[str, dict[Path, list[Configured]]] = {}
    for name in CLIENTS:
        try:
            files[name] = configured(name, Path.cwd())
        except ConfigError as error:
            rows.append({"name": name, "ok": False, "detail": str(error)})
    listed = {
        name: [one for servers in found.values() for one in servers]
        for name, found in files.items()
    }
    started = iter(probe([one for servers in listed.values() for one in servers]))
    for name, servers in listed.items():
        rows.append(_row(name, list(files[name]), [next(started) for _ in servers]))
    return rows


def _row(client: str, files: list[Path], servers: list[Found]) -> dict[str, Any]:
    broken = [one.name for one in servers if one.fault]
    if not servers:
        detail = f"not set up: ryzanstein setup {client}"
    elif broken:
        detail = f"{', '.join(broken)} cannot be used; if it moved: ryzanstein setup {client}"
    else:
        names = ", ".join(one.name for one in servers)
        detail = f"{names} in {', '.join(str(path) for path in files)}"
    return {
        "name": client,
        "ok": not broken,
        "detail": detail,
        "files": [str(path) for path in files],
        "servers": [asdict(one) for one in servers],
    }
