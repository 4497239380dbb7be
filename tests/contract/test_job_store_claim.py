"""Claiming, leases and rescue."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from callboard.actors.errors import ValueNotStorable
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import Fail, Park, Policy, Snooze, SoftStop, Succeed
from callboard.actors.jobs.state import Reason, Status, WaitingOn
from callboard.actors.jobs.turn import DEFAULT_AGING_SECONDS
from callboard.actors.jobs.types import AttemptKey, JobFilter, QueueDemand, Refused, Rescued

from .support import ERROR, LONG_AGO, applied, claimed, new_job, outcome, record, running, spawned, statuses


async def rescue(store: JobStore, *, limit: int = 100, delay: float = 0.0) -> list[Rescued]:
    return await store.rescue(actor="node:b", policy=Policy(), limit=limit, retry_delay_seconds=lambda attempt: delay)


async def test_a_claimed_job_runs_here_with_a_fresh_token_and_a_lease(store: JobStore) -> None:
    [job_id] = await spawned(store, owner="me", timeout_seconds=2.5, max_attempts=3, deadline_seconds=60)
    [job] = await claimed(store)
    stored = await record(store, job_id)
    assert (job.id, job.kind, job.queue, job.attempt, job.token) == (job_id, "kind", "default", 1, 1)
    assert (job.owner, job.timeout_seconds, job.max_attempts, job.parent_id) == ("me", 2.5, 3, None)
    assert job.deadline == stored.deadline
    assert 0 <= job.wait_seconds < 60
    assert (stored.status, stored.attempt, stored.token, stored.node) == (Status.RUNNING, 1, 1, "here")
    assert stored.started_at is not None
    assert stored.lease_expires_at == stored.started_at + timedelta(seconds=60)
    row = (await store.history(job_id))[-1]
    assert (row.from_status, row.to_status, row.reason) == (Status.PENDING, Status.RUNNING, Reason.CLAIMED)
    assert (row.attempt, row.actor) == (1, "node:here")


async def test_a_claimed_job_is_not_claimed_again(store: JobStore) -> None:
    await spawned(store, 3)
    assert len(await claimed(store)) == 3
    assert await claimed(store) == []


async def test_in_the_order_of_their_times_shifted_by_priority(store: JobStore) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    last = await spawned(store, priority=32767)
    late = await spawned(store, 3, priority=0)
    urgent = await spawned(store, priority=-32768)
    aged = [
        *await spawned(store, priority=-1, run_at=past),
        *await spawned(store, priority=-1, run_at=past + timedelta(seconds=1)),
        *await spawned(store, 4, priority=0, run_at=past),
        *await spawned(store, priority=-1, run_at=past + timedelta(seconds=61)),
        *await spawned(store, priority=1, run_at=past + timedelta(seconds=2)),
    ]
    order = [job.id for _ in range(15) for job in await claimed(store, 1)]
    assert order == [*aged, *urgent, *late, *last]


async def test_who_has_waited_longer_than_a_priority_is_worth_is_overtaken_no_more(store: JobStore) -> None:
    now = datetime.now(UTC)
    old = await spawned(store, priority=1, run_at=now - timedelta(seconds=DEFAULT_AGING_SECONDS + 30))
    young = await spawned(store, priority=1, run_at=now - timedelta(seconds=DEFAULT_AGING_SECONDS - 30))
    urgent = await spawned(store, priority=0)
    assert [job.id for _ in range(3) for job in await claimed(store, 1)] == [*old, *urgent, *young]


async def test_a_retry_is_in_the_order_as_if_it_had_come_then(store: JobStore) -> None:
    failing = [await running(store, priority=priority, max_attempts=3) for priority in (0, -1)]
    waiting = await spawned(store)
    await applied(store, *(outcome(job, Fail(ERROR, 0.0)) for job in failing))
    order = [job.id for _ in range(3) for job in await claimed(store, 1)]
    assert order == [failing[1].id, *waiting, failing[0].id]


async def test_a_delayed_job_is_claimed_when_its_time_has_come_however_busy_its_queue_is(store: JobStore) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    [delayed] = await spawned(store, priority=-1, run_at=soon)
    await spawned(store, 5_000)
    found = await until_claimed(store, delayed)
    assert (await record(store, found)).run_at == soon


async def until_claimed(store: JobStore, job_id: UUID) -> UUID:
    """Claim in small steps until a job is among what was claimed, while there are others in its queue."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        jobs = await claimed(store, 2)
        if job_id in {job.id for job in jobs}:
            return job_id
        assert len(jobs) == 2, "the backlog is over: this says nothing"
        await asyncio.sleep(0.02)
    pytest.fail("the delayed job is not claimed")


