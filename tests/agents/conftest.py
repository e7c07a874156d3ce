from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.routing.route import Router
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.memory.embed import get_embedder
from ryzanstein.registry import Registry, load_registry

MODEL = "smollm2-135m"


@pytest.fixture(scope="session")
def declared() -> Registry:
    return load_registry(user=False)


@pytest.fixture(scope="session")
def router(declared: Registry) -> Router:
    return Router(declared, get_embedder(), None)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for the tools, and servers that know nothing yet but keep the loaded model."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.setenv("RYZANSTEIN_ROOTS", str(folder))
    shared().reset(keep=("engine",))
    yield folder
    shared().reset(keep=("engine",))


@pytest.fixture
def services(place: Path, smollm2: Path, declared: Registry) -> Services:
    """The real servers over the in-memory transport; a test enters it in its own task."""
    return Services(declared)
