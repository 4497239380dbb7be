"""What only the PostgreSQL store does: plans, locks, callers' connections, lost connections, notifications."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.rows import dict_row
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from callboard.actors.errors import ConfigurationError, SchemaMissing, StoreUnavailable, ValueNotStorable
from callboard.actors.jobs.decide import Park, Policy, Succeed, Transition
from callboard.actors.jobs.state import Reason, Status, WaitingOn
from callboard.actors.jobs.types import Applied, AttemptKey, JobFilter, QueueDemand, Spawned
from callboard.actors.ports import NoTelemetry
from callboard.actors.settings import Settings
from callboard.persistence.claim_marks import ClaimMarks
from callboard.persistence.completing import completion_columns
from callboard.persistence.engine import make_sync_engine, sqlalchemy_url
from callboard.persistence.lease_statements import LeaseStatements
from callboard.persistence.postgres_store import PostgresStore
from callboard.persistence.statements import Statement, Statements
from callboard.persistence.writing import TransitionWriter, columns, progress_columns
from tests.contract.support import (
    LONG_AGO,
    applied,
    claimed,
    new_job,
    outcome,
    record,
    running,
    spawned,
    statuses,
)

from .support import Native, rows


async def blocked(connection: Native, count: int = 1) -> None:
    """Wait until so many backends of this database wait for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(10):
        while (await rows(connection, waiting))[0][0] < count:
            await asyncio.sleep(0.005)


# A caller's own transaction


async def test_spawn_in_an_async_session(store: PostgresStore, database_url: str) -> None:
    engine = create_async_engine(sqlalchemy_url(database_url))
    kept, dropped = new_job(), new_job()
    async with AsyncSession(engine) as session, session.begin():
        [answer] = await store.spawn([kept], actor="client:test", connection=session)
        assert await store.get(kept.id) is None
    async with AsyncSession(engine) as session:
        await store.spawn([dropped], actor="client:test", connection=session)
        await session.rollback()
    await engine.dispose()
    assert answer.created
    assert [job.id for job in await store.list_jobs(JobFilter(), limit=9)] == [kept.id]
    assert await statuses(store, kept.id) == [Status.PENDING]


async def test_spawn_in_an_async_connection(store: PostgresStore, database_url: str) -> None:
    engine = create_async_engine(sqlalchemy_url(database_url))
    jobs = [new_job(unique_key="k"), new_job(unique_key="k"), *(new_job() for _ in range(200))]
    async with engine.begin() as connection:
        answers = await store.spawn(jobs, actor="client:test", connection=connection)
        assert await store.get(jobs[0].id) is None
    await engine.dispose()
    assert [answer.created for answer in answers] == [True, False] + [True] * 200
    assert answers[1].id == jobs[0].id
    assert len(await store.list_jobs(JobFilter(), limit=999)) == 201


async def test_spawn_in_a_blocking_session_and_connection(store: PostgresStore, database_url: str) -> None:
    engine = make_sync_engine(database_url)
    first, second = new_job(), new_job()
    with Session(engine) as session, session.begin():
        await store.spawn([first], actor="client:test", connection=session)
    with engine.begin() as connection:
        await store.spawn([second], actor="client:test", connection=connection)
    assert {job.id for job in await store.list_jobs(JobFilter(), limit=9)} == {first.id, second.id}


async def test_spawn_in_psycopgs_connections(store: PostgresStore, database_url: str, other: Native) -> None:
    first, second, dropped = new_job(), new_job(), new_job()
    async with other.transaction():
        await store.spawn([first], actor="client:test", connection=other)
    async with other.transaction(force_rollback=True):
        await store.spawn([dropped], actor="client:test", connection=other)
    other.row_factory = dict_row  # type: ignore[assignment]
    assert [answer.created for answer in await store.spawn([first], actor="client:test", connection=other)] == [False]
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        await store.spawn([second], actor="client:test", connection=connection)
    assert {job.id for job in await store.list_jobs(JobFilter(), limit=9)} == {first.id, second.id}


async def test_workers_are_woken_when_the_caller_commits(
    store: PostgresStore, database_url: str, other: Native
) -> None:
    await other.execute("LISTEN callboard_wake")
    engine = create_async_engine(sqlalchemy_url(database_url))
    async with AsyncSession(engine) as session, session.begin():
        await store.spawn([new_job(queue="q")], actor="client:test", connection=session)
        assert await payloads(other) == []
    await engine.dispose()
    assert await payloads(other) == ["runnable:q"]


