"""What is deleted when it need not be kept any longer, and what never is."""

from __future__ import annotations

from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import Fail, Park, Succeed
from callboard.actors.jobs.retention import Pruned, Retention
from callboard.actors.jobs.state import Status, WaitingOn
from callboard.actors.jobs.types import AttemptKey, JobFilter

from .support import ERROR, applied, new_job, outcome, record, running, spawned

NOW = Retention(completed_seconds=-1.0, failed_seconds=-1.0)
"""Everything that has ended is older than it need be kept."""


async def left(store: JobStore) -> list[Status]:
    return sorted(job.status for job in await store.list_jobs(JobFilter(), limit=9999))


async def one_of_each(store: JobStore) -> None:
    completed, failed, cancelled = [await running(store) for _ in range(3)]
    await applied(store, outcome(completed, Succeed("1")), outcome(failed, Fail(ERROR, 0.0)))
    await store.cancel([cancelled.id], actor="client:test")
    await running(store)
    await spawned(store)
    await spawned(store, status=Status.CREATED)


async def test_only_what_has_ended_is_deleted(store: JobStore) -> None:
    await one_of_each(store)
    assert await store.prune(NOW) == Pruned(jobs=3)
    assert await left(store) == [Status.CREATED, Status.PENDING, Status.RUNNING]
    assert await store.prune(NOW) == Pruned()


async def test_completed_and_other_jobs_have_times_of_their_own(store: JobStore) -> None:
    await one_of_each(store)
    assert await store.prune(Retention()) == Pruned()
    assert await store.prune(Retention(completed_seconds=3600.0, failed_seconds=3600.0)) == Pruned()
    assert await store.prune(Retention(completed_seconds=-1.0)) == Pruned(jobs=1)
    assert Status.FAILED in await left(store)
    assert await store.prune(Retention(completed_seconds=3600.0, failed_seconds=-1.0)) == Pruned(jobs=2)


async def test_children_stay_as_long_as_their_parent_has_not_ended(store: JobStore) -> None:
    parent = await running(store)
    child = new_job(parent_id=parent.id, child_key="c", child_index=0, queue="children")
    await store.spawn([child], actor="node:here", parent=AttemptKey(parent.id, parent.token))
    await store.cancel([child.id], actor="client:test")
    assert await store.prune(NOW) == Pruned()
    assert [job.id for job in await store.children(parent.id, "c")] == [child.id]
    await applied(store, outcome(parent, Park(WaitingOn.CHILDREN)))
    assert await store.prune(NOW) == Pruned()
    await store.cancel([parent.id], actor="client:test")
    assert (await store.prune(NOW)).jobs + (await store.prune(NOW)).jobs == 2


async def test_many_are_deleted_in_one_call(store: JobStore) -> None:
    ids = [answer.id for answer in await store.spawn([new_job() for _ in range(4500)], actor="client:test")]
    await store.cancel(ids[:-1], actor="client:test")
    assert await store.prune(NOW) == Pruned(jobs=4499)
    assert await left(store) == [Status.PENDING]


async def test_a_result_expires_for_readers_at_once_and_is_deleted_by_the_next_sweep(store: JobStore) -> None:
    kept = await running(store, result_ttl_seconds=3600.0)
    short = await running(store, result_ttl_seconds=1e-6)
    plain = await running(store)
    await applied(store, *(outcome(job, Succeed('{"big": 1}')) for job in (kept, short, plain)))
    stored = await record(store, short.id)
    assert (stored.status, stored.result, stored.result_expired) == (Status.COMPLETED, None, True)
    for job in (kept, plain):
        stored = await record(store, job.id)
        assert (stored.result, stored.result_expired) == ('{"big": 1}', False)
    assert await store.prune(Retention()) == Pruned(results=1)
    assert await store.prune(Retention()) == Pruned()
    assert (await record(store, short.id)).result_expired
    assert (await record(store, kept.id)).result == '{"big": 1}'
