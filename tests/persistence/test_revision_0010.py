"""A database with jobs in every state is brought from revision 0009 to 0010."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from callboard.actors.errors import StoreUnavailable
from callboard.actors.jobs.decide import Policy
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import Applied, AttemptKey, QueueDemand
from callboard.actors.ports import NoTelemetry
from callboard.actors.settings import Settings
from callboard.persistence import migrate as module
from callboard.persistence.engine import make_sync_engine
from callboard.persistence.migrate import migrate
from callboard.persistence.postgres_store import PostgresStore
from tests.contract.support import new_job

Connection = psycopg.Connection[Any]

# As 0009's own statements leave them. The running ones: one whose lease is over, one that goes on.
_JOBS = """
INSERT INTO callboard.jobs (id, kind, queue, arguments, max_attempts, status, token, attempt, node, lease_expires_at,
                            started_at, finished_at, newest_history, result, result_ttl_seconds, unique_key, turn,
                            delayed, run_at, tags, metadata, callback_url, parent_id, child_key, child_index)
VALUES (%(ended)s, 'kind', 'default', '{"a":  1}', 3, 'completed', 1, 1, 'old', NULL, now(), now(), 7, '[1]', 3600,
        NULL, NULL, false, now(), '{t}', '{"m": 1}', 'http://127.0.0.1/', NULL, NULL, NULL),
       (%(lost)s, 'kind', 'default', '{}', 3, 'running', 2, 1, 'old', now() - interval '1 s', now(), NULL, 8, NULL,
        NULL, NULL, NULL, false, now(), NULL, NULL, NULL, NULL, NULL, NULL),
       (%(kept)s, 'kind', 'default', '{}', 3, 'running', 2, 1, 'old', now() + interval '1 h', now(), NULL, 8, NULL,
        NULL, NULL, NULL, false, now(), NULL, NULL, NULL, %(ended)s, 'c', 0),
       (%(queued)s, 'kind', 'default', '{}', 3, 'pending', 0, 0, NULL, NULL, NULL, NULL, 9, NULL,
        NULL, 'key', now(), false, now(), NULL, NULL, NULL, NULL, NULL, NULL),
       (%(delayed)s, 'kind', 'default', '{}', 3, 'pending', 0, 0, NULL, NULL, NULL, NULL, 9, NULL,
        NULL, NULL, NULL, true, now() + interval '1 h', NULL, NULL, NULL, NULL, NULL, NULL)
"""
_HISTORY = """
INSERT INTO callboard.history_batches
    (number, from_status, to_status, reason, actor, job_ids, sequences, attempts, older)
VALUES (8, 'pending', 'running', 'claimed', 'node:old', %(running)s, '{2,2}', '{1,1}', '{NULL,NULL}')
"""
_STEP = "INSERT INTO callboard.job_steps (job_id, key, value) VALUES (%(kept)s, 'step', '1')"
_ALL = """
SELECT id, created_at, kind, queue, CAST(arguments AS text), max_attempts, status, token, attempt, node,
       lease_expires_at, started_at, finished_at, newest_history, CAST(result AS text), result_ttl_seconds, unique_key,
       turn, delayed, run_at, tags, CAST(metadata AS text), callback_url, parent_id, child_key, child_index, transitions
