"""Alembic's entry: runs inside the connection and the transaction that the store opened."""

from alembic import context

from ryzanstein.memory.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table_schema=context.config.attributes.get("schema"),
    # SQLite alters tables by copying them.
    render_as_batch=True,
)
context.run_migrations()
