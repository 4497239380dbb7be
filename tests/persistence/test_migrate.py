"""Migrating, and telling what a database has."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from callboard.actors.errors import ConfigurationError, SchemaMismatch, SchemaMissing, ServerTooOld, StoreUnavailable
from callboard.actors.ports import NoTelemetry
from callboard.actors.settings import Settings
from callboard.persistence import migrate as module
from callboard.persistence.engine import make_sync_engine, sqlalchemy_url
from callboard.persistence.migrate import REVISIONS, SchemaState, check_schema, migrate, migration_sql, read_state
from callboard.persistence.postgres_store import PostgresStore


def state(url: str, schema: str = "callboard") -> SchemaState:
    with make_sync_engine(url).connect() as connection:
        return read_state(connection, schema)[0]


def execute(url: str, sql: str) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else None


def described(url: str, schema: str) -> list[Any]:
    """Columns, constraints, indexes, triggers and functions of a schema, without its name."""
    queries = (
        """SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
           WHERE table_schema = '{0}' ORDER BY 1, ordinal_position""",
        """SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = '{0}'::regnamespace
           ORDER BY 1, 2""",
        """SELECT indexdef FROM pg_indexes WHERE schemaname = '{0}' ORDER BY 1""",
        """SELECT tgrelid::regclass::text, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
           AND tgrelid::regclass::text LIKE '{0}.%' ORDER BY 1, 2""",
        """SELECT proname, prosrc FROM pg_proc WHERE pronamespace = '{0}'::regnamespace ORDER BY 1""",
    )
    return [str(execute(url, query.format(schema))).replace(schema, "SCHEMA").replace('"', "") for query in queries]


def test_a_migrated_database_is_current(empty_database_url: str) -> None:
    assert state(empty_database_url) is SchemaState.MISSING
    migrate(empty_database_url)
    assert state(empty_database_url) is SchemaState.CURRENT


def test_migrating_again_changes_nothing(database_url: str) -> None:
    before = described(database_url, "callboard")
    migrate(database_url)
    assert described(database_url, "callboard") == before


@pytest.mark.parametrize("schema", ["other", "user"])
def test_a_schema_of_another_name(empty_database_url: str, schema: str) -> None:
    migrate(empty_database_url, schema=schema)
    assert state(empty_database_url, schema) is SchemaState.CURRENT
    assert state(empty_database_url) is SchemaState.MISSING
    assert execute(empty_database_url, "SELECT to_regclass('public.schema_version')") == [(None,)]


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_the_usual_spellings_of_a_url(empty_database_url: str, scheme: str) -> None:
    rest = empty_database_url.partition("://")[2]
    migrate(f"{scheme}://{rest}")
    assert state(empty_database_url) is SchemaState.CURRENT


@pytest.mark.parametrize("url", ["mysql://here/db", "sqlite:///file", "not a url", ""])
def test_a_url_that_is_not_postgresqls(url: str) -> None:
    with pytest.raises(ConfigurationError, match="postgresql://"):
        migrate(url)


NODE = """
import sys
from callboard.persistence.migrate import migrate
print("ready", flush=True)
sys.stdin.readline()
migrate(sys.argv[1])
"""


@pytest.mark.processes
def test_nodes_that_migrate_at_once(empty_database_url: str) -> None:
    command = [sys.executable, "-c", NODE, empty_database_url]
    nodes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [node.stdout.readline() for node in nodes if node.stdout] == ["ready\n"] * 4
    for node in nodes:
        assert node.stdin is not None
        node.stdin.write("go\n")
        node.stdin.flush()
    for node in nodes:
        node.communicate(timeout=60)
        assert node.returncode == 0
    assert state(empty_database_url) is SchemaState.CURRENT
    assert execute(empty_database_url, "SELECT count(*) FROM callboard.schema_version") == [(1,)]


def test_threads_that_migrate_at_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [empty_database_url] * 4))
    assert state(empty_database_url) is SchemaState.CURRENT
    assert execute(empty_database_url, "SELECT count(*) FROM callboard.schema_version") == [(1,)]


@pytest.fixture
def holder(empty_database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Somebody whose transaction holds what a migration needs."""
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("CREATE SCHEMA callboard")
        yield connection


