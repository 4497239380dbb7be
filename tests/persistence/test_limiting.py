"""Limits on PostgreSQL: claims that meet, and what a restart or a lost node leaves behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from callboard.actors.errors import QueueFull
from callboard.actors.jobs.decide import Policy, Succeed
from callboard.actors.jobs.limits import Limit, LimitScope
from callboard.actors.jobs.types import AttemptKey, QueueDemand
from callboard.actors.ports import NoTelemetry
from callboard.actors.settings import Settings
from callboard.persistence import limiting
from callboard.persistence.limit_statements import LimitStatements
from callboard.persistence.postgres_store import PostgresStore
from tests.contract.support import LONG_AGO, applied, claimed, new_job, outcome, spawned

from .support import Native

SQL = LimitStatements("callboard")


@pytest.fixture
async def another(database_url: str) -> AsyncIterator[PostgresStore]:
    """Another node's."""
    store = PostgresStore(Settings(database_url=database_url, pg_pool_size=4), NoTelemetry())
    yield store
    await store.close()


async def blocked(connection: Native) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(10):
        while (await (await connection.execute(waiting)).fetchone()) == (0,):
            await asyncio.sleep(0.005)


async def held(connection: Native) -> int:
    [(count,)] = await (await connection.execute("SELECT count(*) FROM callboard.permits")).fetchall()
    return int(count)


async def test_a_claim_counts_what_another_one_has_taken_and_not_committed_yet(
    store: PostgresStore, database_url: str, other: Native
) -> None:
    await spawned(store, 4, concurrency_key="k", concurrency_limit=2)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as first:
        async with first.transaction():
            demands = [QueueDemand("default", 9)]
            jobs, *_ = await limiting.claim(first, SQL, demands, node="first", lease_seconds=60)
            second = asyncio.ensure_future(claimed(store))
            await blocked(other)
        assert len(jobs) == 2
        assert await second == []


async def test_a_claim_that_is_rolled_back_leaves_its_places_to_the_next(
    store: PostgresStore, database_url: str, other: Native
) -> None:
    await store.controls.set_limit(Limit(LimitScope.KIND, "kind", max_running=2, rate=2), actor="client:test")
    await spawned(store, 4)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as first:
        async with first.transaction(force_rollback=True):
            demands = [QueueDemand("default", 9)]
            jobs, *_ = await limiting.claim(first, SQL, demands, node="first", lease_seconds=60)
            second = asyncio.ensure_future(claimed(store))
            await blocked(other)
        assert {job.id for job in await second} == {job.id for job in jobs}


async def test_an_end_that_is_not_committed_frees_nothing(
    store: PostgresStore, another: PostgresStore, other: Native
) -> None:
    await spawned(store, 2, concurrency_key="k", concurrency_limit=1)
    [job] = await claimed(store)
    async with other.transaction(force_rollback=True):
        await limiting.release(other, SQL, [AttemptKey(job.id, job.token)])
        assert await claimed(another) == []
    assert await claimed(another) == []
    await applied(store, outcome(job, Succeed("1")))
    assert len(await claimed(another)) == 1


async def test_a_node_that_believes_there_are_no_limits_takes_nothing_from_a_limited_or_paused_queue(
    store: PostgresStore, another: PostgresStore
) -> None:
    await spawned(store, 3)
    await spawned(store, 3, queue="paused")
    assert await claimed(another, 0) == []
    believed = await another.controls.current()
    await store.controls.set_limit(Limit(LimitScope.QUEUE, "default", max_running=1), actor="client:test")
    await store.controls.set_queue("paused", paused=True, draining=False, actor="client:test")
    plain, limited = believed.route([QueueDemand("default", 9), QueueDemand("paused", 9)])
    assert (len(plain), limited) == (2, [])
    assert await another.claim(plain, node="there", lease_seconds=60) == []
    another.controls.invalidate()
    jobs = await another.claim(plain, node="there", lease_seconds=60)
    assert [job.queue for job in jobs] == ["default"]


async def test_the_places_of_a_dead_node_are_free_when_its_jobs_are_rescued(
    store: PostgresStore, another: PostgresStore, other: Native
) -> None:
    await spawned(store, 3, concurrency_key="k", concurrency_limit=2, max_attempts=2)
    await claimed(store, lease=LONG_AGO)
    assert await claimed(another) == []
    await another.rescue(actor="node:b", policy=Policy(), limit=9, retry_delay_seconds=lambda attempt: 3600.0)
    assert await held(other) == 0
    assert len(await claimed(another)) == 1


