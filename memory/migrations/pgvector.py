"""PostgreSQL's side of the migrations: vectors in pgvector's type, words in tsvector columns.

The words of a text are what FTS5's `porter unicode61 remove_diacritics` makes of it: everything but
letters and digits separates, accents go, English endings go, and no word is left out. A tsvector
holds 1 MB, which 100,000 characters cannot fill.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from ryzanstein.memory.postgres import PgVector

__all__ = [
    "available",
    "drop_full_text",
    "drop_words",
    "make_full_text",
    "make_words",
    "vectors_to",
]

_BATCH = 1_000
_LONGEST = 100_000
# The letters' own marks are split off by NFKD and dropped.
_PLAIN = f"""
CREATE FUNCTION ryzanstein_plain(body text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN regexp_replace(
    regexp_replace(
        left(normalize(left(body, {_LONGEST}), NFKD), {_LONGEST}), '[\u0300-\u036f]', '', 'g'
    ),
    '[\x01-/:-@[-`{{-\x7f]+', ' ', 'g'
)
"""
_FUNCTIONS = {
    "ryzanstein_words": ("tsvector", "to_tsvector"),
    "ryzanstein_query": ("tsquery", "phraseto_tsquery"),
}


def available() -> bool:
    """Says whether this database is PostgreSQL."""
    return op.get_bind().dialect.name == "postgresql"


def make_words() -> None:
    """Makes what splits texts into words: ryzanstein_words(text) and ryzanstein_query(word)."""
    _run("CREATE TEXT SEARCH DICTIONARY ryzanstein (TEMPLATE = snowball, LANGUAGE = english)")
    _run("CREATE TEXT SEARCH CONFIGURATION ryzanstein (COPY = pg_catalog.simple)")
    _run(
        "ALTER TEXT SEARCH CONFIGURATION ryzanstein "
        "ALTER MAPPING FOR asciiword, word WITH ryzanstein"
    )
    _run(_PLAIN)
    for name, (kind, function) in _FUNCTIONS.items():
        _run(
            f"CREATE FUNCTION {name}(body text) RETURNS {kind} "
            "LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE "
            f"RETURN {function}('ryzanstein', ryzanstein_plain(body))"
        )


def drop_words() -> None:
    """Removes them again."""
    for name in (*_FUNCTIONS, "ryzanstein_plain"):
        _run(f"DROP FUNCTION {name}(text)")
    _run("DROP TEXT SEARCH CONFIGURATION ryzanstein")
    _run("DROP TEXT SEARCH DICTIONARY ryzanstein")


def make_full_text(table: str, columns: Mapping[str, str]) -> None:
    """Adds an indexed column `words` that the server derives from others.

    Args:
        table: Its name.
        columns: Weight, A to D, by column.
    """
    parts = " || ".join(
        f"setweight(ryzanstein_words(coalesce({column}, '')), '{weight}')"
        for column, weight in columns.items()
    )
    _run(f"ALTER TABLE {table} ADD COLUMN words tsvector GENERATED ALWAYS AS ({parts}) STORED")
    _run(f"CREATE INDEX ix_{table}_words ON {table} USING gin (words)")


def drop_full_text(table: str) -> None:
    """Removes the column and its index."""
    _run(f"ALTER TABLE {table} DROP COLUMN words")


def vectors_to(kind: type[PgVector | sa.LargeBinary]) -> None:
    """Changes the type of embeddings.vector; vectors that are none are dropped."""
    old: sa.types.TypeEngine[Any] = sa.LargeBinary() if kind is PgVector else PgVector()
    op.add_column("embeddings", sa.Column("changed", kind()))
    table = sa.table(
        "embeddings",
        sa.column("row"),
        sa.column("dimension"),
        sa.column("vector", old),
        sa.column("changed", kind()),
    )
    bind = op.get_bind()
    change = (
        sa.update(table)
        .where(table.c.row == sa.bindparam("at"))
        .values(changed=sa.bindparam("value", type_=kind()))
    )
    rows = bind.execute(sa.select(table.c.row).order_by(table.c.row)).scalars().all()
    for start in range(0, len(rows), _BATCH):
        part = sa.select(table.c.row, table.c.dimension, table.c.vector).where(
            table.c.row.in_(rows[start : start + _BATCH])
        )
        values = [
            {"at": row, "value": vector}
            for row, dimension, vector in bind.execute(part)
            if _sound(vector, dimension)
        ]
        if values:
            bind.execute(change, values)
    bind.execute(sa.delete(table).where(table.c.changed.is_(None)))
    op.drop_column("embeddings", "vector")
    op.alter_column("embeddings", "changed", new_column_name="vector", nullable=False)


def _sound(vector: bytes, dimension: int) -> bool:
    if len(vector) != 4 * dimension:
        return False
    return all(map(math.isfinite, struct.unpack(f"<{dimension}f", vector)))


def _run(statement: str) -> None:
    op.get_bind().exec_driver_sql(statement)
