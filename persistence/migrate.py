"""Migrating the schema, printing the SQL for it, and telling whether a database has the schema that this code needs."""

from __future__ import annotations

import io
import threading
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from psycopg import errors as pg
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from callboard.actors.errors import SchemaMismatch, SchemaMissing, ServerTooOld

from .engine import make_sync_engine, readable_errors, sqlstate
from .schema import OLDEST_SERVER

if TYPE_CHECKING:
    from alembic.config import Config

REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011")
"""Every revision, oldest first; the last is the one that this code needs."""

LOCK_TIMEOUT_SECONDS: Final = 5.0
"""How long a migration waits for a lock before it lets everybody else go first."""
LOCK_ROUNDS: Final = 6
"""How often it tries to get them all."""
_LOST_A_LOCK: Final = (pg.LockNotAvailable.sqlstate, pg.DeadlockDetected.sqlstate)

_VERSION_TABLE: Final = "schema_version"

_one_at_a_time = threading.Lock()
"""Alembic's environment is global to the process: two threads would run each other's migrations."""


class SchemaState(StrEnum):
    """What a database has, measured by this code."""

    MISSING = "missing"
    OLDER = "older"
    CURRENT = "current"
    NEWER = "newer"


def migrate(url: str, *, schema: str = "callboard") -> None:
    """Bring a database's schema to this code's revision; nothing happens where it is there already.

    Safe from several nodes at once: one works, the others wait for it. All or nothing. Safe beside workers that go on:
    a table that others hold is waited for only briefly, as whoever comes later would wait behind, and tried again.

    Args:
        url: ``postgresql://…`` of a role that may create the schema; past any transaction-mode pooler.
        schema: the schema of Callboard's tables.

    Raises:
        StoreUnavailable: the server cannot be reached, or others hold what is to be changed and do not let it go.
        ServerTooOld: it is older than PostgreSQL 14.
        SchemaMismatch: the database's schema is newer than this code.
    """
    with _one_at_a_time, readable_errors("migrate"), make_sync_engine(url).connect() as connection:
        require_server(connection)
        connection.rollback()
        patience = Retrying(
            retry=retry_if_exception(_lost_a_lock),
            wait=wait_random_exponential(max=5),
            stop=stop_after_attempt(LOCK_ROUNDS),
            before_sleep=lambda _: connection.rollback(),
            reraise=True,
        )
        patience(_upgrade, connection, schema)


def _upgrade(connection: sa.Connection, schema: str) -> None:
    def require_not_newer() -> None:
        state, revision = read_state(connection, schema)
        if state is SchemaState.NEWER:
            raise _mismatch(state, revision, schema)

    configuration = _configuration(schema)
    configuration.attributes.update(connection=connection, require_not_newer=require_not_newer)
    _command().upgrade(configuration, "head")
    connection.commit()


def _lost_a_lock(error: BaseException) -> bool:
    return isinstance(error, sa.exc.DBAPIError) and sqlstate(error.orig or error) in _LOST_A_LOCK


def migration_sql(*, schema: str = "callboard") -> str:
    """Return the SQL of all revisions, for a database that has none yet, to be read and run by hand (``psql -f``)."""
    output = io.StringIO()
    configuration = _configuration(schema)
    configuration.output_buffer = output
    with _one_at_a_time:
        _command().upgrade(configuration, "head", sql=True)
    return output.getvalue()


def check_schema(connection: sa.Connection, schema: str) -> None:
    """Make sure that this code can work with a database.

    Raises:
        ServerTooOld: the server is older than PostgreSQL 14.
        SchemaMissing: there is no schema yet.
        SchemaMismatch: it is older or newer than this code; the message says which and what to do.
    """
    require_server(connection)
    state, revision = read_state(connection, schema)
    if state is SchemaState.MISSING:
        raise SchemaMissing(f"the database has no schema {schema!r} of Callboard's: run `callboard migrate`")
    if state is not SchemaState.CURRENT:
        raise _mismatch(state, revision, schema)


def schema_state(url: str, *, schema: str = "callboard") -> tuple[SchemaState, str | None]:
    """Return what a database has, and its revision, like ``read_state``; changes nothing.

    Args:
        url: as for ``migrate``.
        schema: the schema of Callboard's tables.

    Raises:
        StoreUnavailable: the server cannot be reached.
        ServerTooOld: it is older than PostgreSQL 14.
    """
    with readable_errors("read the schema's revision"), make_sync_engine(url).connect() as connection:
        require_server(connection)
        return read_state(connection, schema)


def read_state(connection: sa.Connection, schema: str) -> tuple[SchemaState, str | None]:
    """Return what the database has, and its revision."""
    table = f'"{schema}".{_VERSION_TABLE}'
    if connection.scalar(sa.text("SELECT to_regclass(:table)"), {"table": table}) is None:
        return SchemaState.MISSING, None
    revision = connection.scalar(sa.text(f"SELECT version_num FROM {table}"))
    if revision is None:
        return SchemaState.MISSING, None
    if revision not in REVISIONS:
        return SchemaState.NEWER, revision
    return (SchemaState.CURRENT if revision == REVISIONS[-1] else SchemaState.OLDER), revision


def require_server(connection: sa.Connection) -> None:
    """Make sure that the server is new enough.

    Raises:
        ServerTooOld: it is not.
    """
    version = int(connection.scalar(sa.text("SELECT current_setting('server_version_num')")) or 0)
    if version // 10_000 < OLDEST_SERVER:
        raise ServerTooOld(
            f"the server is PostgreSQL {version // 10_000}; Callboard needs {OLDEST_SERVER} or newer: "
            f"upgrade the server"
        )


def _mismatch(state: SchemaState, revision: str | None, schema: str) -> SchemaMismatch:
    advice = (
        "a newer Callboard has migrated it: install that version here"
        if state is SchemaState.NEWER
        else "run `callboard migrate`"
    )
    return SchemaMismatch(
        f"the schema {schema!r} is at revision {revision}, {state} than this code's {REVISIONS[-1]}; {advice}"
    )


def _command() -> Any:
    """Return Alembic, which is imported where it is used: every worker checks its schema, and none migrates."""
    from alembic import command

    return command


def _configuration(schema: str) -> Config:
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    configuration.attributes.update(schema=schema, lock_timeout=f"{LOCK_TIMEOUT_SECONDS * 1000:.0f}ms")
    return configuration