async def test_an_adopted_claim_gives_its_places_back(
    store: PostgresStore, another: PostgresStore, other: Native
) -> None:
    """The answer of a claim got lost: the node finds its jobs, and ends them as if it had heard of them."""
    await spawned(store, 2, concurrency_key="k", concurrency_limit=1)
    await claimed(another)
    [orphan] = await store.adopt([], node="here", lease_seconds=60)
    await applied(store, outcome(orphan, Succeed("1")))
    assert await held(other) == 0
    assert len(await claimed(store)) == 1


async def test_housekeeping_forgets_what_nobody_holds(store: PostgresStore, other: Native) -> None:
    await spawned(store, 1, concurrency_key="k", concurrency_limit=1)
    [job] = await claimed(store)
    await other.execute(
        "INSERT INTO callboard.permits VALUES ('key:k', %s, 1), ('key:l', %s, %s)",
        [new_job().id, job.id, job.token + 1],
    )
    await other.execute("INSERT INTO callboard.buckets VALUES ('kind:x', 0, now() - interval '2 days')")
    await store.housekeep()
    assert await held(other) == 1
    assert (await (await other.execute("SELECT count(*) FROM callboard.buckets")).fetchone()) == (0,)


async def test_a_callers_transaction_is_refused_before_anything_is_written(store: PostgresStore, other: Native) -> None:
    await store.controls.set_limit(Limit(LimitScope.QUEUE, "default", max_queued=1), actor="client:test")
    async with other.transaction():
        await store.spawn([new_job()], actor="client:test", connection=other)
        with pytest.raises(QueueFull):
            await store.spawn([new_job()], actor="client:test", connection=other)
    assert len(await claimed(store)) == 1


async def test_a_long_backlog_of_one_key_is_not_read(store: PostgresStore, other: Native) -> None:
    """However many jobs of a key that is at its limit wait, a claim jumps over them."""
    await store.spawn(
        [new_job(concurrency_key="greedy", concurrency_limit=1) for _ in range(5000)], actor="client:test"
    )
    await spawned(store, 5, concurrency_key="modest", concurrency_limit=5)
    assert len(await claimed(store, 1)) == 1
    await other.execute("VACUUM ANALYZE callboard.jobs")
    async with await psycopg.AsyncConnection.connect(other.info.dsn, password=other.info.password) as reader:
        parameters = {"queues": "{default}", "quotas": "{9}", "kinds": "{}", "owners": "{}", "keys": "{}"}
        await reader.execute(SQL.lock.native)
        explained = await reader.execute(
            b"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON) " + SQL.candidates.native, parameters
        )
        [(plan,)] = await explained.fetchall()
    nodes = list(_nodes(plan[0]["Plan"]))
    assert max(node["Actual Rows"] * node["Actual Loops"] for node in nodes) < 50
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "jobs"]


def _nodes(plan: dict[str, Any]) -> Any:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


class RateLimits(NoTelemetry):
    """Counts what rates have kept back."""

    def __init__(self) -> None:
        self.limiters: Counter[str] = Counter()

    def rate_limited(self, limiter: str) -> None:
        self.limiters[limiter] += 1


@pytest.mark.parametrize(
    ("scope", "fields"),
    [
        (LimitScope.QUEUE, {"queue": "default"}),
        (LimitScope.KIND, {"kind": "default"}),
        (LimitScope.OWNER, {"owner": "default"}),
        (LimitScope.KEY, {"concurrency_key": "default", "concurrency_limit": 50}),
    ],
    ids=str,
)
async def test_a_claim_that_a_rate_cuts_short_is_counted_once(
    database_url: str, scope: LimitScope, fields: dict[str, Any]
) -> None:
    counted = RateLimits()
    store = PostgresStore(Settings(database_url=database_url, pg_pool_size=2), counted)
    try:
        limit = Limit(scope, "default", rate=3, rate_period_seconds=3600)
        await store.controls.set_limit(limit, actor="client:test")
        await spawned(store, 2, **fields)
        assert len(await claimed(store)) == 2
        assert counted.limiters == {}, "there was a token left"
        await spawned(store, 1, **fields)
        assert len(await claimed(store)) == 1
        assert counted.limiters == {}, "nobody was left"
        await store.controls.clear_limit(scope, "default")
        await store.controls.set_limit(limit, actor="client:test")
        await spawned(store, 5, **fields)
        assert len(await claimed(store)) == 3
        assert counted.limiters == {scope.value: 1}
        assert await claimed(store) == []
        assert counted.limiters == {scope.value: 1}, "nothing could start, and nothing was cut short"
    finally:
        await store.close()
