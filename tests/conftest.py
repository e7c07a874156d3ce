"""Fixtures every test may use: an isolated home, and the small real model."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import pytest

from ryzanstein.resilience import PARTIES
from tests.node import installed

MODELS = Path(
    os.environ.get("RYZANSTEIN_MODELS_DIR")
    or (
        Path(os.environ["RYZANSTEIN_DATA_DIR"]) / "models"
        if "RYZANSTEIN_DATA_DIR" in os.environ
        else platformdirs.user_cache_path("ryzanstein-tests") / "models"
    )
)


@pytest.fixture(autouse=True)
def isolated_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives every test its own data, configuration and cache; downloaded models are shared.

    What earlier tests found of backends and servers is forgotten.
    """
    for name in [name for name in os.environ if name.startswith("RYZANSTEIN_")]:
        if name != "RYZANSTEIN_ISA":
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    for kind in ("data", "config", "cache"):
        monkeypatch.setenv(f"RYZANSTEIN_{kind.upper()}_DIR", str(home / kind))
    monkeypatch.setenv("RYZANSTEIN_MODELS_DIR", str(MODELS))
    monkeypatch.setenv("NO_COLOR", "1")
    PARTIES.clear()
    return home


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real SmolLM2-135M, brought once through the catalogue."""
    from ryzanstein.config import load_settings
    from ryzanstein.inference.catalogue import Catalogue
    from ryzanstein.registry import load_registry

    settings = load_settings({"RYZANSTEIN_MODELS_DIR": str(MODELS)})
    return Catalogue(settings, load_registry(user=False).models).pull("smollm2-135m")


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """Others' programs for Node."""
    return installed.node_modules()


@pytest.fixture
def node_environment() -> dict[str, str]:
    """The test's environment, with Node."""
    return installed.with_node()