async def test_a_conflict_in_a_callers_snapshot_is_the_callers_to_repeat(
    store: PostgresStore, database_url: str, other: Native
) -> None:
    engine = create_async_engine(sqlalchemy_url(database_url), isolation_level="REPEATABLE READ")
    async with AsyncSession(engine) as session:
        await session.execute(sa.text("SELECT count(*) FROM callboard.jobs"))
        [first] = await spawned(store, unique_key="k")
        with pytest.raises(StoreUnavailable, match=r"your transaction, .* roll it back and run it again"):
            await store.spawn([new_job(unique_key="k")], actor="client:test", connection=session)
        await session.rollback()
        [again] = await store.spawn([new_job(unique_key="k")], actor="client:test", connection=session)
    await engine.dispose()
    assert again == Spawned(first, created=False)


async def test_a_connection_of_another_kind_is_refused(store: PostgresStore) -> None:
    with pytest.raises(ConfigurationError, match=r"connection is a builtins\.str; expected SQLAlchemy's AsyncSession"):
        await store.spawn([new_job()], actor="client:test", connection="postgresql://")


# Notifications


async def payloads(connection: Native) -> list[str]:
    """What has been announced so far: everything before an echo of our own."""
    await connection.execute("SELECT pg_notify('callboard_wake', 'echo')")
    found = []
    async with asyncio.timeout(10):
        async for notification in connection.notifies():
            if notification.payload == "echo":
                break
            found.append(notification.payload)
    return found


async def test_one_notification_for_each_queue_and_one_for_the_ended(store: PostgresStore, other: Native) -> None:
    await other.execute("LISTEN callboard_wake")
    for count in (5, 200):
        await spawned(store, count)
        assert await payloads(other) == ["runnable:default"]
    await spawned(store, 3, delay_seconds=60)
    await spawned(store, 3, status=Status.CREATED)
    assert await payloads(other) == []
    jobs = await claimed(store, 3)
    assert await payloads(other) == []
    await applied(store, outcome(jobs[0], Succeed(None)))
    assert await payloads(other) == [f"ended:{jobs[0].id}"]
    await applied(store, *(outcome(job, Succeed(None)) for job in jobs[1:]))
    assert await payloads(other) == ["ended:"]


async def test_cancel_tells_workers_of_running_jobs_only(store: PostgresStore, other: Native) -> None:
    ids = await spawned(store, 450)
    jobs = await claimed(store, 401)
    await other.execute("LISTEN callboard_wake")
    await store.cancel(ids, actor="client:test")
    first, *cancelled = await payloads(other)
    assert first == "ended:"
    assert [len(payload) < 8000 for payload in cancelled] == [True] * 3
    named = [name for payload in cancelled for name in payload.removeprefix("cancelled:").split(",")]
    assert sorted(named) == sorted(str(job.id) for job in jobs)


async def test_what_is_refused_is_not_announced(store: PostgresStore, other: Native) -> None:
    job = await running(store)
    await applied(store, outcome(job, Succeed(None)))
    await other.execute("LISTEN callboard_wake")
    await store.apply([outcome(job, Succeed(None))], actor="node:late")
    await store.cancel([job.id], actor="client:test")
    await store.run_now([job.id])
    assert await payloads(other) == []


# Parents and children, step by step


@pytest.mark.parametrize("first", ["child ends", "parent parks"])
async def test_whoever_comes_second_sees_the_other(
    store: PostgresStore, database_url: str, other: Native, first: str
) -> None:
    parent = await running(store, max_attempts=5)
    child = await running(store, parent_id=parent.id, child_key="a", child_index=0)
    changes = [outcome(child, Succeed(None)), outcome(parent, Park(WaitingOn.CHILDREN))]
    if first == "parent parks":
        changes.reverse()
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as slow:
        async with slow.transaction():
            writer = TransitionWriter(slow, Statements("callboard"), "node:slow")
            assert isinstance((await writer.write(changes[:1]))[0], Applied)
            second = asyncio.create_task(store.apply(changes[1:], actor="node:here"))
            await blocked(other)
        [answer] = await second
    assert isinstance(answer, Applied)
    assert [job.id for job in await claimed(store)] == [parent.id]


