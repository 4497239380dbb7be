"""Engines, their URLs, and the one place where driver errors become ours."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Container, Iterator
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import errors as pg
from sqlalchemy import exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from callboard.actors.errors import ConfigurationError, SchemaMissing, StoreError, StoreUnavailable, ValueNotStorable
from callboard.actors.settings import Settings

from .bounded_connection import BoundedAsyncConnection, answer_limit_seconds, connect_bounded

_KEEPALIVES: Final = {"keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 3, "keepalives_count": 3}
_USER_TIMEOUT: Final = {"tcp_user_timeout": 14_000}
"""Together: a cut network is noticed within 14 s instead of the operating system's quarter of an hour or two hours."""

CONNECT_TIMEOUT_SECONDS: Final = 5


def sqlalchemy_url(url: str) -> URL:
    """Return a user's URL (``postgresql://`` or ``postgres://``) with the driver that we use.

    Raises:
        ConfigurationError: it is no PostgreSQL URL.
    """
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise ConfigurationError(
            "the database URL cannot be parsed; expected postgresql://user:password@host:port/database"
        ) from error
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise ConfigurationError(
            f"the database URL begins with {parsed.drivername}://; Callboard needs PostgreSQL: postgresql://…"
        )
    return parsed.set(drivername="postgresql+psycopg")


def driver_conninfo(url: str) -> str:
    """Return a user's URL as psycopg itself takes it."""
    return sqlalchemy_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def pool_url(settings: Settings) -> str:
    """Return the URL that the pool connects to.

    Raises:
        ConfigurationError: there is none.
    """
    if settings.database_url is None:
        raise ConfigurationError("no database: set CALLBOARD_DATABASE_URL (or pass database_url) to postgresql://…")
    return settings.database_url.get_secret_value()


def direct_url(settings: Settings) -> str:
    """Return the URL for sessions of our own (LISTEN): ``direct_database_url``, or else the pool's."""
    if settings.direct_database_url is not None:
        return settings.direct_database_url.get_secret_value()
    return pool_url(settings)


def behind_pooler(settings: Settings) -> bool:
    """Tell whether the pool's URL leads through a pooler: then there is another, direct one beside it."""
    return direct_url(settings) != pool_url(settings)


def connect_arguments(*, application_name: str, statement_timeout_seconds: float | None) -> dict[str, Any]:
    """Return psycopg's keyword arguments for a connection of ours.

    Args:
        application_name: how ``pg_stat_activity`` shows it.
        statement_timeout_seconds: None leaves the server's setting, as one must behind a pooler, which refuses or
            ignores start-up options.
    """
    arguments: dict[str, Any] = {
        "application_name": application_name,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        **_KEEPALIVES,
        **_USER_TIMEOUT,
    }
    if statement_timeout_seconds is not None:
        limit = int(statement_timeout_seconds * 1000)
        options = {
            "TimeZone": "UTC",
            "jit": "off",
            "statement_timeout": limit,
            # What the server does with a session whose client is gone without a word: its locks must not outlive it.
            "idle_in_transaction_session_timeout": limit,
            **{f"tcp_{name}": value for name, value in _KEEPALIVES.items() if name != "keepalives"},
            **_USER_TIMEOUT,
        }
        arguments["options"] = " ".join(f"-c {name}={value}" for name, value in options.items())
    return arguments


def make_engine(settings: Settings) -> AsyncEngine:
    """Return the pool's engine. It connects when first used.

    Connections are in autocommit mode: one statement is one transaction and one round trip; what needs several
    statements opens a transaction. Behind a transaction-mode pooler no session state is left on a connection:
    server-side prepared statements are off there (``prepare_threshold=None``), and so is our statement timeout.
    """
    pooler = behind_pooler(settings)
    arguments = connect_arguments(
        application_name="callboard",
        statement_timeout_seconds=None if pooler else settings.statement_timeout_seconds,
    )
    engine = create_async_engine(
        sqlalchemy_url(pool_url(settings)),
        isolation_level="AUTOCOMMIT",
        pool_size=settings.pg_pool_size,
        max_overflow=settings.pg_max_overflow,
        pool_timeout=settings.pg_pool_timeout,
        pool_recycle=settings.pg_pool_recycle,
        pool_use_lifo=True,  # few connections do nearly all: theirs are the prepared statements and the warm caches
        connect_args={
            **arguments,
            "prepare_threshold": None if pooler else 5,
            "async_creator_fn": functools.partial(
                connect_bounded, answer_limit_seconds=answer_limit_seconds(settings.statement_timeout_seconds)
            ),
        },
    )
    return engine.execution_options(schema_translate_map={None: settings.database_schema})


async def connect_alike(settings: Settings) -> BoundedAsyncConnection:
    """Open a connection to where the pool's lead, and not of the pool."""
    return await connect_bounded(
        driver_conninfo(pool_url(settings)),
        answer_limit_seconds=answer_limit_seconds(settings.statement_timeout_seconds),
        autocommit=True,
        **connect_arguments(application_name="callboard", statement_timeout_seconds=None),
    )