FROM callboard.jobs ORDER BY id
"""


@pytest.fixture
def old_database_url(empty_database_url: str) -> str:
    """A database at revision 0009."""
    configuration = module._configuration("callboard")
    with make_sync_engine(empty_database_url).connect() as connection:
        configuration.attributes.update(connection=connection, require_not_newer=lambda: None)
        module._command().upgrade(configuration, "0009")
        connection.commit()
    return empty_database_url


def filled(connection: Connection) -> dict[str, Any]:
    ids: dict[str, Any] = {name: uuid7() for name in ("ended", "lost", "kept", "queued", "delayed")}
    connection.execute(_JOBS, ids)
    connection.execute(_HISTORY, {"running": [ids["lost"], ids["kept"]]})
    connection.execute(_STEP, ids)
    connection.execute("SELECT setval('callboard.history_numbers', 100)")
    return ids


async def test_every_job_is_as_it_was_and_goes_on(old_database_url: str) -> None:
    with psycopg.connect(old_database_url, autocommit=True) as connection:
        ids = filled(connection)
        before = connection.execute(_ALL).fetchall()
        migrate(old_database_url)
        assert connection.execute(_ALL).fetchall() == before
        [(expires, finished)] = connection.execute(
            "SELECT extract(epoch FROM result_expires_at - finished_at), finished_at IS NOT NULL"
            " FROM callboard.jobs WHERE result IS NOT NULL"
        ).fetchall()
        assert (expires, finished) == (3600, True)

    store = PostgresStore(Settings(database_url=old_database_url), NoTelemetry())
    await store.open()
    rescued = await store.rescue(actor="node:new", policy=Policy(), limit=9, retry_delay_seconds=lambda _: 3600.0)
    assert [job.job_id for job in rescued] == [ids["lost"]]
    assert [job.id for job in await store.claim([QueueDemand("default", 9)], node="new", lease_seconds=60)] == [
        ids["queued"]
    ]
    assert await store.adopt([], node="old", lease_seconds=60) != []
    assert await store.renew([AttemptKey(ids["kept"], 2)], lease_seconds=60) == []
    [again] = await store.spawn([new_job(unique_key="key")], actor="client:test")
    assert (again.id, again.created) == (ids["queued"], False)
    assert await store.run_now([ids["delayed"]]) == [ids["delayed"]]
    cancelled = await store.cancel([ids["kept"]], actor="client:test")
    assert cancelled == [Applied(ids["kept"], Status.CANCELLED)]
    await store.close()
    with psycopg.connect(old_database_url, autocommit=True) as connection:
        connection.execute("DELETE FROM callboard.jobs WHERE id = %s", [ids["kept"]])
        assert connection.execute("SELECT count(*) FROM callboard.job_steps").fetchone() == (0,)


def test_who_was_let_in_is_let_in(old_database_url: str) -> None:
    with psycopg.connect(old_database_url, autocommit=True) as connection:
        name = f'"reader {uuid7().hex}"'
        connection.execute(f"CREATE ROLE {name}".encode())
        try:
            connection.execute(f"GRANT SELECT ON callboard.jobs TO {name} WITH GRANT OPTION".encode())
            connection.execute("GRANT SELECT ON callboard.jobs TO PUBLIC")
            granted = (
                "SELECT acl.grantee, acl.privilege_type, acl.is_grantable FROM pg_class, aclexplode(relacl) AS acl"
                " WHERE oid = 'callboard.jobs'::regclass ORDER BY 1, 2"
            )
            before = connection.execute(granted).fetchall()
            migrate(old_database_url)
            assert connection.execute(granted).fetchall() == before
        finally:
            connection.execute(f"DROP OWNED BY {name}".encode())
            connection.execute(f"DROP ROLE {name}".encode())


def test_what_others_built_on_the_table_stops_the_migration(old_database_url: str) -> None:
    with psycopg.connect(old_database_url, autocommit=True) as connection:
        connection.execute("CREATE VIEW public.ours AS SELECT id FROM callboard.jobs")
        with pytest.raises(Exception, match="view ours depends on"):
            migrate(old_database_url)
        connection.execute("DROP VIEW public.ours")
        migrate(old_database_url)
        assert connection.execute("SELECT version_num FROM callboard.schema_version").fetchone() == (
            module.REVISIONS[-1],
        )


_BLOCKED_BY = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND %s = ANY(pg_blocking_pids(pid))
"""


def test_whoever_reads_the_tables_in_another_order_is_no_end_of_the_migration(old_database_url: str) -> None:
    """As a leader does that looks for requests and their jobs: each has what the other one wants."""
    with (
        psycopg.connect(old_database_url) as connection,
        psycopg.connect(old_database_url, autocommit=True) as onlooker,
        ThreadPoolExecutor(1) as pool,
    ):
        connection.execute("SELECT FROM callboard.llm_requests")
        migration = pool.submit(migrate, old_database_url)
        while onlooker.execute(_BLOCKED_BY, [connection.info.backend_pid]).fetchone() == (0,):
            assert not migration.done()
        with contextlib.suppress(psycopg.errors.DeadlockDetected):
            connection.execute("SELECT FROM callboard.jobs")
        connection.rollback()
        migration.result(timeout=30)
        assert connection.execute("SELECT version_num FROM callboard.schema_version").fetchone() == (
            module.REVISIONS[-1],
        )


def test_nothing_is_copied_before_all_locks_are_held(old_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each round would copy all jobs again, and give up at the end."""
    monkeypatch.setattr(module, "LOCK_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(module, "LOCK_ROUNDS", 1)
    with psycopg.connect(old_database_url) as connection:
        for table in ("job_steps", "llm_requests", "history_batches"):
            connection.execute(f"SELECT FROM callboard.{table}".encode())
            with pytest.raises(StoreUnavailable) as refused:
                migrate(old_database_url)
            assert "LOCK TABLE" in str(refused.value.__cause__)
            connection.rollback()
