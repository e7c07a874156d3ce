from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from ryzanstein.memory.migrations import HEAD
from ryzanstein.memory.schema import Base
from ryzanstein.memory.store import MemoryStore


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", "ryzanstein.memory:migrations")
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def test_migrations_end_at_the_tables_of_the_schema(url: str) -> None:
    MemoryStore(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:

        def ours(thing: object, name: str | None, kind: str, *rest: object) -> bool:
            return not (kind == "table" and "_fts" in (name or ""))

        context = MigrationContext.configure(
            connection, opts={"include_object": ours, "compare_type": True}
        )
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_head_is_the_newest_migration() -> None:
    assert scripts().get_heads() == [HEAD]


def test_opening_again_changes_nothing_and_keeps_everything(url: str) -> None:
    with MemoryStore(url) as store:
        kept = store.remember("still here")
    with MemoryStore(url) as store:
        assert store.get(kept.id) == kept


def test_the_last_migration_can_be_undone(sqlite_url: str) -> None:
    url = sqlite_url
    from alembic import command

    MemoryStore(url).close()
    config = Config()
    config.set_main_option("script_location", "ryzanstein.memory:migrations")
    config.set_main_option("path_separator", "os")
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
        left = set(names.scalars()) - {"sqlite_sequence", "alembic_version"}
    engine.dispose()
    assert left == set()
    MemoryStore(url).close()
