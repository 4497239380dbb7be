"""Callbacks: whom to tell of ended jobs, whatever ended them."""

from __future__ import annotations

import json

import pytest

from callboard.actors.callbacks.attempts import Attempt, CallbackOutcome, CallbackState, Verdict, judge
from callboard.actors.callbacks.types import DueCallback
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import Policy, Succeed
from callboard.actors.jobs.retention import Retention

from .support import LONG_AGO, applied, outcome, record, running, spawned

URL = "https://example.com/done"
LATER = Verdict(CallbackState.PENDING, CallbackOutcome.RETRY, 3600)
NOW = LATER._replace(delay_seconds=0)


async def completed(store: JobStore, **fields: object) -> DueCallback:
    job = await running(store, callback_url=URL, **fields)
    await applied(store, outcome(job, Succeed("1")))
    [callback] = await due(store)
    return callback


async def due(store: JobStore, lease: float = 60) -> list[DueCallback]:
    return await store.callbacks.claim(100, lease_seconds=lease)


async def test_a_job_without_a_callback_owes_none(store: JobStore) -> None:
    await applied(store, outcome(await running(store), Succeed("1")))
    assert await due(store) == []
    assert await store.callbacks.read(None, limit=10) == []
    assert (await store.summary()).callbacks_pending == 0


async def test_a_completed_job_owes_one(store: JobStore) -> None:
    callback = await completed(store, metadata='{"tenant": "acme"}')
    job = await record(store, callback.job_id)
    assert (callback.url, callback.status, callback.attempt, callback.kind) == (URL, "completed", 1, "kind")
    assert (callback.job_attempt, callback.finished_at) == (1, job.finished_at)
    assert json.loads(callback.metadata or "") == {"tenant": "acme"}
    assert job.callback_url == URL
    assert (await store.summary()).callbacks_pending == 1


@pytest.mark.parametrize("queued", [True, False])
async def test_a_cancelled_job_owes_one(store: JobStore, queued: bool) -> None:
    if queued:
        [job_id] = await spawned(store, callback_url=URL)
    else:
        job_id = (await running(store, callback_url=URL)).id
    await store.cancel([job_id], actor="client:test")
    [callback] = await due(store)
    assert (callback.job_id, callback.status) == (job_id, "cancelled")


async def test_jobs_that_a_sweep_ends_owe_one(store: JobStore) -> None:
    poison = await running(store, callback_url=URL, max_attempts=1, lease=LONG_AGO)
    [late] = await spawned(store, callback_url=URL, deadline_seconds=LONG_AGO)
    assert await due(store) == []
    await store.rescue(actor="node:here", policy=Policy(), limit=10, retry_delay_seconds=lambda _: 0)
    found = {callback.job_id: callback for callback in await due(store)}
    assert found.keys() == {poison.id, late}
    assert {callback.status for callback in found.values()} == {"failed"}
    assert {callback.stop_reason for callback in found.values()} == {"lease_expired", "deadline"}


async def test_many_jobs_at_once_keep_their_callbacks(store: JobStore) -> None:
    jobs = await spawned(store, 100, callback_url=URL)
    await store.cancel(jobs, actor="client:test")
    assert {callback.job_id for callback in await due(store)} == set(jobs)


async def test_a_claim_holds_for_its_lease_and_no_longer(store: JobStore) -> None:
    first = await completed(store)
    assert await due(store) == []
    await store.callbacks.record(first, Attempt(1, 500, "no"), NOW)
    [second] = await due(store, lease=LONG_AGO)
    [third] = await due(store)
    assert (second.attempt, third.attempt, second.token < third.token) == (2, 3, True)
    assert not await store.callbacks.record(second, Attempt(2, 200), judge(Attempt(2, 200), 0)), "its lease is over"
    assert await store.callbacks.record(third, Attempt(3, 200), judge(Attempt(3, 200), 0))
    assert not await store.callbacks.record(third, Attempt(3, 500, "no"), NOW), "it is delivered"


async def test_what_came_of_it_is_on_the_job(store: JobStore) -> None:
    callback = await completed(store)
    await store.callbacks.record(callback, Attempt(1, 503, "the receiver answered 503"), LATER)
    job = await record(store, callback.job_id)
    assert job.callback_sent_at is not None
    assert (job.callback_status_code, job.callback_error) == (503, "the receiver answered 503")
    [listed] = await store.callbacks.read(CallbackState.PENDING, limit=10)
    assert (listed.job_id, listed.url, listed.attempts, listed.status_code) == (callback.job_id, URL, 1, 503)
    assert listed.next_attempt_at is not None
    assert await due(store) == [], "its time has not come"


async def test_a_blocked_one_was_not_sent_and_is_replayed(store: JobStore) -> None:
    callback = await completed(store)
    blocked = Attempt(1, None, "it is private", blocked=True)
    await store.callbacks.record(callback, blocked, judge(blocked, 0))
    job = await record(store, callback.job_id)
    assert (job.callback_sent_at, job.callback_error) == (None, "it is private")
    [dead] = await store.callbacks.read(CallbackState.DEAD, limit=10)
    assert (dead.job_id, dead.next_attempt_at) == (callback.job_id, None)
    assert await store.callbacks.replay([callback.job_id]) == [callback.job_id]
    assert await store.callbacks.replay([callback.job_id]) == []
    [again] = await due(store)
    assert again.attempt == 1
    assert again.token > callback.token


async def test_what_is_put_off_is_due_later_and_has_cost_no_attempt(store: JobStore) -> None:
    callback = await completed(store)
    await store.callbacks.put_off([(callback, 3600)])
    assert await due(store) == []
    [waiting] = await store.callbacks.read(CallbackState.PENDING, limit=10)
    assert (waiting.attempts, waiting.sent_at) == (0, None)
    await store.callbacks.put_off([(callback, LONG_AGO)])
    [again] = await due(store)
    await store.callbacks.put_off([(callback, LONG_AGO)])  # somebody else has it by now
    assert await due(store) == []
    assert again.job_id == callback.job_id


async def test_a_job_is_kept_until_its_callback_has_ended(store: JobStore) -> None:
    callback = await completed(store)
    at_once = Retention(-1, -1, None)
    assert (await store.prune(at_once)).jobs == 0
    await store.callbacks.record(callback, Attempt(1, 200), judge(Attempt(1, 200), 0))
    assert (await store.prune(at_once)).jobs == 1
    assert await store.callbacks.read(None, limit=10) == []