async def test_a_batch_that_loses_a_deadlock_is_written_again(
    store: PostgresStore, database_url: str, other: Native
) -> None:
    await other.execute("SET deadlock_timeout = '60s'")  # the other one is found out, not this
    parent = await running(store, max_attempts=5)
    child = await running(store, parent_id=parent.id, child_key="a", child_index=0)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as watcher:
        async with other.transaction():
            await other.execute("SELECT FROM callboard.jobs WHERE id = %s FOR UPDATE", [parent.id])
            write = asyncio.create_task(store.apply([outcome(child, Succeed("1"))], actor="node:here"))
            await blocked(watcher)
            await other.execute("SELECT FROM callboard.jobs WHERE id = %s FOR UPDATE", [child.id])
        [answer] = await write
    assert isinstance(answer, Applied)
    assert await statuses(store, child.id) == [Status.PENDING, Status.RUNNING, Status.COMPLETED]


# Rescue


async def test_a_bad_row_does_not_hinder_the_sweep(
    store: PostgresStore, other: Native, caplog: pytest.LogCaptureFixture
) -> None:
    ids = await spawned(store, 5, max_attempts=2)
    await claimed(store, lease=LONG_AGO)
    await other.execute("CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''poisoned''; END'")
    await other.execute(
        f"CREATE TRIGGER poison BEFORE UPDATE ON callboard.jobs FOR EACH ROW WHEN (old.id = '{ids[1]}')"
        " EXECUTE FUNCTION poison()".encode()
    )
    rescued = await store.rescue(actor="node:b", policy=Policy(), limit=10, retry_delay_seconds=lambda attempt: 0)
    assert {job.job_id for job in rescued} == {*ids} - {ids[1]}
    assert "poisoned" in caplog.text
    assert (await record(store, ids[1])).status is Status.RUNNING
    assert len(await store.history(ids[1])) == 2


async def test_a_row_that_cannot_be_decided_does_not_hinder_the_sweep(
    store: PostgresStore, caplog: pytest.LogCaptureFixture
) -> None:
    [first] = await spawned(store, max_attempts=9)
    [second] = await spawned(store, max_attempts=2)
    await claimed(store, lease=LONG_AGO)
    await store.run_now([first])

    def delay(attempt: int) -> float:
        calls.append(attempt)
        if len(calls) == 1:
            raise OverflowError("no such delay")
        return 0.0

    calls: list[int] = []
    rescued = await store.rescue(actor="node:b", policy=Policy(), limit=10, retry_delay_seconds=delay)
    assert len(rescued) == 1
    assert "no such delay" in caplog.text
    assert {first, second} - {rescued[0].job_id} == {job.id for job in await store.list_jobs(RUNNING, limit=9)}


RUNNING = JobFilter(statuses=(Status.RUNNING,))


async def test_a_sweep_leaves_locked_rows_to_others(store: PostgresStore, other: Native) -> None:
    locked, free = await spawned(store, 2, max_attempts=2)
    await claimed(store, lease=LONG_AGO)
    async with other.transaction():
        await other.execute("SELECT FROM callboard.jobs WHERE id = %s FOR UPDATE", [locked])
        rescued = await store.rescue(actor="node:b", policy=Policy(), limit=10, retry_delay_seconds=lambda attempt: 0)
    assert [job.job_id for job in rescued] == [free]


# History


async def test_the_history_of_a_job_outlives_the_job(store: PostgresStore, other: Native) -> None:
    job = await running(store)
    await spawned(store, 3)
    await applied(store, outcome(job, Succeed("1")))
    before = await store.history(job.id)
    assert [row.to_status for row in before] == [Status.PENDING, Status.RUNNING, Status.COMPLETED]
    await other.execute("DELETE FROM callboard.jobs WHERE id = %s", [job.id])
    assert await store.history(job.id) == before
    assert await store.history(job.id, after=2) == before[2:]


