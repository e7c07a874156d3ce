"""One server and the official suite, for all tests here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from suite import Suite, served

from tests.node.installed import with_node


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """Where the fixture and the real servers are served, each under its name."""
    with served() as found:
        yield found


@pytest.fixture(scope="session")
def suite(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """The official suite."""
    return Suite(node_modules, with_node(), tmp_path_factory.mktemp("conformance"))
