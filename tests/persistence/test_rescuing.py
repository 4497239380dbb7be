"""How the jobs of dead nodes are found: by the claims that took them."""

from __future__ import annotations

import asyncio
from typing import Any

from callboard.actors.jobs.decide import Policy, Succeed
from callboard.actors.jobs.types import AttemptKey, ClaimedJob, QueueDemand
from callboard.persistence.lease_statements import LeaseStatements
from callboard.persistence.postgres_store import PostgresStore
from tests.contract.support import LONG_AGO, applied, claimed, outcome, spawned

from .support import Native, rows

LEASES = LeaseStatements("callboard")


async def listed(connection: Native) -> list[list[Any] | None]:
    """The jobs of each claim, as they were found when it was last looked at."""
    return [ids for (ids,) in await rows(connection, "SELECT job_ids FROM callboard.claims ORDER BY number")]


async def rescue(store: PostgresStore) -> set[Any]:
    rescued = await store.rescue(actor="node:b", policy=Policy(), limit=100, retry_delay_seconds=lambda _: 0.0)
    return {job.job_id for job in rescued}


async def lose(connection: Native, *jobs: ClaimedJob) -> None:
    """End leases of jobs; their claims' as well, as time would."""
    await connection.execute(
        "UPDATE callboard.jobs SET lease_expires_at = now() - interval '1 s' WHERE id = ANY(%s)",
        [[job.id for job in jobs]],
    )
    await time_passes(connection)


async def time_passes(connection: Native) -> None:
    await connection.execute("UPDATE callboard.claims SET lease_expires_at = now() - interval '1 s'")


async def test_of_a_claims_jobs_only_those_are_rescued_whose_own_lease_is_over(
    store: PostgresStore, other: Native
) -> None:
    await spawned(store, 3, max_attempts=2)
    done, kept, lost = await claimed(store)
    await applied(store, outcome(done, Succeed("1")))
    await store.renew([AttemptKey(kept.id, kept.token)], lease_seconds=60)
    await lose(other, lost)
    assert await rescue(store) == {lost.id}
    assert await rescue(store) == set()
    assert await listed(other) == [[kept.id]]
    await lose(other, kept)
    assert await rescue(store) == {kept.id}


async def test_a_claim_is_looked_at_again_when_the_first_of_its_leases_is_over(
    store: PostgresStore, other: Native
) -> None:
    await spawned(store, 2)
    first, second = await claimed(store, lease=60)
    await store.renew([AttemptKey(first.id, first.token)], lease_seconds=7200)
    await store.renew([AttemptKey(second.id, second.token)], lease_seconds=3600)
    await time_passes(other)
    assert await rescue(store) == set()
    [(claim, job)] = await rows(
        other,
        "SELECT claims.lease_expires_at, jobs.lease_expires_at FROM callboard.claims, callboard.jobs WHERE id = %s",
        second.id,
    )
    assert claim == job


async def test_a_claim_of_a_long_lease_is_looked_at_before_that(store: PostgresStore, other: Native) -> None:
    """So that claims of short jobs do not pile up."""
    await spawned(store)
    await claimed(store, lease=7200)
    [(seconds,)] = await rows(other, "SELECT extract(epoch FROM lease_expires_at - claimed_at) FROM callboard.claims")
    assert seconds == 60


async def test_a_renewal_never_shortens_a_lease(store: PostgresStore, other: Native) -> None:
    await spawned(store)
    [job] = await claimed(store, lease=3600)
    assert await store.renew([AttemptKey(job.id, job.token)], lease_seconds=1) == []
    [(seconds,)] = await rows(other, "SELECT extract(epoch FROM lease_expires_at - started_at) FROM callboard.jobs")
    assert seconds == 3600


async def test_claims_of_which_nothing_runs_are_forgotten(store: PostgresStore, other: Native) -> None:
    await spawned(store, 500)
    for _ in range(500):
        await applied(store, *[outcome(job, Succeed("1")) for job in await claimed(store, 1, lease=LONG_AGO)])
    assert len(await listed(other)) == 500
    assert await rescue(store) == set()
    assert await listed(other) == []


async def test_a_job_that_runs_again_belongs_to_its_newer_claim(store: PostgresStore, other: Native) -> None:
    await spawned(store, max_attempts=5)
    for _ in range(2):
        await claimed(store, lease=LONG_AGO)
        assert len(await rescue(store)) == 1
    [job] = await claimed(store)
    await time_passes(other)
    assert await rescue(store) == set()
    assert await listed(other) == [[job.id]]


async def test_jobs_are_found_where_somebody_has_dropped_their_history(store: PostgresStore, other: Native) -> None:
    ids = await spawned(store, 3, max_attempts=2)
    await claimed(store, lease=LONG_AGO)
    partitions = await rows(other, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass",
                            "callboard.history_batches")  # fmt: skip
    for (name,) in partitions:
        await other.execute(f"DROP TABLE {name}".encode())
    await other.execute("CREATE TABLE callboard.history_default PARTITION OF callboard.history_batches DEFAULT")
    assert await rescue(store) == set(ids)


async def test_a_dead_nodes_leases_end_though_somebody_is_looking_at_its_claim(
    store: PostgresStore, other: Native
) -> None:
    """Who looks has seen the old leases; what it writes must not hide for as long that they have ended."""
    await spawned(store, 2, max_attempts=2)
    jobs = await store.claim([QueueDemand("default", 2)], node="dead", lease_seconds=3600)
    await time_passes(other)
    async with other.transaction():
        after = {"after": "-infinity", "number": 0, "limit": 10}
        [(number, _)] = await (await other.execute(LEASES.due.native, after)).fetchall()
        await other.execute(LEASES.settle.native, {"numbers": f"{{{number}}}"})
        expiring = asyncio.create_task(store.expire_leases(["dead"]))
        await blocked(other)
    assert await expiring == 2
    assert await rescue(store) == {job.id for job in jobs}


async def blocked(connection: Native) -> None:
    """Wait until a backend of this database waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(10):
        while (await rows(connection, waiting))[0][0] < 1:
            await asyncio.sleep(0.005)


async def test_a_node_adopts_what_it_does_not_know_of(store: PostgresStore, other: Native) -> None:
    await spawned(store, 4)
    known = await store.claim([QueueDemand("default", 1)], node="here", lease_seconds=60)
    lost = await store.claim([QueueDemand("default", 2)], node="here", lease_seconds=60)
    await store.claim([QueueDemand("default", 1)], node="elsewhere", lease_seconds=60)
    keys = [AttemptKey(job.id, job.token) for job in known]
    assert {job.id for job in await store.adopt(keys, node="here", lease_seconds=60)} == {job.id for job in lost}
    # The same after the claims have been looked at.
    await time_passes(other)
    await rescue(store)
    assert {job.id for job in await store.adopt(keys, node="here", lease_seconds=60)} == {job.id for job in lost}