async def test_one_statement_records_its_jobs_together(store: PostgresStore, other: Native) -> None:
    ids = await spawned(store, 200)
    jobs = await claimed(store, 200)
    await applied(store, *(outcome(job, Succeed(None)) for job in jobs[1:]), outcome(jobs[0], Park(WaitingOn.CHILDREN)))
    found = await rows(
        other,
        "SELECT from_status, to_status, reason, cardinality(job_ids) FROM callboard.history_batches ORDER BY number, 4",
    )
    assert found == [
        (None, "pending", "spawned", 200),
        ("pending", "running", "claimed", 200),
        ("running", "pending", "parked", 1),
        ("running", "completed", "succeeded", 199),
    ]
    for job_id in ids:
        assert len(await statuses(store, job_id)) == 3


# Connections


async def kill_backends(connection: Native) -> int:
    killed = await rows(
        connection,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
    )
    return len(killed)


async def test_a_connection_killed_in_the_middle(store: PostgresStore, other: Native) -> None:
    job = await running(store)
    async with other.transaction():
        await other.execute("SELECT FROM callboard.jobs WHERE id = %s FOR UPDATE", [job.id])
        write = asyncio.create_task(store.apply([outcome(job, Succeed("1"))], actor="node:here"))
        await blocked(other)
        await kill_backends(other)
        with pytest.raises(StoreUnavailable, match=r"apply: .* connection was lost"):
            await write
    assert (await record(store, job.id)).status is Status.RUNNING
    await applied(store, outcome(job, Succeed("1")))


async def test_idle_connections_killed_cost_one_error_at_most(store: PostgresStore, other: Native) -> None:
    await asyncio.gather(*(spawned(store) for _ in range(8)))
    assert await kill_backends(other) >= 2
    with pytest.raises(StoreUnavailable):
        await spawned(store)
    for _ in range(6):
        await spawned(store)
        await store.list_jobs(JobFilter(), limit=1)


async def test_reading_survives_killed_connections_likewise(store: PostgresStore, other: Native) -> None:
    await asyncio.gather(*(store.summary() for _ in range(4)))
    await kill_backends(other)
    with pytest.raises(StoreUnavailable):
        await store.list_jobs(JobFilter(), limit=1)
    for _ in range(6):
        await store.list_jobs(JobFilter(), limit=1)
        await spawned(store)


async def test_a_cancelled_call_leaves_the_store_usable(store: PostgresStore, other: Native) -> None:
    job = await running(store)
    async with other.transaction():
        await other.execute("SELECT FROM callboard.jobs WHERE id = %s FOR UPDATE", [job.id])
        write = asyncio.create_task(store.apply([outcome(job, Succeed("1"))], actor="node:here"))
        await blocked(other)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
    assert (await record(store, job.id)).status is Status.RUNNING
    await applied(store, outcome(job, Succeed("1")))


async def test_a_full_pool_says_so(database_url: str, other: Native) -> None:
    settings = Settings(database_url=database_url, pg_pool_size=1, pg_max_overflow=0, pg_pool_timeout=0.05)
    store = PostgresStore(settings, NoTelemetry())
    job = await running(store)
    async with other.transaction():
        await other.execute("SELECT FROM callboard.jobs WHERE id = %s FOR UPDATE", [job.id])
        write = asyncio.create_task(store.cancel([job.id], actor="client:test"))
        await blocked(other)
        with pytest.raises(StoreUnavailable, match=r"claim: no connection of the pool .* CALLBOARD_PG_POOL_SIZE"):
            await claimed(store)
    await write
    await store.close()


async def test_a_statement_has_a_time_limit(database_url: str, other: Native) -> None:
    store = PostgresStore(Settings(database_url=database_url, statement_timeout_seconds=0.05), NoTelemetry())
    job = await running(store)
    async with other.transaction():
        await other.execute("SELECT FROM callboard.jobs WHERE id = %s FOR UPDATE", [job.id])
        with pytest.raises(StoreUnavailable, match=r"cancel: .* time limit"):
            await store.cancel([job.id], actor="client:test")
    await store.close()


async def test_a_schema_dropped_under_a_running_store(store: PostgresStore, other: Native) -> None:
    await other.execute("DROP SCHEMA callboard CASCADE")
    with pytest.raises(SchemaMissing, match="run `callboard migrate`"):
        await claimed(store)
    with pytest.raises(SchemaMissing, match="run `callboard migrate`"):
        await store.summary()


