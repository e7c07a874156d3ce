from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.dialects.postgresql.base import ischema_names

from ryzanstein.errors import StorageError
from ryzanstein.memory.migrations import HEAD
from ryzanstein.memory.postgres import PgVector
from ryzanstein.memory.schema import Base, EmbeddingRow
from ryzanstein.memory.store import MemoryStore
from tests.memory.conftest import Server

RELEASED = ("0001", "0002", "0003", "0004")
WHEN = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
# Columns that the server derives, which SQLAlchemy neither reads nor writes.
DERIVED = {"words", "ix_memories_words", "ix_experiences_words"}


def config(connection: Connection | None = None) -> Config:
    made = Config()
    made.set_main_option("script_location", "ryzanstein.memory:migrations")
    made.set_main_option("path_separator", "os")
    made.attributes["connection"] = connection
    return made


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def empty_postgres_url(server: Server) -> Iterator[str]:
    made = server.make("template0")
    yield made.render_as_string(hide_password=False)
    server.drop(made)


@pytest.fixture(params=["sqlite_url", "empty_postgres_url"])
def empty_url(request: pytest.FixtureRequest) -> Any:
    """A database without any table."""
    return request.getfixturevalue(request.param)


def unit(number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    vector = np.random.default_rng(number).standard_normal(256).astype(np.float32)
    return vector / np.linalg.norm(vector)


def fill_first_form(connection: Connection, model_id: str) -> None:
    """Rows as the first release wrote them: a correction chain, tags, outcomes, vectors, a run."""
    named = {
        "memories": "row id text identity kind agent source importance reinforced created updated "
        "superseded_by revision",
        "memory_tags": "memory_row tag",
        "experiences": "row id task agent outcome fitness strategy tools lesson answer run_id "
        "tokens seconds rating created revision",
        "embeddings": "row memory_row experience_row model_id dimension vector revision",
        "removals": "row space item_row revision",
        "runs": "id task status agent model result created updated",
    }
    when = WHEN.replace(tzinfo=None)
    run = ("go", '["read_file"]', "Ask twice.", "42", "run_1", 10, 1.5)
    rows: dict[str, list[tuple[object, ...]]] = {
        "memories": [
            (1, "mem_old", "The quay has six berths", None, "fact", None, "a.txt", 0.5, 0, when,
             when, "mem_new", 2),
            (2, "mem_new", "The quay has seven berths", "d1", "fact", None, "a.txt", 0.9, 3, when,
             when, None, 2),
            (3, "mem_tea", "Ann likes naïve green tea", "d2", "note", "APEX", None, 0.5, 0, when,
             when, None, 3),
        ],
        "memory_tags": [(2, "harbour"), (2, "ships"), (3, "tea")],
        "experiences": [
            (number, f"exp_{number}", f"Task {number} of the harbour", "APEX", outcome, 0.5, *run,
             rating, when, 4 + number)
            for number, (outcome, rating) in enumerate(
                [("success", None), ("failure", None), ("unverified", None), ("unverified", 0.8)], 1
            )
        ],
        "embeddings": [
            (1, 2, None, model_id, 256, unit(2).tobytes(), 2),
            (2, 3, None, model_id, 256, unit(3).tobytes(), 3),
            (3, None, 1, "another-model", 256, unit(4).tobytes(), 5),
        ],
        "removals": [(1, "memory", 1, 2)],
        "runs": [("run_1", "Count", "succeeded", "APEX", None, "{}", when, when)],
    }  # fmt: skip
    for table, values in rows.items():
        columns = named[table].split()
        places = ", ".join(f":{column}" for column in columns)
        statement = text(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})")
        connection.execute(statement, [dict(zip(columns, one, strict=True)) for one in values])
    connection.execute(text("UPDATE revision SET value = 8"))
    if connection.dialect.name == "postgresql":
        for table in ("memories", "experiences", "embeddings", "removals"):
            connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'row'), 10)"))


def make_first_form(url: str) -> str:
    with connected(url) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("CREATE EXTENSION vector"))
        command.upgrade(config(connection), "0001")
        fill_first_form(connection, "wordllama-l2-supercat-256")
    return url


@pytest.fixture
def first_form(empty_url: str) -> str:
    """A database of the first release."""
    return make_first_form(empty_url)


def test_every_released_form_is_tested() -> None:
    released = [
        script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()
    ]
    assert sorted(released) == list(RELEASED)


def test_a_store_of_the_first_release_keeps_everything(first_form: str) -> None:
    with MemoryStore(first_form) as store:
        assert [memory.text for memory in store.history("mem_new")] == [
            "The quay has six berths",
            "The quay has seven berths",
        ]
        new, tea = store.get("mem_new"), store.get("mem_tea")
        assert new is not None and tea is not None
        assert (new.tags, new.source, new.importance, new.reinforced) == (
            ("harbour", "ships"), "a.txt", 0.9, 3,
        )  # fmt: skip
        assert (tea.agent, tea.kind, tea.tags, tea.created) == ("APEX", "note", ("tea",), WHEN)
        assert store.stats().memories == 2 and store.stats().superseded == 1
        outcomes = [store.get_experience(f"exp_{number}") for number in range(1, 5)]
        assert [one.outcome for one in outcomes if one] == [
            "verified",
            "failed",
            "unknown",
            "rated",
        ]
        first = outcomes[0]
        assert first is not None
        assert (first.tools, first.lesson, first.created) == (("read_file",), "Ask twice.", WHEN)
        run = store.runs.get("run_1")
        assert run is not None and run.status == "succeeded"


