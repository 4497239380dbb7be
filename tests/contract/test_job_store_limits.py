"""Limits on what runs, on how often something starts, and on what waits."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from callboard.actors.errors import ConfigurationError, QueueFull
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import Fail, Park, Policy, Snooze, Succeed
from callboard.actors.jobs.limits import Limit, LimitScope
from callboard.actors.jobs.state import Status, WaitingOn
from callboard.actors.jobs.types import ClaimedJob, JobFilter, QueueDemand
from callboard.persistence.stores import StoreParts

from .support import ERROR, LONG_AGO, applied, claimed, new_job, outcome, record, spawned

QUEUE, KIND, OWNER, KEY = LimitScope


async def limit(store: JobStore, scope: LimitScope, name: str, **bounds: float) -> None:
    await store.controls.set_limit(Limit(scope, name, **bounds), actor="client:test")  # type: ignore[arg-type]


async def end(store: JobStore, *jobs: ClaimedJob) -> None:
    await applied(store, *(outcome(job, Succeed("1")) for job in jobs))


@pytest.mark.parametrize(
    ("scope", "field"), [(QUEUE, "queue"), (KIND, "kind"), (OWNER, "owner")], ids=["queue", "kind", "owner"]
)
async def test_no_more_run_than_the_limit_allows_and_a_freed_place_is_taken(
    store: JobStore, scope: LimitScope, field: str
) -> None:
    fields = {"queue": "default", field: "default"}
    await limit(store, scope, "default", max_running=2)
    ids = await spawned(store, 5, **fields)
    first = await claimed(store)
    assert [job.id for job in first] == ids[:2]
    assert await claimed(store) == []
    await end(store, first[0])
    [third] = await claimed(store)
    assert third.id == ids[2]
    await end(store, first[1], third)
    assert len(await claimed(store)) == 2


async def test_every_queue_or_owner_has_the_limit_of_the_star_by_itself(store: JobStore) -> None:
    await limit(store, OWNER, "*", max_running=1)
    await limit(store, OWNER, "big", max_running=3)
    for owner in ("a", "b", "big", None):
        await spawned(store, 4, owner=owner)
    jobs = await claimed(store)
    assert Counter(job.owner for job in jobs) == {"a": 1, "b": 1, "big": 3, None: 4}
    await limit(store, QUEUE, "*", max_running=1)
    await store.controls.clear_limit(OWNER, "*")
    for queue in ("x", "y"):
        await spawned(store, 3, queue=queue)
        assert len(await claimed(store, queue=queue)) == 1
    assert await claimed(store) == []


async def test_jobs_with_a_concurrency_key_share_its_limit_over_all_queues(store: JobStore) -> None:
    await spawned(store, 3, concurrency_key="tenant", concurrency_limit=2)
    await spawned(store, 2, queue="other", concurrency_key="tenant", concurrency_limit=2)
    await spawned(store, 1, concurrency_key="else", concurrency_limit=1)
    demands = [QueueDemand("default", 9), QueueDemand("other", 9)]
    jobs = await store.claim(demands, node="here", lease_seconds=60)
    assert len(jobs) == 3
    assert await store.claim(demands, node="here", lease_seconds=60) == []


async def test_a_limit_set_for_a_key_wins_over_the_jobs_own(store: JobStore) -> None:
    await limit(store, KEY, "narrow", max_running=1)
    await limit(store, KEY, "wide", max_running=3)
    await spawned(store, 4, concurrency_key="narrow", concurrency_limit=2)
    await spawned(store, 4, concurrency_key="wide", concurrency_limit=2)
    jobs = await store.get_many([job.id for job in await claimed(store)])
    assert Counter(job.concurrency_key for job in jobs) == {"narrow": 1, "wide": 3}


async def test_a_key_at_its_limit_at_the_head_hinders_nobody_behind_it(store: JobStore) -> None:
    await spawned(store, 300, priority=-10, concurrency_key="greedy", concurrency_limit=1)
    others = await spawned(store, 5, priority=10, concurrency_key="modest", concurrency_limit=5)
    plain = await spawned(store, 5, priority=20)
    jobs = [job.id for job in await claimed(store, 20)]
    assert jobs[1:] == [*others, *plain]
    assert await claimed(store, 20) == []


async def test_an_owner_at_its_limit_at_the_head_hinders_nobody_behind_it(store: JobStore) -> None:
    await limit(store, OWNER, "greedy", max_running=1)
    await spawned(store, 300, priority=-10, owner="greedy")
    others = await spawned(store, 15, priority=10, owner="modest")
    jobs = [job.id for job in await claimed(store, 10)]
    assert jobs[1:] == others[:9]
    assert [job.id for job in await claimed(store, 10)] == others[9:]


async def test_limited_and_unlimited_jobs_start_in_one_order(store: JobStore) -> None:
    keyed = await spawned(store, 2, priority=0, concurrency_key="k", concurrency_limit=9)
    plain = await spawned(store, 2, priority=-1)
    more = await spawned(store, 2, priority=1)
    assert [job.id for job in await claimed(store, 5)] == [*plain, *keyed, more[0]]


async def test_one_limit_reached_does_not_use_up_another(store: JobStore) -> None:
    """A job that its key hinders takes nothing of its owner's limit."""
    await limit(store, OWNER, "ada", max_running=2)
    await spawned(store, 3, owner="ada", concurrency_key="k", concurrency_limit=1)
    free = await spawned(store, 2, owner="ada")
    jobs = [job.id for job in await claimed(store)]
    assert len(jobs) == 2
    assert jobs[1] == free[0]


