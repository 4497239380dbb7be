"""Alembic's environment. It is only run by ``persistence/migrate.py``, which passes connection and schema."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

schema: str = context.config.attributes["schema"]
connection = context.config.attributes.get("connection")

STATEMENT_TIMEOUT = "1h"
"""For one statement, such as an index on a large table, and for waiting for another node's migration."""
LOCK_TIMEOUT: str = context.config.attributes["lock_timeout"]

context.configure(
    connection=connection,
    dialect_name=None if connection is not None else "postgresql",
    version_table="schema_version",
    version_table_schema=schema,
    # One transaction for all: a database is never left between two revisions.
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
    # Two nodes that start at once: the second waits here, then finds that there is nothing left to do.
    context.execute(text(f"SELECT pg_advisory_xact_lock(hashtextextended('callboard migrate {schema}', 0))"))
    # From here on, rather give up than hold up everybody: whoever waits for a table's lock, others wait behind.
    context.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    if connection is not None:
        context.config.attributes["require_not_newer"]()
    context.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
    context.run_migrations()