def make_sync_engine(url: str) -> sa.Engine:
    """Return an engine without a pool, for migrations and checks."""
    return sa.create_engine(
        sqlalchemy_url(url),
        poolclass=sa.NullPool,
        connect_args=connect_arguments(application_name="callboard migrate", statement_timeout_seconds=None),
    )


_OPTIONS_REFUSED: Final = "unsupported startup parameter"
"""What pgbouncer says."""

_SCHEMA_STATES = frozenset(
    error.sqlstate for error in (pg.UndefinedTable, pg.InvalidSchemaName, pg.UndefinedFunction, pg.UndefinedColumn)
)

_PASSING = {
    "08": "the connection was lost",
    "25006": "the server accepts no writes: a standby, or a primary that was demoted",
    "25": "the transaction cannot go on",
    "40": "the transaction lost against others",
    "53": "the server has run out of a resource",
    "55006": "others use what the statement needs",
    "55P03": "others hold a lock that the statement needs",
    "57014": "the statement was ended by its time limit or by hand",
    "57": "the connection was lost: the server stops, starts or recovers, or an administrator ended it",
    "58": "the server's machine failed",
}
"""SQLSTATEs, and classes of them, that say nothing about the data: the same statement may succeed later.

Source: PostgreSQL, appendix A "Error Codes".
"""

_ABOUT_DATA = frozenset({"22", "23", "44", "54", "P0001"})
"""Data exceptions, integrity, check options, program limits (size, nesting), and a trigger that refuses a row."""


@contextlib.contextmanager
def readable_errors(operation: str, *, callers_transaction: bool = False) -> Iterator[None]:
    """Turn errors of drivers and of SQLAlchemy into ours.

    Args:
        operation: what was tried; every message begins with it.
        callers_transaction: whether it was tried in a transaction of the caller's, which only the caller can repeat.

    Raises:
        StoreUnavailable: unreachable, lost on the way, no free connection, the statement took too long, or the server
            refuses for now: another try may succeed.
        ValueNotStorable: a value does not fit. Nothing was written.
        ConfigurationError: a pooler refuses what it was asked for.
        SchemaMissing: a table of ours is not there.
        StoreError: anything else that the database refused.
    """
    try:
        yield
    except exc.TimeoutError as error:
        raise StoreUnavailable(
            f"{operation}: no connection of the pool became free in time; raise CALLBOARD_PG_POOL_SIZE, "
            f"or look for transactions that are left open ({error})"
        ) from error
    except exc.DBAPIError as error:
        _refuse_pooler(operation, error)
        raise _translated(operation, error.orig or error, callers_transaction) from error
    except (psycopg.Error, OSError, UnicodeEncodeError) as error:
        _refuse_pooler(operation, error)
        raise _translated(operation, error, callers_transaction) from error


def _refuse_pooler(operation: str, error: BaseException) -> None:
    if _OPTIONS_REFUSED in str(error):
        raise ConfigurationError(
            f"{operation}: the database URL leads through a pooler that refuses start-up options: set "
            f"CALLBOARD_DIRECT_DATABASE_URL to the server itself, or to a session-mode pool; or, if this one is in "
            f"session mode, let it ignore them (pgbouncer: ignore_startup_parameters = options)"
        ) from error


def sqlstate(error: BaseException) -> str:
    """Return the SQLSTATE that a server gave to an error, whatever driver it came by; empty where it has none."""
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or ""


def is_passing(error: BaseException) -> bool:
    """Tell whether a server's error says nothing about the data, so that another try may succeed."""
    return _listed(sqlstate(error), _PASSING) is not None


def _listed(state: str, states: Container[str]) -> str | None:
    """Return the state, or else its class, where it is among ``states``."""
    return next((entry for entry in (state, state[:2]) if entry in states), None)


def _translated(operation: str, error: BaseException, callers_transaction: bool) -> StoreError:
    message = " ".join(str(error).split())
    state = sqlstate(error)
    if state in _SCHEMA_STATES:
        return SchemaMissing(f"{operation}: {message}; run `callboard migrate`")
    if callers_transaction and state[:2] in {"25", "40"}:
        return StoreUnavailable(
            f"{operation}: your transaction, in which the jobs were to be written, has failed ({message}); roll it "
            f"back and run it again from its beginning"
        )
    passing = _listed(state, _PASSING)
    if passing is not None:
        return StoreUnavailable(f"{operation}: {_PASSING[passing]} ({message}); another try may succeed")
    if _listed(state, _ABOUT_DATA) or isinstance(error, psycopg.DataError | UnicodeEncodeError):
        return ValueNotStorable(f"{operation}: PostgreSQL cannot store a value ({message}); nothing was written")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OSError):
        return StoreUnavailable(
            f"{operation}: the database cannot be reached, or the connection was lost ({message}); "
            f"check CALLBOARD_DATABASE_URL and the server"
        )
    return StoreError(f"{operation}: {message}")