@pytest.mark.parametrize(
    "event",
    [Succeed("1"), Fail(ERROR, 0.0), Snooze(0.0), Park(WaitingOn.CHILDREN)],
    ids=lambda event: type(event).__name__,
)
async def test_whatever_ends_an_attempt_frees_its_place(store: JobStore, event: Succeed | Fail | Snooze | Park) -> None:
    await spawned(store, 2, concurrency_key="k", concurrency_limit=1, max_attempts=2)
    [job] = await claimed(store)
    await applied(store, outcome(job, event))
    assert len(await claimed(store)) == 1
    assert await claimed(store) == []


async def test_a_cancel_and_a_rescue_free_the_place(store: JobStore) -> None:
    await spawned(store, 3, concurrency_key="k", concurrency_limit=1)
    [first] = await claimed(store)
    await store.cancel([first.id], actor="client:test")
    [second] = await claimed(store, lease=LONG_AGO)
    await store.rescue(actor="node:b", policy=Policy(), limit=9, retry_delay_seconds=lambda attempt: 0.0)
    assert (await record(store, second.id)).status is Status.FAILED
    assert len(await claimed(store)) == 1


async def test_a_stale_attempt_frees_no_place_of_the_newer_one(store: JobStore) -> None:
    await spawned(store, concurrency_key="k", concurrency_limit=1, max_attempts=3)
    [stale] = await claimed(store, lease=LONG_AGO)
    await store.rescue(actor="node:b", policy=Policy(), limit=9, retry_delay_seconds=lambda attempt: 0.0)
    [fresh] = await claimed(store)
    assert fresh.id == stale.id
    await spawned(store, concurrency_key="k", concurrency_limit=1)
    await store.apply([outcome(stale, Succeed("1"))], actor="node:here")
    assert await claimed(store) == []
    await end(store, fresh)
    assert len(await claimed(store)) == 1


async def test_what_ran_before_a_limit_was_set_counts(store: JobStore) -> None:
    await spawned(store, 5)
    before = await claimed(store, 3)
    await limit(store, QUEUE, "default", max_running=3)
    assert await claimed(store) == []
    await end(store, *before[:2])
    assert len(await claimed(store)) == 2
    await store.controls.clear_limit(QUEUE, "default")
    await spawned(store, 2)
    assert len(await claimed(store)) == 2


async def test_a_limit_of_none_stops_a_queue_and_clearing_it_starts_it(store: JobStore) -> None:
    await spawned(store)
    await limit(store, QUEUE, "default", max_running=0)
    assert await claimed(store) == []
    assert await store.controls.clear_limit(QUEUE, "default") is True
    assert await store.controls.clear_limit(QUEUE, "default") is False
    assert len(await claimed(store)) == 1


async def test_limits_can_be_read_back(store: JobStore) -> None:
    await limit(store, QUEUE, "q", max_running=1, max_queued=2, rate=3, rate_period_seconds=4.0)
    await limit(store, OWNER, "*", max_queued=5)
    await limit(store, OWNER, "*", max_queued=6)
    assert list((await store.controls.read()).limits) == [
        Limit(OWNER, "*", max_queued=6),
        Limit(QUEUE, "q", max_running=1, max_queued=2, rate=3, rate_period_seconds=4.0),
    ]


async def test_concurrent_claims_never_exceed_a_limit(store: JobStore) -> None:
    await limit(store, KIND, "kind", max_running=7)
    await spawned(store, 60, owner="a")
    await spawned(store, 60, concurrency_key="k", concurrency_limit=2)
    running: set[ClaimedJob] = set()
    done = 0
    while done < 120:
        for jobs in await asyncio.gather(*(claimed(store, 5) for _ in range(4))):
            running.update(jobs)
        assert 0 < len(running) <= 7
        keyed = await store.get_many([job.id for job in running])
        assert sum(job.concurrency_key == "k" for job in keyed) <= 2
        ended = sorted(running)[: 1 + done % 7]
        await end(store, *ended)
        running.difference_update(ended)
        done += len(ended)


# Rates


async def test_a_rate_lets_so_many_start_and_then_no_more(store: JobStore) -> None:
    await limit(store, QUEUE, "default", rate=3, rate_period_seconds=3600.0)
    await spawned(store, 5)
    assert len(await claimed(store, 2)) == 2
    assert len(await claimed(store)) == 1
    assert await claimed(store) == []
    await limit(store, KEY, "k", rate=1, rate_period_seconds=3600.0)
    await spawned(store, 3, queue="other", concurrency_key="k", concurrency_limit=9)
    await spawned(store, 1, queue="other", concurrency_key="l", concurrency_limit=9)
    assert len(await claimed(store, queue="other")) == 2


