"""URLs, and driver errors as ours."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors as pg
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncConnection

from callboard.actors.errors import ConfigurationError, SchemaMissing, StoreError, StoreUnavailable, ValueNotStorable
from callboard.actors.ports import NoTelemetry
from callboard.actors.settings import Settings
from callboard.persistence import stores
from callboard.persistence.engine import (
    behind_pooler,
    connect_arguments,
    direct_url,
    driver_conninfo,
    make_engine,
    readable_errors,
)

POOLER = "postgresql://u@pooler:6432/d"
SERVER = "postgresql://u@server:5432/d"


def test_without_a_url_the_message_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALLBOARD_DATABASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match="set CALLBOARD_DATABASE_URL"):
        stores.postgres(Settings(), NoTelemetry())


def test_two_urls_mean_a_pooler() -> None:
    assert behind_pooler(Settings(database_url=POOLER, direct_database_url=SERVER))
    assert not behind_pooler(Settings(database_url=SERVER, direct_database_url=SERVER))
    assert not behind_pooler(Settings(database_url=SERVER, direct_database_url=None))
    assert direct_url(Settings(database_url=POOLER, direct_database_url=SERVER)) == SERVER


@pytest.mark.postgres
async def test_the_pool_hands_out_the_connection_that_came_back_last(database_url: str) -> None:
    """So that what runs again and again finds its prepared statements."""
    engine = make_engine(Settings(database_url=database_url, direct_database_url=database_url))
    try:
        async with engine.connect() as first, engine.connect() as second:
            pids = [await backend_pid(connection) for connection in (first, second)]
        for _ in range(3):
            async with engine.connect() as again:
                assert await backend_pid(again) == pids[0]
    finally:
        await engine.dispose()


async def backend_pid(connection: AsyncConnection) -> int:
    return (await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()


def test_behind_a_pooler_there_are_no_start_up_options() -> None:
    arguments = connect_arguments(application_name="test", statement_timeout_seconds=None)
    assert "options" not in arguments
    assert arguments["keepalives"] == 1


def test_the_time_limit_of_statements_is_in_milliseconds() -> None:
    options = connect_arguments(application_name="test", statement_timeout_seconds=1.5)["options"]
    assert "statement_timeout=1500" in options


@pytest.mark.parametrize(
    "url", ["postgres://u:p%40@h/d", "postgresql+psycopg://u:p%40@h/d", "postgresql+asyncpg://u:p%40@h/d"]
)
def test_psycopg_gets_a_url_of_its_own(url: str) -> None:
    assert driver_conninfo(url) == "postgresql://u:p%40@h/d"


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (psycopg.OperationalError("gone"), StoreUnavailable, "cannot be reached, or the connection was lost"),
        (psycopg.InterfaceError("closed"), StoreUnavailable, "connection was lost"),
        (pg.AdminShutdown("bye"), StoreUnavailable, "bye"),
        (pg.QueryCanceled("slow"), StoreUnavailable, "time limit"),
        (pg.TooManyConnections("full"), StoreUnavailable, "run out of a resource"),
        (pg.DiskFull("disk"), StoreUnavailable, "run out of a resource"),
        (pg.CannotConnectNow("starting up"), StoreUnavailable, "stops, starts or recovers"),
        (pg.CrashShutdown("crash"), StoreUnavailable, "stops, starts or recovers"),
        (pg.ReadOnlySqlTransaction("read-only"), StoreUnavailable, "a primary that was demoted"),
        (pg.InFailedSqlTransaction("aborted"), StoreUnavailable, "cannot go on"),
        (pg.SerializationFailure("concurrent"), StoreUnavailable, "lost against others"),
        (pg.DeadlockDetected("circle"), StoreUnavailable, "lost against others"),
        (pg.LockNotAvailable("locked"), StoreUnavailable, "hold a lock"),
        (pg.IoError("disk"), StoreUnavailable, "machine failed"),
        (ConnectionRefusedError("no"), StoreUnavailable, "cannot be reached"),
        (exc.TimeoutError("pool"), StoreUnavailable, "CALLBOARD_PG_POOL_SIZE"),
        (pg.UndefinedTable("jobs"), SchemaMissing, "callboard migrate"),
        (pg.InvalidTextRepresentation("json"), ValueNotStorable, "nothing was written"),
        (pg.InsufficientPrivilege("permission denied"), StoreError, "permission denied"),
        (pg.CheckViolation("history_edge"), ValueNotStorable, "history_edge"),
        (pg.StatementTooComplex("depth"), ValueNotStorable, "nothing was written"),
        (pg.RaiseException("a trigger"), ValueNotStorable, "a trigger"),
        (psycopg.DataError("NUL"), ValueNotStorable, "nothing was written"),
        (pg.InternalError_("a defect"), StoreError, "a defect"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
@pytest.mark.parametrize("wrapped", [False, True], ids=["psycopg", "sqlalchemy"])
def test_errors_say_what_was_tried_and_what_to_do(
    error: Exception, expected: type[StoreError], message: str, wrapped: bool
) -> None:
    raised = exc.DBAPIError("SELECT 1", None, error) if wrapped and isinstance(error, psycopg.Error) else error
    with pytest.raises(expected, match=message) as caught, readable_errors("claim"):
        raise raised
    assert type(caught.value) is expected
    assert str(caught.value).startswith("claim: ")


def test_errors_of_other_drivers_are_told_by_their_code() -> None:
    class OtherDriversError(Exception):
        pgcode = "25006"

    with pytest.raises(StoreUnavailable, match="demoted"), readable_errors("spawn"):
        raise exc.DBAPIError("SELECT 1", None, OtherDriversError("read-only"))


@pytest.mark.parametrize("error", [pg.SerializationFailure("concurrent"), pg.InFailedSqlTransaction("aborted")])
def test_only_the_caller_can_repeat_a_callers_transaction(error: Exception) -> None:
    expected = "spawn: your transaction, .* roll it back and run it again"
    with pytest.raises(StoreUnavailable, match=expected), readable_errors("spawn", callers_transaction=True):
        raise error


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), readable_errors("claim"):
        raise ZeroDivisionError