async def test_a_demoted_server_is_asked_again_and_no_job_is_blamed(
    store: PostgresStore, database_url: str, other: Native
) -> None:
    job = await running(store)
    [database] = (await rows(other, "SELECT current_database()"))[0]
    await other.execute(f'ALTER DATABASE "{database}" SET default_transaction_read_only = on'.encode())
    demoted = PostgresStore(Settings(database_url=database_url), NoTelemetry())
    with pytest.raises(StoreUnavailable, match="a primary that was demoted"):
        await demoted.apply([outcome(job, Succeed(None))], actor="node:here")
    with pytest.raises(StoreUnavailable, match="a primary that was demoted"):
        await demoted.rescue(actor="b", policy=Policy(), limit=9, retry_delay_seconds=lambda attempt: 0)
    await demoted.close()
    await other.execute(f'ALTER DATABASE "{database}" RESET default_transaction_read_only'.encode())
    await applied(store, outcome(job, Succeed(None)))


async def test_a_number_out_of_range(store: PostgresStore) -> None:
    with pytest.raises(ValueNotStorable, match="smallint"):
        await spawned(store, priority=40_000)
    assert await store.list_jobs(JobFilter(), limit=9) == []


async def test_behind_a_pooler_nothing_is_prepared(database_url: str) -> None:
    settings = Settings(database_url=database_url, direct_database_url=f"{database_url}?application_name=direct")
    store = PostgresStore(settings, NoTelemetry())
    for _ in range(8):
        await running(store)
    prepared = await store._native("test", lambda own: rows(own, "SELECT name FROM pg_prepared_statements"))
    assert prepared == []
    await store.close()


async def test_housekeeping_from_several_nodes_at_once(store: PostgresStore, other: Native) -> None:
    for (name,) in await rows(other, FUTURE_PARTITIONS):
        await other.execute(f"DROP TABLE callboard.{name}".encode())
    await other.execute(
        "INSERT INTO callboard.nodes (name, seen_at) VALUES ('old', now() - interval '25 hours'), ('new', now())"
    )
    await asyncio.gather(*(store.housekeep() for _ in range(4)), spawned(store))
    assert len(await rows(other, FUTURE_PARTITIONS)) == 4
    assert [node.name for node in (await store.summary()).nodes] == ["new"]


FUTURE_PARTITIONS = """
SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'history\\_2%'
    AND relname > to_char(now() AT TIME ZONE 'UTC', '"history_"IYYY"w"IW') ORDER BY 1
"""


# Plans


async def explained(connection: Native, statement: Statement, parameters: Mapping[str, object]) -> str:
    async with connection.transaction(force_rollback=True):
        cursor = await connection.execute(b"EXPLAIN (ANALYZE, TIMING OFF) " + statement.native, parameters)
        return "\n".join(line for (line,) in await cursor.fetchall())


@pytest.mark.parametrize("analyzed", [False, True], ids=["fresh", "analyzed"])
async def test_hot_statements_read_by_index(store: PostgresStore, other: Native, analyzed: bool) -> None:
    await spawned(store, 20_000, queue="busy")
    await spawned(store, 5_000, queue="late", delay_seconds=3600)
    jobs = await store.claim([QueueDemand("busy", 1_000)], node="here", lease_seconds=60)
    if analyzed:
        await other.execute("ANALYZE callboard.jobs")
    sql, leases = Statements("callboard"), LeaseStatements("callboard")
    ids = {"ids": "{" + ",".join(str(job.id) for job in jobs) + "}"}
    [(number,)] = await rows(other, "UPDATE callboard.claims SET lease_expires_at = now() RETURNING number")
    claims = {"numbers": f"{{{number}}}"}
    batch = [Transition(job.id, Status.RUNNING, Status.COMPLETED, 1, Reason.SUCCEEDED) for job in jobs]
    plans = {
        "claim": await explained(
            other,
            sql.claim,
            {"queues": "{busy,late}", "limits": "{500,500}", "node": "n", "lease": 60.0}
            | ClaimMarks().begin([QueueDemand("busy", 500), QueueDemand("late", 500)]),
        ),
        "apply": await explained(other, sql.apply, columns(batch, "node:here")),
        "complete": await explained(other, sql.complete, completion_columns(batch, "node:here")),
        "renew": await explained(
            other, leases.renew, {**ids, "tokens": "{" + ",".join(["1"] * len(jobs)) + "}", "lease": 60.0}
        ),
        "progress": await explained(
            other, sql.progress, progress_columns({AttemptKey(job.id, job.token): {"done": 1} for job in jobs})
        ),
        "cancel": await explained(other, sql.children_to_cancel, ids),
        "lock": await explained(other, sql.lock_jobs, ids),
        "actual": await explained(other, sql.actual, ids),
        "wake": await explained(other, sql.wake_parents, ids),
        "settle": await explained(other, leases.settle, claims),
        "expired": await explained(other, leases.expired, {**claims, "limit": 100, "everybody": True, "nodes": "{}"}),
        "overdue": await explained(other, sql.overdue, {"limit": 100}),
    }
    for name, plan in plans.items():
        assert "Seq Scan on jobs" not in plan, f"{name}:\n{plan}"
    assert "Index Scan using jobs_runnable" in plans["claim"]
    [scan] = [line for line in plans["claim"].splitlines() if "Index Scan using jobs_runnable" in line]
    found = re.search(r"actual rows=([\d.]+) loops=(\d+)", scan)
    assert found is not None
    assert float(found[1]) * int(found[2]) == pytest.approx(500, abs=1), "the claim reads what it takes, and no more"