async def test_an_ended_job_gives_no_token_back(store: JobStore) -> None:
    await limit(store, KIND, "kind", rate=1, rate_period_seconds=3600.0)
    await spawned(store, 2)
    await end(store, *await claimed(store))
    assert await claimed(store) == []


# Bounds on what waits


async def test_a_full_queue_refuses_with_a_hint_and_writes_nothing(store: JobStore) -> None:
    await limit(store, QUEUE, "default", max_queued=3)
    await spawned(store, 2)
    await spawned(store, 1, delay_seconds=3600)
    await spawned(store, 1, queue="other")
    with pytest.raises(QueueFull, match=r"queue 'default' may have 3 jobs waiting and has all of them; 1 more") as full:
        await spawned(store, 1, concurrency_key="k", concurrency_limit=1)
    assert full.value.retry_after_seconds > 0
    await claimed(store, 1)
    await spawned(store, 1, concurrency_key="k", concurrency_limit=1)
    with pytest.raises(QueueFull):
        await spawned(store, 1)
    assert len(await store.list_jobs(JobFilter(), limit=99)) == 5


async def test_a_spawn_of_many_is_taken_or_refused_as_a_whole(store: JobStore) -> None:
    await limit(store, QUEUE, "default", max_queued=100)
    jobs = [new_job() for _ in range(101)]
    with pytest.raises(QueueFull, match="none of them fits even when nothing waits"):
        await store.spawn(jobs, actor="client:test")
    await store.spawn(jobs[:99], actor="client:test")
    with pytest.raises(QueueFull, match="has 99; 2 more were refused"):
        await store.spawn(jobs[-2:], actor="client:test")
    assert len(await store.list_jobs(JobFilter(), limit=200)) == 99


async def test_an_owner_may_have_so_many_waiting_in_all_queues(store: JobStore) -> None:
    await limit(store, OWNER, "*", max_queued=2)
    await limit(store, OWNER, "big", max_queued=4)
    await spawned(store, 1, owner="a")
    await spawned(store, 1, owner="a", queue="other", status=Status.CREATED)
    with pytest.raises(QueueFull, match=r"owner 'a' may have 2 .*callboard limit set owner a"):
        await spawned(store, 1, owner="a")
    await spawned(store, 2, owner="b")
    await spawned(store, 4, owner="big")
    await spawned(store, 9)


async def test_concurrent_spawns_do_not_exceed_a_bound(store: JobStore) -> None:
    await limit(store, QUEUE, "default", max_queued=5)

    async def spawn() -> bool:
        try:
            await spawned(store)
        except QueueFull:
            return False
        return True

    assert sum(await asyncio.gather(*(spawn() for _ in range(12)))) == 5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "expected one of max_running, max_queued and rate"),
        ({"max_running": -1}, "max_running: got -1"),
        ({"rate": 1, "rate_period_seconds": 0.5}, "expected 1 or more"),
        ({"scope": KIND, "max_queued": 1}, "max_queued is for queues and owners"),
        ({"name": "", "max_running": 1}, "expected 1 to 200 printable characters"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Limit(**({"scope": QUEUE, "name": "q"} | fields))  # type: ignore[arg-type]


# Wake-ups


async def test_the_end_of_a_counted_job_wakes_those_that_wait_for_its_place(parts: StoreParts) -> None:
    await parts.store.open()
    hints: asyncio.Queue[str] = asyncio.Queue()
    listening = asyncio.ensure_future(parts.wake_ups.run(lambda topic, detail: hints.put_nowait(topic)))
    assert await hints.get() == "listening"
    await spawned(parts.store, concurrency_key="k", concurrency_limit=1)
    await spawned(parts.store)
    jobs = await claimed(parts.store)
    await limit(parts.store, QUEUE, "other", max_running=1)
    async with asyncio.timeout(10):
        while await hints.get() != "controls":
            pass
        await end(parts.store, *jobs)
        while await hints.get() != "freed":
            pass
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await parts.store.close()


async def test_the_summary_tells_how_much_of_the_limits_is_used(store: JobStore) -> None:
    assert (await store.summary()).quotas == ()
    await limit(store, OWNER, "*", max_running=2, max_queued=4)
    await limit(store, QUEUE, "default", max_queued=10)
    await limit(store, KIND, "unused", max_running=5)
    await spawned(store, 5 - 1, owner="a")
    await spawned(store, 1, owner="b")
    await spawned(store, 3, owner=None, concurrency_key="k", concurrency_limit=2)
    jobs = await claimed(store)
    assert Counter(job.owner for job in jobs) == {"a": 2, "b": 1, None: 2}
    found = {usage.quota: (usage.max_ratio, usage.at_limit) for usage in (await store.summary()).quotas}
    assert found == {
        "owner_running": (1.0, 1),
        "owner_queued": (0.5, 0),
        "queue_queued": (0.3, 0),
        "kind_running": (0.0, 0),
        "key_running": (1.0, 1),
    }