def test_a_store_of_the_first_release_is_searched_by_words_and_vectors(first_form: str) -> None:
    with MemoryStore(first_form) as store:
        hits = store.recall("naive teas", limit=1)
        assert [hit.memory.id for hit in hits] == ["mem_tea"]
        with store._database.read() as connection:
            query = text("SELECT row FROM embeddings ORDER BY row")
            assert connection.execute(query).scalars().all() == [1, 2, 3]
            stored = connection.execute(
                EmbeddingRow.__table__.select().order_by(EmbeddingRow.row)
            ).all()
        assert [one.vector for one in stored] == [unit(number).tobytes() for number in (2, 3, 4)]
        kept = store.remember("Bob likes coffee")
        assert [hit.memory.id for hit in store.recall("who likes coffee", limit=1)] == [kept.id]
        assert store.forget("mem_new") and store.get("mem_old") is None


def test_what_is_no_vector_does_not_become_one(empty_postgres_url: str) -> None:
    first_form = make_first_form(empty_postgres_url)
    with connected(first_form) as connection:
        bad = np.full(256, np.nan, dtype=np.float32).tobytes()
        connection.execute(text("UPDATE embeddings SET vector = :bad WHERE row = 1"), {"bad": bad})
        cut = text("UPDATE embeddings SET vector = :bad WHERE row = 2")
        connection.execute(cut, {"bad": b"x" * 7})
    with MemoryStore(first_form) as store:
        assert store.recall("seven berths", limit=1)[0].memory.id == "mem_new"
        with store._database.read() as connection:
            found = connection.execute(EmbeddingRow.__table__.select()).all()
        assert {len(one.vector) for one in found} == {1024}


def test_a_migration_that_fails_leaves_the_old_form_as_it_was(first_form: str) -> None:
    def form() -> tuple[object, ...]:
        with connected(first_form) as connection:
            found = inspect(connection)
            columns = [column["name"] for column in found.get_columns("memories")]
            version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            rows = connection.execute(text("SELECT id, text FROM memories ORDER BY row")).all()
            return sorted(found.get_table_names()), columns, version, rows

    with connected(first_form) as connection:
        connection.execute(text("CREATE TABLE sketches (stranger INTEGER)"))
    before = form()
    with pytest.raises(StorageError, match="sketches"):
        MemoryStore(first_form)
    assert form() == before and before[2] == "0001"
    with connected(first_form) as connection:
        connection.execute(text("DROP TABLE sketches"))
    with MemoryStore(first_form) as store:
        assert store.stats().memories == 2


def test_migrations_end_at_the_tables_of_the_schema(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ischema_names, "vector", PgVector)
    MemoryStore(url).close()
    with connected(url) as connection:

        def ours(thing: object, name: str | None, kind: str, *rest: object) -> bool:
            return name not in DERIVED and not (kind == "table" and "_fts" in (name or ""))

        context = MigrationContext.configure(
            connection, opts={"include_object": ours, "compare_type": True}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_head_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(config()).get_heads() == [HEAD]


def test_opening_again_changes_nothing_and_keeps_everything(url: str) -> None:
    with MemoryStore(url) as store:
        kept = store.remember("still here")
    with MemoryStore(url) as store:
        assert store.get(kept.id) == kept


@pytest.mark.parametrize("target", RELEASED[:-1])
def test_an_older_form_can_be_gone_back_to(url: str, target: str) -> None:
    with MemoryStore(url) as store:
        kept = store.remember("still here")
    with connected(url) as connection:
        command.downgrade(config(connection), target)
    with MemoryStore(url) as store:
        again = store.get(kept.id)
        assert again is not None and again.text == "still here"
        assert store.recall("still here")[0].memory.id == kept.id


def test_everything_can_be_undone(url: str) -> None:
    MemoryStore(url).close()
    with connected(url) as connection:
        command.downgrade(config(connection), "base")
        left = set(inspect(connection).get_table_names()) - {"alembic_version"}
    assert left == set()
    MemoryStore(url).close()


def test_another_programs_memories_are_left_alone(empty_url: str) -> None:
    with connected(empty_url) as connection:
        connection.execute(text("CREATE TABLE memories (id INTEGER)"))
    with pytest.raises(StorageError, match="is not a Ryzanstein database") as caught:
        MemoryStore(empty_url)
    assert "another database" in caught.value.hint
    with connected(empty_url) as connection:
        assert inspect(connection).get_table_names() == ["memories"]


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("abcdef", "is not a Ryzanstein database: its version 'abcdef' is none of ours"),
        ("1975ea83b712", "is not a Ryzanstein database"),
        ("0005", "was written by a newer version of Ryzanstein"),
    ],
)
def test_only_versions_of_ours_can_be_newer(url: str, version: str, says: str) -> None:
    MemoryStore(url).close()
    with connected(url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": version})
    with pytest.raises(StorageError, match=says) as caught:
        MemoryStore(url)
    assert caught.value.hint
