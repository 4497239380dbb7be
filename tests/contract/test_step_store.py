"""What jobs did once: kept by the attempt that runs, found by all that follow, deleted with the job."""

import pytest

from callboard.actors.errors import StaleAttempt
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import Fail, Policy, Snooze, Succeed
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.retention import Retention
from callboard.actors.jobs.types import AttemptKey, ClaimedJob

from .support import ERROR, LONG_AGO, applied, claimed, outcome, running


def attempt(job: ClaimedJob) -> AttemptKey:
    return AttemptKey(job.id, job.token)


async def test_a_step_is_found_under_its_job_and_key(store: JobStore) -> None:
    job, other = await running(store), await running(store)
    assert await store.steps.read(job.id, "draft") is None
    assert await store.steps.record(attempt(job), "draft", '{"text": "é\\u0000"}') == '{"text": "é\\u0000"}'
    assert await store.steps.read(job.id, "draft") == '{"text": "é\\u0000"}'
    assert await store.steps.read(job.id, "review") is None
    assert await store.steps.read(other.id, "draft") is None


async def test_the_first_result_stands(store: JobStore) -> None:
    job = await running(store)
    assert await store.steps.record(attempt(job), "draft", "null") == "null"
    assert await store.steps.record(attempt(job), "draft", "2") == "null"
    assert await store.steps.read(job.id, "draft") == "null"


@pytest.mark.parametrize("event", [Fail(ERROR, 0.0), Snooze(0.0)])
async def test_the_next_attempt_finds_it_and_the_one_before_keeps_no_more(store: JobStore, event: object) -> None:
    before = await running(store, max_attempts=2)
    await store.steps.record(attempt(before), "draft", "1")
    await applied(store, outcome(before, event))
    with pytest.raises(StaleAttempt, match="is pending with token 1, so the attempt with token 1 can record no step"):
        await store.steps.record(attempt(before), "review", "1")
    [after] = await claimed(store)
    with pytest.raises(StaleAttempt, match="is running with token 2"):
        await store.steps.record(attempt(before), "review", "1")
    assert await store.steps.read(after.id, "draft") == "1"
    assert await store.steps.record(attempt(after), "review", "2") == "2"


async def test_a_rescued_attempt_keeps_nothing(store: JobStore) -> None:
    job = await running(store, lease=LONG_AGO, max_attempts=2)
    await store.rescue(actor="node:here", policy=Policy(), limit=10, retry_delay_seconds=lambda _: 0)
    with pytest.raises(StaleAttempt):
        await store.steps.record(attempt(job), "draft", "1")
    assert await store.steps.read(job.id, "draft") is None


async def test_a_cancelled_job_and_one_that_never_was_keep_nothing(store: JobStore) -> None:
    job = await running(store)
    await store.cancel([job.id], actor="client:test")
    with pytest.raises(StaleAttempt, match="is cancelled"):
        await store.steps.record(attempt(job), "draft", "1")
    with pytest.raises(StaleAttempt, match="does not exist"):
        await store.steps.record(AttemptKey(uuid7(), 1), "draft", "1")


async def test_steps_are_deleted_with_their_job(store: JobStore) -> None:
    job, kept = await running(store), await running(store)
    for one in (job, kept):
        await store.steps.record(attempt(one), "draft", "1")
    await applied(store, outcome(job, Succeed("1")))
    pruned = await store.prune(Retention(completed_seconds=LONG_AGO))
    assert pruned.jobs == 1
    assert await store.steps.read(job.id, "draft") is None
    assert await store.steps.read(kept.id, "draft") == "1"
