"""Looks at everything a run needs; `system_health` and `ryzanstein doctor` show it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ryzanstein.errors import RyzansteinError
from ryzanstein.mcp_servers._shared import Shared

if TYPE_CHECKING:
    from ryzanstein.agents.clients.health import Seen

__all__ = ["checks"]

MIN_FREE_BYTES = 500_000_000
Found = tuple[str, bool, str]


def checks(parts: Shared) -> Iterator[Found]:
    """Yields (name, in order, what was found) for each thing, the basic ones first."""
    for name, look in (
        ("processor", _processor),
        ("memory", _memory),
        ("disk", _disk),
        ("kernels", _kernels),
        ("engine", _engine),
        ("registry", _registry),
        ("model", _model),
        ("database", _database),
        ("sandbox", _sandbox),
        ("backends", _backends),
        ("servers", _servers),
    ):
        yield _looked(name, look, parts)


def _looked(name: str, look: Callable[[Shared], tuple[bool, str]], parts: Shared) -> Found:
    try:
        ok, detail = look(parts)
    except RyzansteinError as error:
        return name, False, str(error)
    return name, ok, detail


def _processor(parts: Shared) -> tuple[bool, str]:
    from ryzanstein.machine import available_cpus, cpu_name

    return True, f"{cpu_name()}, {available_cpus()} CPUs for this process"


def _memory(parts: Shared) -> tuple[bool, str]:
    from ryzanstein.machine import available_memory, total_memory

    free = available_memory()
    text = f"{free / 1e9:.1f} GB free of {total_memory() / 1e9:.1f} GB"
    return free >= MIN_FREE_BYTES, text


def _disk(parts: Shared) -> tuple[bool, str]:
    folder = parts.settings.data_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return free >= MIN_FREE_BYTES, f"{free / 1e9:.1f} GB free for {parts.settings.data_dir}"


def _kernels(parts: Shared) -> tuple[bool, str]:
    from ryzanstein.inference.kernels._linear import chosen_isa

    return True, f"compiled kernels for {chosen_isa()}"


def _engine(parts: Shared) -> tuple[bool, str]:
    from ryzanstein.inference.tiny import self_test

    found = self_test(parts.settings.threads)
    detail = (
        f"tiny-bitnet needs {found.bits_per_byte:.3f} bits a byte of unseen text, "
        f"in PyTorch {found.expected:.3f}; {found.seconds:.2f} s"
    )
    return found.passed, detail


def _registry(parts: Shared) -> tuple[bool, str]:
    registry = parts.registry
    files = ", ".join(str(path) for path in registry.files)
    return True, f"{len(registry.agents)} agents and {len(registry.models)} models from {files}"


def _model(parts: Shared) -> tuple[bool, str]:
    name = parts.catalogue.default()
    path = parts.catalogue.find(name)
    if path is None:
        return False, f"{name} is not here. Run: ryzanstein models pull {name}"
    return True, f"{name} at {path}"


def _database(parts: Shared) -> tuple[bool, str]:
    stats = parts.store.stats()
    counts = f"{stats.memories} memories, {stats.experiences} experiences, {stats.runs} runs"
    return True, f"{stats.database}: {counts}"


def _sandbox(parts: Shared) -> tuple[bool, str]:
    from ryzanstein.tools.bubblewrap import find_setup

    setup = find_setup()
    return True, f"{setup.bwrap}{', in a user namespace' if setup.user_namespace else ''}"


def _backends(parts: Shared) -> tuple[bool, str]:
    """In order where one can be used; each is named with how it does."""
    found = _seen(parts, "backend:")
    return any(one.usable for one in found), _listed(found) or "none is enabled"


def _servers(parts: Shared) -> tuple[bool, str]:
    """In order where each that is not in this process can be used."""
    found = _seen(parts, "server:")
    return all(one.usable for one in found), _listed(found) or "all in this process"


def _seen(parts: Shared, kind: str) -> list[Seen]:
    if parts.health.stale():
        parts.health.look()
    return [one for one in parts.health.seen() if one.name.startswith(kind)]


def _listed(found: list[Seen]) -> str:
    return "; ".join(f"{one.name.partition(':')[2]} {one.state} ({one.detail})" for one in found)
