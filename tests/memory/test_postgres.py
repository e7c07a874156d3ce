"""What only a server has: its faults, its own types, and connections that break."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from sqlalchemy import URL, Connection, create_engine, make_url, text

from ryzanstein.errors import ConfigError, ConnectionFailed, RyzansteinError, StorageError, TimedOut
from ryzanstein.memory import postgres
from ryzanstein.memory.postgres import PgVector, Postgres
from ryzanstein.memory.store import MemoryStore
from tests.memory.conftest import Server


@pytest.fixture
def administrator(postgres_url: str) -> Iterator[Connection]:
    """A connection to the same database, past the store."""
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def guest(administrator: Connection, postgres_url: str) -> Iterator[URL]:
    """Somebody who may log in and read."""
    name = f"guest_{secrets.token_hex(4)}"
    administrator.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'"))
    administrator.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}"))
    yield make_url(postgres_url).set(username=name, password="secret")
    administrator.execute(text(f"DROP OWNED BY {name}"))
    administrator.execute(text(f"DROP ROLE {name}"))


def shown(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def test_a_url_may_leave_out_the_driver(postgres_url: str) -> None:
    plain = postgres_url.replace("postgresql+psycopg://", "postgresql://")
    for url in (plain, plain.replace("postgresql://", "postgres://")):
        with MemoryStore(url) as store:
            assert store.stats().full_text == "tsvector"


@pytest.mark.parametrize("url", ["mysql://host/name", "postgresql+psycopg2://host/name"])
def test_other_databases_and_drivers_are_no_url_of_ours(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MemoryStore(url)
    assert "postgresql" in caught.value.hint


def test_a_server_that_is_down_is_said(postgres_url: str) -> None:
    url = make_url(postgres_url).set(port=1)
    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1") as caught:
        MemoryStore(shown(url))
    assert "server runs" in caught.value.hint


def test_a_wrong_password_is_said_without_showing_it(postgres_url: str) -> None:
    url = make_url(postgres_url).set(password="hunter2")
    with pytest.raises(ConnectionFailed, match="password authentication failed") as caught:
        MemoryStore(shown(url))
    assert "password in the database URL" in caught.value.hint
    assert "hunter2" not in str(caught.value)


def test_a_missing_database_is_said(postgres_url: str) -> None:
    url = make_url(postgres_url).set(database="nosuch")
    with pytest.raises(ConnectionFailed, match="does not exist") as caught:
        MemoryStore(shown(url))
    assert "createdb" in caught.value.hint


def test_a_server_without_pgvector_is_said(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_EXTENSION", "nosuchvector")
    empty = server.make("template0")
    with pytest.raises(StorageError, match="has no pgvector") as caught:
        MemoryStore(shown(empty))
    assert "Install pgvector" in caught.value.hint
    server.drop(empty)


def test_a_user_who_may_not_add_pgvector_is_told_who_may(server: Server, guest: URL) -> None:
    empty = server.make("template0")
    with pytest.raises(StorageError, match="may not add pgvector") as caught:
        MemoryStore(shown(guest.set(database=empty.database)))
    assert "CREATE EXTENSION vector" in caught.value.hint
    server.drop(empty)


def test_a_user_who_may_only_read_can_search(postgres_url: str, guest: URL) -> None:
    with MemoryStore(postgres_url) as store:
        store.remember("Whales are mammals")
    with MemoryStore(shown(guest)) as store:
        assert store.recall("are whales mammals")[0].memory.text == "Whales are mammals"
        with pytest.raises(StorageError, match="may not read or change"):
            store.remember("Sharks are fish")


def test_a_read_only_database_is_searched(postgres_url: str, administrator: Connection) -> None:
    with MemoryStore(postgres_url) as store:
        store.remember("Whales are mammals")
    name = make_url(postgres_url).database
    administrator.execute(text(f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
    with MemoryStore(postgres_url) as store:
        assert store.recall("are whales mammals")[0].memory.text == "Whales are mammals"
        with pytest.raises(StorageError, match="read-only"):
            store.remember("Sharks are fish")


def test_a_newer_version_is_refused(postgres_url: str, administrator: Connection) -> None:
    administrator.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="newer version"):
        MemoryStore(postgres_url)


def test_a_database_that_stays_locked_ends_in_a_time_out(postgres_url: str) -> None:
    plain = postgres_url.replace("+psycopg", "")
    with MemoryStore(postgres_url, busy_seconds=0.2) as store:
        with closing(psycopg.connect(plain)) as other:
            other.execute("UPDATE revision SET value = value + 1")
            with pytest.raises(TimedOut, match="locked"):
                store.remember("something")
        assert store.remember("something").reinforced == 0


def test_a_store_goes_on_after_its_connections_broke(
    postgres_url: str, administrator: Connection
) -> None:
    with MemoryStore(postgres_url) as store:
        kept = store.remember("Whales are mammals")
        administrator.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
        assert store.get(kept.id) == kept
        assert store.remember("Sharks are fish").reinforced == 0


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (psycopg.errors.DiskFull("no space"), StorageError, "disk is full"),
        (psycopg.errors.DataCorrupted("page"), StorageError, "damaged"),
        (psycopg.errors.AdminShutdown("stops"), ConnectionFailed, "stops"),
        (psycopg.errors.DeadlockDetected("dead"), TimedOut, "locked"),
        (psycopg.errors.TooManyConnections("many"), ConnectionFailed, "many"),
        (psycopg.errors.SyntaxError("a fault"), StorageError, "a fault"),
    ],
)
def test_what_a_server_says_becomes_one_clear_error(
    error: psycopg.Error, kind: type[RyzansteinError], says: str
) -> None:
    database = Postgres(make_url("postgresql+psycopg://ann:secret@host/name"), 1.0)
    said = database.explain(error)
    assert type(said) is kind and says in str(said) and said.hint
    assert "ann" in str(said) and "secret" not in str(said)
    assert database.explain(ValueError("ours")) is None


def test_vectors_are_pgvectors(postgres_url: str, administrator: Connection) -> None:
    with MemoryStore(postgres_url) as store:
        store.remember("Whales are mammals")
    kind = administrator.execute(text("SELECT pg_typeof(vector)::text FROM embeddings")).scalar()
    length = administrator.execute(text("SELECT vector <#> vector FROM embeddings")).scalar()
    assert kind == "vector" and length == pytest.approx(-1.0, abs=1e-5)
    assert PgVector().get_col_spec() == "VECTOR"


def test_a_schema_of_its_own_keeps_one_store_from_another_in_one_database(
    postgres_url: str, administrator: Connection
) -> None:
    stores = [f"{postgres_url}?schema=subject_{name}" for name in ("ada", "bob")]
    for number, url in enumerate([postgres_url, *stores]):
        with MemoryStore(url) as store:
            assert store.stats().memories == 0
            kept = store.remember(f"The number of this store is {number}.")
            assert [hit.memory.id for hit in store.recall("number of this store")] == [kept.id]
    with MemoryStore(stores[0]) as again:
        assert [one.text for one in again.list().memories] == ["The number of this store is 1."]
        assert again.stats().bytes > 0
        again.forget(again.list().memories[0].id)
    count = "SELECT count(*) FROM {}.memories"
    schemas = ("public", "subject_ada", "subject_bob")
    found = [administrator.execute(text(count.format(name))).scalar_one() for name in schemas]
    assert found == [1, 0, 1]


def test_the_first_to_come_with_a_schema_leaves_pgvector_to_all(server: Server) -> None:
    empty = server.make("template0")
    for query in ({"schema": "subject_ada"}, {"schema": "subject_bob"}, {}):
        with MemoryStore(shown(empty.update_query_dict(query))) as store:
            store.remember("Pelicans eat fish.")
            assert store.recall("What do pelicans eat?")
    server.drop(empty)


@pytest.mark.parametrize("name", ["Upper", 'a"; DROP SCHEMA public', "a" * 64])
def test_a_schema_has_a_plain_name(postgres_url: str, name: str) -> None:
    url = make_url(postgres_url).update_query_dict({"schema": name})
    with pytest.raises(ConfigError, match="no name of a schema"):
        MemoryStore(shown(url))