async def test_one_claim_returns_them_in_that_order_too(store: JobStore) -> None:
    low = await spawned(store, 2, priority=9)
    high = await spawned(store, 2, priority=1)
    assert [job.id for job in await claimed(store, 3)] == [*high, low[0]]


async def test_each_queue_gets_its_own_limit(store: JobStore) -> None:
    for queue in ("a", "b", "c"):
        await spawned(store, 5, queue=queue)
    demands = [QueueDemand("a", 2), QueueDemand("b", 9), QueueDemand("none", 3), QueueDemand("c", 0)]
    jobs = await store.claim(demands, node="here", lease_seconds=60)
    assert sorted(job.queue for job in jobs) == ["a"] * 2 + ["b"] * 5
    assert await store.claim([], node="here", lease_seconds=60) == []


async def test_concurrent_claims_share_without_overlap(store: JobStore) -> None:
    ids = await spawned(store, 300)
    rounds = await asyncio.gather(*(claimed(store, 40) for _ in range(10)))
    jobs = [job.id for jobs in rounds for job in jobs]
    assert len(jobs) == len(set(jobs))
    rest = await claimed(store, 300)
    assert sorted([*jobs, *(job.id for job in rest)]) == sorted(ids)


async def test_delayed_jobs_of_a_high_priority_do_not_hide_those_below(store: JobStore) -> None:
    await spawned(store, 100, priority=-1, delay_seconds=3600)
    [job_id] = await spawned(store, priority=5)
    assert [job.id for job in await claimed(store, 10)] == [job_id]


async def test_run_now_ends_the_waiting_for_the_time(store: JobStore) -> None:
    [delayed] = await spawned(store, delay_seconds=3600)
    [ready] = await spawned(store)
    [held] = await spawned(store, status=Status.CREATED, delay_seconds=3600)
    assert await store.run_now([delayed, ready, held, new_job().id]) == [delayed]
    assert {job.id for job in await claimed(store)} == {delayed, ready}
    assert await statuses(store, delayed) == [Status.PENDING, Status.RUNNING]
    assert await store.run_now([]) == []


async def test_a_released_job_keeps_its_time(store: JobStore) -> None:
    [later] = await spawned(store, status=Status.CREATED, delay_seconds=3600)
    [now] = await spawned(store, status=Status.CREATED)
    await store.release([later, now], actor="client:test")
    assert [job.id for job in await claimed(store)] == [now]
    assert (await record(store, later)).run_at > datetime.now(UTC) + timedelta(minutes=50)


async def test_a_job_past_its_deadline_is_not_claimed_but_failed(store: JobStore) -> None:
    [late] = await spawned(store, deadline_seconds=LONG_AGO)
    [held] = await spawned(store, deadline_seconds=LONG_AGO, status=Status.CREATED)
    [other] = await spawned(store, deadline_seconds=3600)
    assert [job.id for job in await claimed(store)] == [other]
    rescued = await rescue(store)
    assert {(job.job_id, job.to_status, job.reason) for job in rescued} == {
        (late, Status.FAILED, Reason.DEADLINE),
        (held, Status.FAILED, Reason.DEADLINE),
    }
    job = await record(store, late)
    assert (job.stop_reason, job.attempt) == ("deadline", 0)
    assert job.error is not None
    assert job.error["type"] == "DeadlineExceeded"
    assert await statuses(store, held) == [Status.CREATED, Status.FAILED]


async def test_a_rescued_job_runs_again_and_the_crash_counts(store: JobStore) -> None:
    job = await running(store, max_attempts=2, lease=LONG_AGO)
    assert await rescue(store) == [Rescued(job.id, "kind", "default", Status.PENDING, Reason.LEASE_EXPIRED)]
    stored = await record(store, job.id)
    assert (stored.status, stored.attempt, stored.lease_expires_at) == (Status.PENDING, 1, None)
    assert stored.error is not None
    [again] = await claimed(store)
    assert (again.id, again.attempt, again.token) == (job.id, 2, job.token + 1)
    row = (await store.history(job.id))[2]
    assert (row.reason, row.actor, row.attempt) == (Reason.LEASE_EXPIRED, "node:b", 1)


async def test_a_poison_job_fails_after_its_attempts(store: JobStore) -> None:
    [job_id] = await spawned(store, max_attempts=3)
    for _ in range(3):
        assert len(await claimed(store, lease=LONG_AGO)) == 1
        await rescue(store)
    stored = await record(store, job_id)
    assert (stored.status, stored.stop_reason, stored.attempt) == (Status.FAILED, "lease_expired", 3)
    assert await claimed(store) == []


async def test_a_rescued_job_waits_for_its_retry_delay(store: JobStore) -> None:
    job = await running(store, max_attempts=2, lease=LONG_AGO)
    await rescue(store, delay=3600)
    assert await claimed(store) == []
    assert (await record(store, job.id)).run_at > datetime.now(UTC) + timedelta(minutes=50)


