from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, make_url, text

from ryzanstein.memory.store import MemoryStore

SERVER = os.environ.get("TEST_POSTGRES_URL")


class Server:
    """A PostgreSQL server on which each test gets a database of its own, copied from a template."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self._engine = create_engine(self.url, isolation_level="AUTOCOMMIT")
        self.template = self.make("template0")
        MemoryStore(self.template.render_as_string(hide_password=False)).close()

    def make(self, template: str | None = None) -> URL:
        name = f"test_{secrets.token_hex(8)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {template or self.template.database}")
        return self.url.set(database=name)

    def drop(self, database: URL) -> None:
        self._run(f"DROP DATABASE {database.database} WITH (FORCE)")

    def close(self) -> None:
        self.drop(self.template)
        self._engine.dispose()

    def _run(self, command: str) -> None:
        with self._engine.connect() as connection:
            connection.execute(text(command))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The PostgreSQL server, for tests of what only it has."""
    if SERVER is None:
        pytest.skip("needs a PostgreSQL server; scripts/postgres starts one")
    started = Server(SERVER)
    yield started
    started.close()


@pytest.fixture
def postgres_url(server: Server) -> Iterator[str]:
    """A migrated, empty database on PostgreSQL."""
    made = server.make()
    yield made.render_as_string(hide_password=False)
    server.drop(made)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A file that is not there yet, for tests of what only files have."""
    return f"sqlite:///{tmp_path / 'memory.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> Any:
    """An empty database, on each kind in turn."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def store(url: str) -> Iterator[MemoryStore]:
    with MemoryStore(url) as opened:
        yield opened
