"""Retention on PostgreSQL: partitions of the history, and who may delete when."""

from __future__ import annotations

import pytest

from callboard.actors.jobs.decide import Succeed
from callboard.actors.jobs.retention import Pruned, Retention
from callboard.actors.jobs.types import JobFilter
from callboard.persistence.postgres_store import PostgresStore
from callboard.persistence.retention import RetentionStatements
from tests.contract.support import applied, outcome, running, spawned

from .support import Native

HISTORY = Retention(history_seconds=1.0)


async def old_partitions(connection: Native) -> list[str]:
    rows = await connection.execute(
        "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid"
        " WHERE inhparent = 'callboard.history_batches'::regclass AND relname < 'history_2024' ORDER BY 1"
    )
    return [name for (name,) in await rows.fetchall()]


@pytest.fixture
async def years(other: Native) -> list[str]:
    """Partitions of long ago, with something in each."""
    for week in ("2020-01-06", "2021-06-07", "2023-03-06"):
        await other.execute("SELECT callboard.make_history_partition(%s::timestamptz)", [week])
        await other.execute(
            "INSERT INTO callboard.history_batches (number, at, to_status, reason, actor, job_ids, sequences, attempts,"
            " older) VALUES (1, %s::timestamptz + interval '1 day', 'pending', 'spawned', 'client:old',"
            " ARRAY[gen_random_uuid()], ARRAY[1], ARRAY[0::smallint], ARRAY[NULL::bigint])",
            [week],
        )
    return await old_partitions(other)


async def test_old_partitions_are_dropped_and_the_present_ones_stay(
    store: PostgresStore, other: Native, years: list[str]
) -> None:
    assert len(years) == 3
    job = await running(store)
    await applied(store, outcome(job, Succeed("1")))
    assert await store.prune(Retention()) == Pruned()
    assert await store.prune(HISTORY) == Pruned(partitions=3)
    assert await old_partitions(other) == []
    assert len(await store.history(job.id)) == 3
    assert await store.prune(HISTORY) == Pruned()


async def test_the_history_of_a_job_that_has_not_ended_is_kept_however_old_it_is(
    store: PostgresStore, other: Native, years: list[str]
) -> None:
    [waiting] = await spawned(store, delay_seconds=3600.0)
    await other.execute("UPDATE callboard.jobs SET created_at = '2021-06-08' WHERE id = %s", [waiting])
    assert await store.prune(HISTORY) == Pruned(partitions=1)
    assert await old_partitions(other) == years[1:]
    await store.cancel([waiting], actor="client:test")
    assert await store.prune(HISTORY) == Pruned(partitions=2)


async def test_nobody_waits_for_a_partition_that_is_in_use(
    store: PostgresStore, database_url: str, other: Native, years: list[str]
) -> None:
    async with other.transaction():
        await other.execute("SELECT count(*) FROM callboard.history_batches")
        assert await store.prune(HISTORY) == Pruned(partitions=0)
        await spawned(store)
    [job] = await store.list_jobs(JobFilter(), limit=1)
    await store.cancel([job.id], actor="client:test")
    assert await store.prune(HISTORY) == Pruned(partitions=3)


async def test_one_node_at_a_time_deletes(store: PostgresStore, other: Native) -> None:
    [job] = await spawned(store)
    await store.cancel([job], actor="client:test")
    everything = Retention(-1.0, -1.0, 1.0)
    turn = RetentionStatements("callboard").turn.native
    async with other.transaction():
        await other.execute(turn)
        assert await store.prune(everything) == Pruned()
    assert await store.prune(everything) == Pruned(jobs=1)