async def test_a_sweep_takes_no_more_than_its_limit_and_no_live_job(store: JobStore) -> None:
    await spawned(store, 5, max_attempts=2)
    await claimed(store, lease=LONG_AGO)
    alive = await running(store)
    assert len(await rescue(store, limit=3)) == 3
    assert len(await rescue(store, limit=3)) == 2
    assert await rescue(store, limit=3) == []
    assert (await record(store, alive.id)).status is Status.RUNNING


async def test_concurrent_sweeps_rescue_each_job_once(store: JobStore) -> None:
    ids = await spawned(store, 60, max_attempts=2)
    await claimed(store, lease=LONG_AGO)
    sweeps = await asyncio.gather(*(rescue(store) for _ in range(5)))
    assert sorted(job.job_id for sweep in sweeps for job in sweep) == sorted(ids)
    assert len(await store.history(ids[0])) == 3


async def test_the_leases_of_dead_nodes_end_at_once_and_those_of_the_living_stay(store: JobStore) -> None:
    await spawned(store, 3, max_attempts=2)
    by_node = {
        node: (await store.claim([QueueDemand("default", 1)], node=node, lease_seconds=3600))[0].id
        for node in ("dead", "dead too", "alive")
    }
    assert await store.expire_leases([]) == 0
    assert await store.expire_leases(["dead", "dead too", "never seen"]) == 2
    assert await store.expire_leases(["dead", "dead too"]) == 0
    assert {job.job_id for job in await rescue(store)} == {by_node["dead"], by_node["dead too"]}
    assert (await record(store, by_node["alive"])).status is Status.RUNNING
    assert [row.reason for row in await store.history(by_node["dead"])] == ["spawned", "claimed", "lease_expired"]


async def test_what_a_dead_node_still_writes_is_refused(store: JobStore) -> None:
    job = await running(store, max_attempts=2, lease=3600)
    await store.expire_leases(["here"])
    await rescue(store)
    [answer] = await store.apply([outcome(job, Succeed("1"))], actor="node:here")
    assert isinstance(answer, Refused)
    assert await store.renew([AttemptKey(job.id, job.token)], lease_seconds=60) == [AttemptKey(job.id, job.token)]


async def test_only_what_dead_nodes_ran_is_taken_back_where_they_are_named(store: JobStore) -> None:
    await spawned(store, 2, max_attempts=2)
    by_node = {
        node: (await store.claim([QueueDemand("default", 1)], node=node, lease_seconds=LONG_AGO))[0].id
        for node in ("dead", "silent")
    }
    await spawned(store, deadline_seconds=LONG_AGO)
    rescued = await store.rescue(
        actor="node:b",
        policy=Policy(),
        limit=9,
        retry_delay_seconds=lambda attempt: 0.0,
        only_nodes=["dead", "of which nothing ran"],
        server_up_seconds=1e6,
    )
    assert [one.job_id for one in rescued] == [by_node["dead"]]
    assert len(await rescue(store)) == 2


async def test_a_renewed_lease_is_longer_and_the_lost_ones_come_back(store: JobStore) -> None:
    mine, stolen, gone = [await running(store, max_attempts=3, lease=LONG_AGO) for _ in range(3)]
    keys = [AttemptKey(job.id, job.token) for job in (mine, stolen, gone)]
    missing = AttemptKey(new_job().id, 1)
    await store.cancel([gone.id], actor="client:test")
    assert await store.renew([keys[0]], lease_seconds=60) == []
    await rescue(store)
    await claimed(store)
    assert await store.renew([*keys, missing], lease_seconds=60) == [*keys[1:], missing]
    assert await rescue(store) == []
    assert await store.renew([], lease_seconds=60) == []
    assert (await record(store, mine.id)).token == mine.token


@pytest.mark.parametrize(
    ("event", "attempts_left"),
    [
        (SoftStop(), 3),
        (Snooze(0), 3),
        (Park(WaitingOn.CHILDREN), 3),
        (Fail(ERROR, 0), 2),
    ],
    ids=["shutdown", "snooze", "park", "error"],
)
async def test_only_the_jobs_own_fault_counts_as_an_attempt(
    store: JobStore, event: SoftStop | Snooze | Park | Fail, attempts_left: int
) -> None:
    job = await running(store, max_attempts=3)
    await applied(store, outcome(job, event))
    [again] = await claimed(store)
    assert again.max_attempts - again.attempt + 1 == attempts_left
    assert again.token == 2
    assert [row.attempt for row in await store.history(job.id)] == [0, 1, 1, again.attempt]


