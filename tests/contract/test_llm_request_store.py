"""What jobs ask a model: recorded once, gathered into batches, and waited for without an attempt."""

import asyncio
from uuid import UUID

import pytest

from callboard.actors.batches.provider import BatchLimits, Phase, ProviderBatch
from callboard.actors.batches.state import BatchStatus, ItemStatus
from callboard.actors.batches.types import Outcome
from callboard.actors.errors import StaleAttempt, StaleTerm
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import Fail, Park, Policy, Succeed
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.retention import Retention
from callboard.actors.jobs.state import Reason, Status, WaitingOn
from callboard.actors.jobs.types import AttemptKey, ClaimedJob, JobFilter, RequestsWaiting

from .support import ERROR, LONG_AGO, applied, claimed, outcome, record, running

MANY = BatchLimits(100, 1_000_000)
PARK = Park(WaitingOn.LLM_BATCH)
REPLY = Outcome(0, ItemStatus.SUCCEEDED, '{"text": "hello"}')


def attempt(job: ClaimedJob) -> AttemptKey:
    return AttemptKey(job.id, job.token)


async def asked(store: JobStore, key: str = "draft", *, park: bool = True, **fields: object) -> ClaimedJob:
    job = await running(store, **fields)
    assert await store.llm_requests.ask(attempt(job), key, "p", '{"n": 1}') is None
    if park:
        await applied(store, outcome(job, PARK))
    return job


async def gathered(store: JobStore, limits: BatchLimits = MANY, *, count: int, term: int | None = None) -> UUID:
    batch_id = uuid7()
    answer = await store.llm_requests.gather(
        batch_id, "p", None, limits, grace_seconds=60, actor="node:here", term=term
    )
    assert answer == count
    return batch_id


async def sent(store: JobStore, *, count: int) -> UUID:
    batch_id = await gathered(store, count=count)
    await store.batches.confirm(batch_id, ProviderBatch(id=batch_id.hex, status="working", phase=Phase.RUNNING))
    return batch_id


async def test_a_parked_job_holds_nothing_and_is_not_claimed(store: JobStore) -> None:
    job = await asked(store)
    found = await record(store, job.id)
    assert (found.status, found.waiting_on, found.attempt) == (Status.PENDING, "llm_batch", 0)
    assert await claimed(store) == []
    assert await store.llm_requests.providers() == ["p"]


async def test_what_waits_is_listed_and_counted(store: JobStore) -> None:
    jobs = [await asked(store) for _ in range(3)]
    await gathered(store, BatchLimits(1, 1_000_000), count=1)
    waiting = await store.llm_requests.waiting(limit=9)
    assert [(one.job_id, one.key, one.provider, one.resubmissions) for one in waiting] == [
        (job.id, "draft", "p", 0) for job in jobs[1:]
    ]
    assert await store.llm_requests.waiting(limit=1) == waiting[:1]
    assert (await store.summary()).llm_requests == (RequestsWaiting("p", 2, waiting[0].requested_at),)
    parked = await store.list_jobs(JobFilter(waiting_on=WaitingOn.LLM_BATCH), limit=9)
    assert [job.id for job in parked] == [job.id for job in jobs[::-1]]
    assert await store.list_jobs(JobFilter(waiting_on=WaitingOn.CHILDREN), limit=9) == []
    await store.cancel([job.id for job in jobs], actor="client:test")
    assert await store.llm_requests.waiting(limit=9) == []
    assert (await store.summary()).llm_requests == ()


async def test_the_requests_of_jobs_become_one_batch_each_once(store: JobStore) -> None:
    jobs = [await asked(store) for _ in range(3)]
    batch_id = await gathered(store, count=3)
    batch = await store.batches.get(batch_id)
    assert batch is not None
    assert (batch.status, batch.provider, batch.total_items) == (BatchStatus.SUBMITTING, "p", 3)
    assert [request.params for request in await store.batches.requests(batch_id)] == ['{"n": 1}'] * 3
    names = [item.custom_id for item in await store.batches.results(batch_id, limit=9)]
    assert names == [f"{job.id}/draft" for job in jobs]
    assert await store.llm_requests.providers() == []
    missing = await gathered(store, count=0)
    assert await store.batches.get(missing) is None