@pytest.mark.parametrize("name", ["apply", "complete"])
async def test_an_end_writes_to_no_index(store: PostgresStore, other: Native, name: str) -> None:
    await spawned(store, 8)  # all their versions fit into one page: nobody's snapshot can keep room from them
    ends = [outcome(job, Succeed(result="[1]")) for job in await claimed(store)]
    parameters = columns(ends, "node:here") if name == "apply" else completion_columns(ends, "node:here")
    async with other.transaction():
        await other.execute(getattr(Statements("callboard"), name).native, parameters)
        updates = await rows(
            other, "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'jobs'"
        )
    assert updates == [(8, 8)]


async def test_a_stale_key_is_not_renewed(store: PostgresStore) -> None:
    job = await running(store)
    assert await store.renew([AttemptKey(job.id, 7)], lease_seconds=60) == [AttemptKey(job.id, 7)]


def test_statements_are_short_enough_for_psycopgs_cache() -> None:
    found = [value for value in vars(Statements("callboard")).values() if isinstance(value, Statement)]
    assert len(found) > 10
    assert max(len(statement.native) for statement in found) <= 4096


def test_the_named_spelling_is_sqlalchemys() -> None:
    statement = Statements("callboard").insert
    names = set(sa.text(statement.named).compile().params)
    assert {"ids", "kinds", "arguments", "actor", "child_indexes"} <= names
    assert all(f"%({name})s".encode() in statement.native for name in names)


async def test_after_a_lost_connection_every_other_is_new_and_none_stays_open(
    store: PostgresStore, other: Native
) -> None:
    """The database's fixture fails if a connection is left."""

    async def use(until: asyncio.Event, begun: asyncio.Barrier) -> None:
        async with store._connection("test") as connection:
            await connection.exec_driver_sql("SELECT 1")
            await begun.wait()
            await until.wait()

    idle, busy, begun = asyncio.Event(), asyncio.Event(), asyncio.Barrier(5)
    tasks = [asyncio.create_task(use(event, begun)) for event in (idle, idle, idle, busy)]
    await begun.wait()
    idle.set()
    await asyncio.gather(*tasks[:3])
    await other.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    demand = [QueueDemand("default", 1)]
    with pytest.raises(StoreUnavailable):
        await store.claim(demand, node="test", lease_seconds=30)
    for _ in range(4):
        assert await store.claim(demand, node="test", lease_seconds=30) == []
    busy.set()
    await tasks[3]


async def test_a_connection_in_use_is_closed_though_another_one_broke(store: PostgresStore, other: Native) -> None:
    async with store._connection("test") as used:
        async with store._connection("test") as doomed:
            await used.exec_driver_sql("SELECT 1")
            pid = (await doomed.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
        await other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        with pytest.raises(StoreUnavailable):
            await store.claim([QueueDemand("default", 1)], node="test", lease_seconds=30)
        await used.exec_driver_sql("SELECT 2")