async def test_of_two_attempts_of_a_job_only_the_newer_one_is_renewed(store: JobStore) -> None:
    stale = await running(store, max_attempts=2)
    await applied(store, outcome(stale, Snooze(0)))
    [fresh] = await claimed(store)
    attempts = [AttemptKey(job.id, job.token) for job in (stale, fresh)]
    assert await store.renew(attempts, lease_seconds=60) == [attempts[0]]
    assert await store.renew(attempts[::-1], lease_seconds=60) == [attempts[0]]


async def test_progress_belongs_to_the_running_attempt(store: JobStore) -> None:
    job = await running(store)
    key = AttemptKey(job.id, job.token)
    stale = key._replace(token=0)
    assert await store.progress({key: {"done": 1, "text": "\u0000 é"}, stale: {"done": 2}}) == {stale}
    assert (await record(store, job.id)).progress == {"done": 1, "text": "\u0000 é"}
    await applied(store, outcome(job, Succeed("1")))
    missing = AttemptKey(new_job().id, 1)
    assert await store.progress({key: {"done": 3}, missing: {}}) == {key, missing}
    assert (await record(store, job.id)).progress == {"done": 1, "text": "\u0000 é"}
    assert len(await store.history(job.id)) == 3


async def test_the_progress_of_many_is_stored_in_one_call(store: JobStore) -> None:
    await spawned(store, 500)
    jobs = await claimed(store, 500)
    assert await store.progress({}) == set()
    assert await store.progress({AttemptKey(job.id, job.token): {"job": str(job.id)} for job in jobs}) == set()
    stored = await store.get_many([job.id for job in jobs])
    assert {job.id: job.progress for job in stored} == {job.id: {"job": str(job.id)} for job in jobs}


@pytest.mark.parametrize("value", [float("nan"), object()], ids=["NaN", "object"])
async def test_progress_that_cannot_be_stored_is_refused_and_nothing_is_written(store: JobStore, value: object) -> None:
    await spawned(store, 2)
    good, bad = [AttemptKey(job.id, job.token) for job in await claimed(store)]
    with pytest.raises(ValueNotStorable, match=f"progress of job {bad.job_id} is not JSON"):
        await store.progress({good: {"done": 1}, bad: {"done": value}})
    assert (await record(store, good.job_id)).progress is None


async def test_a_large_claim(store: JobStore) -> None:
    await spawned(store, 5_000)
    jobs = await claimed(store, 4_000)
    assert len({job.id for job in jobs}) == 4_000
    assert len(await store.list_jobs(JobFilter(statuses=(Status.PENDING,)), limit=5_000)) == 1_000


async def test_orphans_of_a_lost_claim_are_adopted(store: JobStore) -> None:
    await spawned(store, 3, max_attempts=2)
    known, orphan, other = await claimed(store, lease=LONG_AGO)
    adopted = await store.adopt([AttemptKey(known.id, known.token)], node="here", lease_seconds=60)
    assert sorted(adopted) == sorted([orphan, other])
    taken_back = await store.rescue(actor="b", policy=Policy(), limit=9, retry_delay_seconds=lambda attempt: 0)
    assert [job.job_id for job in taken_back] == [known.id]
    assert await statuses(store, orphan.id) == [Status.PENDING, Status.RUNNING]


async def test_nobody_adopts_what_another_node_claimed_or_what_has_ended(store: JobStore) -> None:
    await spawned(store, 2)
    ended, mine = await claimed(store)
    await applied(store, outcome(ended, Succeed(None)))
    assert await store.adopt([], node="elsewhere", lease_seconds=60) == []
    assert [job.id for job in await store.adopt([], node="here", lease_seconds=60)] == [mine.id]


async def test_an_older_attempt_of_the_same_job_does_not_hide_an_orphan(store: JobStore) -> None:
    older = await running(store, max_attempts=3, lease=LONG_AGO)
    await store.rescue(actor="b", policy=Policy(), limit=9, retry_delay_seconds=lambda attempt: 0)
    [newer] = await claimed(store)
    adopted = await store.adopt([AttemptKey(older.id, older.token)], node="here", lease_seconds=60)
    assert [job.token for job in adopted] == [newer.token]


async def test_what_is_known_to_be_alive_is_not_rescued(store: JobStore) -> None:
    await spawned(store, 3, max_attempts=2)
    jobs = await claimed(store, lease=LONG_AGO)
    alive = {AttemptKey(job.id, job.token) for job in jobs[:2]} | {AttemptKey(jobs[2].id, jobs[2].token - 1)}
    taken_back = await store.rescue(
        actor="b", policy=Policy(), limit=1, retry_delay_seconds=lambda attempt: 0, alive=alive
    )
    assert [job.job_id for job in taken_back] == [jobs[2].id]