@pytest.mark.parametrize("limits", [BatchLimits(2, 1_000_000), BatchLimits(100, 420)])
async def test_a_batch_takes_what_it_may_hold_and_the_next_one_the_rest(store: JobStore, limits: BatchLimits) -> None:
    for _ in range(3):
        await asked(store)
    await gathered(store, limits, count=2)
    await gathered(store, limits, count=1)


async def test_a_request_that_is_too_large_goes_alone(store: JobStore) -> None:
    for _ in range(2):
        await asked(store)
    await gathered(store, BatchLimits(100, 10), count=1)


async def test_the_reply_queues_the_job_and_the_same_question_has_it(store: JobStore) -> None:
    job, other = await asked(store), await asked(store)
    batch_id = await sent(store, count=2)
    await store.batches.collect(batch_id, [REPLY], [], ended_as=BatchStatus.COMPLETED)
    [again] = await claimed(store)
    assert (again.id, again.attempt) == (job.id, 1)
    reply = await store.llm_requests.ask(attempt(again), "draft", "p", '{"other": 2}')
    assert reply is not None
    assert (reply.custom_id, reply.status, reply.result) == ("draft", ItemStatus.SUCCEEDED, {"text": "hello"})
    assert (await record(store, other.id)).waiting_on == "llm_batch"
    assert Reason.PARKED in [row.reason for row in await store.history(job.id)]


async def test_a_reply_that_comes_before_the_job_is_parked_is_not_waited_for(store: JobStore) -> None:
    job = await asked(store, park=False)
    batch_id = await sent(store, count=1)
    await store.batches.collect(batch_id, [REPLY], [], ended_as=BatchStatus.COMPLETED)
    await applied(store, outcome(job, PARK))
    [again] = await claimed(store)
    assert again.id == job.id


async def test_a_job_with_two_questions_waits_for_both(store: JobStore) -> None:
    job = await asked(store, "a", park=False)
    assert await store.llm_requests.ask(attempt(job), "b", "p", "{}") is None
    await applied(store, outcome(job, PARK))
    batch_id = await sent(store, count=2)
    await store.batches.collect(batch_id, [REPLY], [], ended_as=BatchStatus.COMPLETED)
    assert await claimed(store) == []
    await store.batches.collect(batch_id, [REPLY._replace(position=1)], [], ended_as=BatchStatus.COMPLETED)
    assert [one.id for one in await claimed(store)] == [job.id]


@pytest.mark.parametrize(
    ("ended", "leftover"), [(BatchStatus.EXPIRED, ItemStatus.EXPIRED), (BatchStatus.FAILED, ItemStatus.ERRORED)]
)
async def test_a_batch_that_ends_without_a_reply_is_an_outcome(
    store: JobStore, ended: BatchStatus, leftover: ItemStatus
) -> None:
    await asked(store)
    batch_id = await gathered(store, count=1)
    await store.batches.end(batch_id, ended, leftover=leftover, error="too late")
    [again] = await claimed(store)
    reply = await store.llm_requests.ask(attempt(again), "draft", "p", "{}")
    assert reply is not None
    assert (reply.status, reply.result, reply.error["message"]) == (leftover, None, "too late")


BUSY = Outcome(0, ItemStatus.ERRORED, None, '{"type": "overloaded_error"}', again=True)


@pytest.mark.parametrize("whole_batch", [False, True])
async def test_what_is_worth_another_try_is_gathered_again_so_often(store: JobStore, whole_batch: bool) -> None:
    job, other = await asked(store), await asked(store)
    for left in (1, 0):
        batch_id = await sent(store, count=1 + left)
        if left:
            answered = REPLY._replace(position=1)
            await store.batches.collect(batch_id, [answered], [], ended_as=BatchStatus.COMPLETED, resubmissions=1)
            assert [one.id for one in await claimed(store)] == [other.id]
        if whole_batch:
            ended = await store.batches.end(
                batch_id, BatchStatus.EXPIRED, leftover=ItemStatus.EXPIRED, error="too late", resubmissions=1
            )
        else:
            ended = await store.batches.collect(batch_id, [BUSY], [], ended_as=BatchStatus.COMPLETED, resubmissions=1)
        assert (ended.updated, ended.put_back) == (1, left)
        assert [one.id for one in await claimed(store)] == ([] if left else [job.id])
    assert await store.llm_requests.providers() == []
    batches = await store.batches.list_batches(limit=9, before=None)
    assert [batch.total_items for batch in batches] == [1, 2]