def test_a_migration_does_not_queue_for_a_lock(
    empty_database_url: str, holder: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(module, "LOCK_ROUNDS", 2)
    with pytest.raises(StoreUnavailable, match="others hold a lock"):
        migrate(empty_database_url)
    holder.rollback()
    assert state(empty_database_url) is SchemaState.MISSING


def test_a_migration_tries_again_until_the_lock_is_free(
    empty_database_url: str, holder: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_TIMEOUT_SECONDS", 0.05)
    rounds: list[int] = []
    upgrade = module._upgrade

    def counted(connection: sa.Connection, schema: str) -> None:
        rounds.append(len(rounds))
        if len(rounds) == 2:
            holder.rollback()
        upgrade(connection, schema)

    monkeypatch.setattr(module, "_upgrade", counted)
    migrate(empty_database_url)
    assert rounds == [0, 1]
    assert state(empty_database_url) is SchemaState.CURRENT


def test_all_jobs_are_held_to_every_constraint_in_the_end(database_url: str) -> None:
    """Migrations add some NOT VALID, to read no large table under a lock: a later step must see to the rest."""
    unchecked = "SELECT conname FROM pg_constraint WHERE NOT convalidated AND conrelid = 'callboard.jobs'::regclass"
    assert execute(database_url, unchecked) == []


def test_migrations_set_their_limits() -> None:
    sql = migration_sql()
    assert "SET LOCAL statement_timeout = '1h'" in sql
    assert (
        sql.index("pg_advisory_xact_lock") < sql.index("SET LOCAL lock_timeout = '5000ms'") < sql.index("CREATE TABLE")
    )


def test_the_printed_sql_does_the_same(empty_database_url: str) -> None:
    migrate(empty_database_url, schema="online")
    execute(empty_database_url, migration_sql(schema="offline"))
    assert state(empty_database_url, "offline") is SchemaState.CURRENT
    assert described(empty_database_url, "offline") == described(empty_database_url, "online")


async def test_a_missing_schema_is_named_with_what_to_do(empty_database_url: str) -> None:
    with pytest.raises(SchemaMissing, match=r"no schema 'callboard' .* run `callboard migrate`"):
        await open_and_close(empty_database_url)
    assert execute(empty_database_url, "SELECT to_regnamespace('callboard')") == [(None,)]


async def test_a_newer_schema_refuses_this_code(database_url: str) -> None:
    execute(database_url, "UPDATE callboard.schema_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match=f"revision 9999, newer than this code's {REVISIONS[-1]}; .* install"):
        await open_and_close(database_url)
    with pytest.raises(SchemaMismatch, match="newer"):
        migrate(database_url)
    assert state(database_url) is SchemaState.NEWER


async def test_an_older_schema_says_to_migrate(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REVISIONS", (*REVISIONS, "9999"))
    assert state(database_url) is SchemaState.OLDER
    with pytest.raises(SchemaMismatch, match="older than this code's 9999; run `callboard migrate`"):
        await open_and_close(database_url)


def test_the_revisions_named_are_those_that_exist() -> None:
    from alembic.script import ScriptDirectory

    directory = ScriptDirectory.from_config(module._configuration("callboard"))
    assert tuple(script.revision for script in directory.walk_revisions())[::-1] == REVISIONS


def test_an_old_server_is_refused(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OLDEST_SERVER", 99)
    with pytest.raises(ServerTooOld, match=r"PostgreSQL \d+; Callboard needs 99 or newer"):
        migrate(empty_database_url)
    with make_sync_engine(empty_database_url).connect() as connection, pytest.raises(ServerTooOld):
        check_schema(connection, "callboard")
    assert state(empty_database_url) is SchemaState.MISSING


UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nothing"


def test_an_unreachable_server() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        migrate(UNREACHABLE)


async def test_a_store_whose_server_is_unreachable() -> None:
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await open_and_close(UNREACHABLE)


async def test_a_store_whose_database_does_not_exist(empty_database_url: str) -> None:
    url = make_url(empty_database_url).set(database="callboard_test_nowhere").render_as_string(hide_password=False)
    with pytest.raises(StoreUnavailable, match="callboard_test_nowhere"):
        await open_and_close(url)


def test_passwords_are_not_in_messages() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        migrate("postgresql://somebody:hunter2@127.0.0.1:1/nothing")
    assert "hunter2" not in str(caught.value)


def test_a_driver_url_keeps_everything_else() -> None:
    url = sqlalchemy_url("postgres://u:p%40ss@h:1/d?sslmode=require")
    assert isinstance(url, sa.URL)
    assert (url.drivername, url.password, url.query["sslmode"]) == ("postgresql+psycopg", "p@ss", "require")


async def open_and_close(url: str) -> None:
    store = PostgresStore(Settings(database_url=url), NoTelemetry())
    try:
        await store.open()
    finally:
        await store.close()