async def test_what_has_an_answer_or_is_not_wanted_is_not_sent_again(store: JobStore) -> None:
    async def collected(batch_id: UUID, *outcomes: Outcome) -> int:
        ended = await store.batches.collect(batch_id, outcomes, [], ended_as=BatchStatus.COMPLETED, resubmissions=1)
        return ended.put_back

    job = await asked(store)
    assert await collected(await sent(store, count=1), REPLY, BUSY) == 0
    assert [one.id for one in await claimed(store)] == [job.id]

    cancelled = await asked(store)
    batch_id = await sent(store, count=1)
    await store.cancel([cancelled.id], actor="client:test")
    assert await collected(batch_id, BUSY) == 0

    other = await asked(store)
    batch_id = await sent(store, count=1)
    await store.batches.request_cancel(batch_id, actor="client:test")
    assert await collected(batch_id, BUSY) == 0
    assert [one.id for one in await claimed(store)] == [other.id]
    await gathered(store, count=0)


async def test_what_an_attempt_asked_the_next_one_has(store: JobStore) -> None:
    job = await asked(store, park=False, max_attempts=2)
    await applied(store, outcome(job, Fail(ERROR, 0.0)))
    with pytest.raises(StaleAttempt, match="can ask nothing"):
        await store.llm_requests.ask(attempt(job), "review", "p", "{}")
    [again] = await claimed(store)
    assert await store.llm_requests.ask(attempt(again), "draft", "p", "{}") is None
    await gathered(store, count=1)


async def test_a_cancelled_job_is_not_asked_for_and_a_reply_wakes_it_no_more(store: JobStore) -> None:
    job = await asked(store)
    await store.cancel([job.id], actor="client:test")
    assert await store.llm_requests.providers() == []
    await gathered(store, count=0)
    late = await asked(store)
    batch_id = await sent(store, count=1)
    await store.cancel([late.id], actor="client:test")
    await store.batches.collect(batch_id, [REPLY], [], ended_as=BatchStatus.COMPLETED)
    assert await claimed(store) == []
    assert (await record(store, late.id)).status is Status.CANCELLED


async def test_the_deadline_ends_a_job_that_waits(store: JobStore) -> None:
    job = await asked(store, deadline_seconds=0.2)
    async with asyncio.timeout(30):
        while not await store.rescue(actor="node:here", policy=Policy(), limit=10, retry_delay_seconds=lambda _: 0):
            await asyncio.sleep(0.02)
    ended = await record(store, job.id)
    assert (ended.status, ended.stop_reason) == (Status.FAILED, Reason.DEADLINE)
    await gathered(store, count=0)


async def test_requests_are_deleted_with_their_job_and_not_before(store: JobStore) -> None:
    waiting, ended = await asked(store), await asked(store, park=False)
    await applied(store, outcome(ended, Succeed("1")))
    pruned = await store.prune(Retention(completed_seconds=LONG_AGO, failed_seconds=LONG_AGO))
    assert pruned.jobs == 1
    batch_id = await gathered(store, count=1)
    [item] = await store.batches.results(batch_id, limit=9)
    assert item.custom_id == f"{waiting.id}/draft"


async def test_a_batch_is_kept_until_the_jobs_that_have_asked_in_it_have_ended(store: JobStore) -> None:
    job, other = await asked(store), await asked(store)
    batch_id = await sent(store, count=2)
    replies = [REPLY, REPLY._replace(position=1)]
    await store.batches.collect(batch_id, replies, [], ended_as=BatchStatus.COMPLETED)
    at_once = Retention(batches_seconds=LONG_AGO)
    assert (await store.prune(at_once)).batches == 0
    await store.cancel([other.id], actor="client:test")
    assert (await store.prune(at_once)).batches == 0
    [again] = await claimed(store)
    assert await store.llm_requests.ask(attempt(again), "draft", "p", "{}") is not None
    await applied(store, outcome(again, Succeed("1")))
    assert again.id == job.id
    assert (await store.prune(at_once)).batches == 1


async def test_a_leader_of_the_past_gathers_nothing(store: JobStore) -> None:
    await asked(store)
    with pytest.raises(StaleTerm):
        await gathered(store, count=1, term=99)
    await gathered(store, count=1)
