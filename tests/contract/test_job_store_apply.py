"""Transitions: compare-and-set, terminal is final, parents and children, cancel."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from callboard.actors.errors import StaleAttempt, ValueNotStorable
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import Cancel, Event, Fail, Park, Policy, Release, Snooze, Succeed, UnknownKind
from callboard.actors.jobs.state import Reason, Status, WaitingOn
from callboard.actors.jobs.types import Applied, AttemptKey, ClaimedJob, Refused

from .support import ERROR, LONG_AGO, applied, claimed, new_job, outcome, record, running, spawned, statuses

PARK = Park(WaitingOn.CHILDREN)
ENDINGS: dict[str, Event] = {
    "completed": Succeed('{"a": "\\u0000 \\\\ \\" 日本"}'),
    "failed": Fail(ERROR, 0, retryable=False),
    "cancelled": Cancel(),
}


async def test_a_success_is_stored(store: JobStore) -> None:
    job = await running(store)
    answers = await store.apply([outcome(job, ENDINGS["completed"])], actor="node:here")
    assert answers == [Applied(job.id, Status.COMPLETED)]
    stored = await record(store, job.id)
    assert (stored.status, stored.result) == (Status.COMPLETED, '{"a": "\\u0000 \\\\ \\" 日本"}')
    assert (stored.stop_reason, stored.error, stored.lease_expires_at) == ("succeeded", None, None)
    assert stored.finished_at is not None
    assert stored.node == "here"
    assert await statuses(store, job.id) == [Status.PENDING, Status.RUNNING, Status.COMPLETED]


async def test_a_failure_is_stored_with_its_error(store: JobStore) -> None:
    error = {"type": "E", "message": 'NUL \x00 "quoted" \\ {,} ü', "traceback": "line\nline"}
    job = await running(store, max_attempts=2)
    await applied(store, outcome(job, Fail(error, 0)))
    waiting = await record(store, job.id)
    assert (waiting.status, waiting.error, waiting.stop_reason, waiting.finished_at) == (
        Status.PENDING,
        error,
        None,
        None,
    )
    [again] = await claimed(store)
    await applied(store, outcome(again, Fail(error, 0)))
    ended = await record(store, job.id)
    assert (ended.status, ended.error, ended.stop_reason) == (Status.FAILED, error, "attempts_exhausted")
    assert [row.reason for row in await store.history(job.id)][2:] == [
        Reason.ERROR,
        Reason.CLAIMED,
        Reason.ATTEMPTS_EXHAUSTED,
    ]


async def test_a_success_after_a_failure_has_no_error(store: JobStore) -> None:
    job = await running(store, max_attempts=2)
    await applied(store, outcome(job, Fail(ERROR, 0)))
    [again] = await claimed(store)
    await applied(store, outcome(again, Succeed(None)))
    stored = await record(store, job.id)
    assert (stored.error, stored.result) == (None, None)


async def test_successes_and_other_ends_in_one_batch_are_answered_in_their_order(store: JobStore) -> None:
    await spawned(store, 6, max_attempts=2)
    jobs = await claimed(store, 6)
    batch = [outcome(job, Succeed("1") if number % 2 else Fail(ERROR, 0)) for number, job in enumerate(jobs)]
    batch[1] = batch[1]._replace(has_parent=True)
    batch[3] = batch[3]._replace(token=batch[3].token + 1)
    answers = await store.apply(batch, actor="node:here")
    assert [answer.job_id for answer in answers] == [job.id for job in jobs]
    assert [isinstance(answer, Applied) for answer in answers] == [True, True, True, False, True, True]
    assert answers[3] == Refused(jobs[3].id, "stale", Status.RUNNING, jobs[3].token)
    found = {job.id: job.status for job in await store.get_many([job.id for job in jobs])}
    ends = [Status.PENDING, Status.COMPLETED, Status.PENDING, Status.RUNNING, Status.PENDING, Status.COMPLETED]
    assert [found[job.id] for job in jobs] == ends


async def test_of_successes_alone_the_late_one_is_refused_and_the_others_stand(store: JobStore) -> None:
    await spawned(store, 3)
    jobs = await claimed(store, 3)
    await store.cancel([jobs[1].id], actor="api")
    answers = await store.apply([outcome(job, Succeed(None)) for job in reversed(jobs)], actor="node:here")
    assert answers == [
        Applied(jobs[2].id, Status.COMPLETED),
        Refused(jobs[1].id, "invalid", Status.CANCELLED, jobs[1].token),
        Applied(jobs[0].id, Status.COMPLETED),
    ]
    assert await statuses(store, jobs[0].id) == [Status.PENDING, Status.RUNNING, Status.COMPLETED]
    assert (await store.history(jobs[0].id))[-1].reason is Reason.SUCCEEDED


async def test_a_delay_is_kept(store: JobStore) -> None:
    job = await running(store)
    await applied(store, outcome(job, Snooze(3600)))
    assert await claimed(store) == []
    assert (await record(store, job.id)).run_at > datetime.now(UTC) + timedelta(minutes=50)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("later", [*ENDINGS, "pending"])
async def test_terminal_is_final(store: JobStore, ending: str, later: str) -> None:
    job = await running(store, max_attempts=3)
    await applied(store, outcome(job, ENDINGS[ending]))
    before = await record(store, job.id)
    late = outcome(job, ENDINGS.get(later, Snooze(0)))
    assert await store.apply([late], actor="node:late") == [Refused(job.id, "invalid", Status(ending), job.token)]
    assert await store.cancel([job.id], actor="x") == [Refused(job.id, "invalid", Status(ending), job.token)]
    assert await store.release([job.id], actor="x") == [Refused(job.id, "invalid", Status(ending), job.token)]
    assert await store.run_now([job.id]) == []
    assert await record(store, job.id) == before
    assert len(await store.history(job.id)) == 3


async def test_a_stale_attempt_writes_nothing(store: JobStore) -> None:
    stale = await running(store, max_attempts=3)
    await applied(store, outcome(stale, Fail(ERROR, 0)))
    [fresh] = await claimed(store)
    before = await record(store, stale.id)
    for event in ENDINGS.values():
        answers = await store.apply([outcome(stale, event)], actor="node:late")
        assert answers == [Refused(stale.id, "stale", Status.RUNNING, fresh.token)]
    assert await record(store, stale.id) == before
    await applied(store, outcome(fresh, Succeed("1")))


async def test_of_racing_writers_one_wins(store: JobStore) -> None:
    job = await running(store, max_attempts=9)
    changes = [outcome(job, event) for event in [*ENDINGS.values(), Snooze(0), Fail(ERROR, 0)] * 4]
    answers = await asyncio.gather(*(store.apply([change], actor=f"w{n}") for n, change in enumerate(changes)))
    assert sum(isinstance(answer, Applied) for [answer] in answers) == 1
    assert len(await store.history(job.id)) == 3


async def test_answers_are_positional_and_refusals_hinder_nobody(store: JobStore) -> None:
    await spawned(store, 4)
    a, b, c, d = await claimed(store)
    missing = new_job().id
    changes = [
        outcome(c, Succeed("3")),
        outcome(a, Succeed("1"), job_id=missing),
        outcome(b, Succeed("2"), token=99),
        outcome(a, Succeed("1")),
        outcome(d, Succeed("4"), from_status=Status.PENDING),
        outcome(a, Succeed("2")),
    ]
    assert await store.apply(changes, actor="node:here") == [
        Applied(c.id, Status.COMPLETED),
        Refused(missing, "missing", None, None),
        Refused(b.id, "stale", Status.RUNNING, 1),
        Applied(a.id, Status.COMPLETED),
        Refused(d.id, "invalid", Status.RUNNING, 1),
        Refused(a.id, "invalid", Status.COMPLETED, 1),
    ]
    assert (await record(store, a.id)).result == "1"
    assert await store.apply([], actor="node:here") == []


@pytest.mark.parametrize("result", ['"\x00"', "{", '"\ud800"'], ids=repr)
async def test_a_result_that_cannot_be_stored_is_refused_and_nothing_is_written(store: JobStore, result: str) -> None:
    await spawned(store, 2)
    good, bad = await claimed(store)
    with pytest.raises(ValueNotStorable, match="cannot store a value"):
        await store.apply([outcome(good, Succeed("1")), outcome(bad, Succeed(result))], actor="node:here")
    assert [(await record(store, job.id)).status for job in (good, bad)] == [Status.RUNNING] * 2
    assert len(await store.history(good.id)) == 2


async def test_an_error_that_cannot_be_stored_is_refused(store: JobStore) -> None:
    job = await running(store)
    with pytest.raises(ValueNotStorable, match=f"error of job {job.id} is not JSON"):
        await store.apply([outcome(job, Fail(ERROR | {"at": datetime.now(UTC)}, 0))], actor="node:here")
    assert (await record(store, job.id)).status is Status.RUNNING


async def test_a_large_batch(store: JobStore) -> None:
    await spawned(store, 3_000)
    jobs = await claimed(store, 3_000)
    answers = await store.apply([outcome(job, Succeed(f'"{job.id}"')) for job in jobs], actor="node:here")
    assert answers == [Applied(job.id, Status.COMPLETED) for job in jobs]
    stored = await store.get_many([job.id for job in jobs])
    assert {job.id: job.result for job in stored} == {job.id: f'"{job.id}"' for job in jobs}


async def test_an_unknown_kind_goes_back_and_then_fails(store: JobStore) -> None:
    job = await running(store)
    await applied(store, outcome(job, UnknownKind(first_seen_seconds_ago=10)))
    stored = await record(store, job.id)
    assert (stored.status, stored.attempt) == (Status.PENDING, 0)
    await store.run_now([job.id])
    [again] = await claimed(store)
    await applied(store, outcome(again, UnknownKind(first_seen_seconds_ago=1e6)))
    assert (await record(store, job.id)).stop_reason == "unknown_kind"


# Cancel and release


async def test_cancel_ends_a_job_in_every_unfinished_status(store: JobStore) -> None:
    job = await running(store)
    [held] = await spawned(store, status=Status.CREATED)
    [waiting] = await spawned(store, delay_seconds=3600)
    missing = new_job().id
    assert await store.cancel([held, missing, waiting, job.id, held], actor="client:me") == [
        Applied(held, Status.CANCELLED),
        Refused(missing, "missing", None, None),
        Applied(waiting, Status.CANCELLED),
        Applied(job.id, Status.CANCELLED),
        Refused(held, "invalid", Status.CANCELLED, 0),
    ]
    for job_id in (held, waiting, job.id):
        stored = await record(store, job_id)
        assert (stored.status, stored.stop_reason, stored.lease_expires_at) == (Status.CANCELLED, "cancelled", None)
        row = (await store.history(job_id))[-1]
        assert (row.reason, row.actor) == (Reason.CANCELLED, "client:me")
    assert await store.apply([outcome(job, Succeed("1"))], actor="node:here") == [
        Refused(job.id, "invalid", Status.CANCELLED, 1)
    ]
    assert await store.cancel([], actor="client:me") == []


async def test_of_a_racing_cancel_and_success_one_wins(store: JobStore) -> None:
    await spawned(store, 20)
    jobs = await claimed(store)
    success, cancelled = await asyncio.gather(
        store.apply([outcome(job, Succeed("1")) for job in jobs], actor="node:here"),
        store.cancel([job.id for job in reversed(jobs)], actor="client:me"),
    )
    for job, done, ended in zip(jobs, success, reversed(cancelled), strict=True):
        assert isinstance(done, Applied) != isinstance(ended, Applied)
        assert len(await store.history(job.id)) == 3


async def test_release_queues_a_held_job_only(store: JobStore) -> None:
    [held] = await spawned(store, status=Status.CREATED)
    [waiting] = await spawned(store)
    missing = new_job().id
    assert await store.release([held, waiting, missing], actor="client:me") == [
        Applied(held, Status.PENDING),
        Refused(waiting, "invalid", Status.PENDING, 0),
        Refused(missing, "missing", None, None),
    ]
    assert await statuses(store, held) == [Status.CREATED, Status.PENDING]
    assert (await store.history(held))[-1].actor == "client:me"


async def test_a_transition_may_also_start_from_a_waiting_status(store: JobStore) -> None:
    [held] = await spawned(store, status=Status.CREATED)
    await applied(store, outcome(await record(store, held), Release()))
    await applied(store, outcome(await record(store, held), Cancel()))
    assert await statuses(store, held) == [Status.CREATED, Status.PENDING, Status.CANCELLED]


# Parents and children


async def family(store: JobStore, size: int) -> tuple[ClaimedJob, list[ClaimedJob]]:
    """A running parent with running children."""
    parent = await running(store, max_attempts=5)
    jobs = [new_job(parent_id=parent.id, child_key="part", child_index=index) for index in range(size)]
    await store.spawn(jobs, actor="node:here")
    children = await claimed(store)
    assert all(child.parent_id == parent.id for child in children)
    return parent, children


async def is_runnable(store: JobStore, parent: ClaimedJob) -> bool:
    return [job.id for job in await claimed(store)] == [parent.id]


@pytest.mark.parametrize("ending", ENDINGS)
async def test_the_last_child_wakes_its_parked_parent(store: JobStore, ending: str) -> None:
    parent, (first, second) = await family(store, 2)
    await applied(store, outcome(parent, PARK))
    stored = await record(store, parent.id)
    assert (stored.status, stored.waiting_on) == (Status.PENDING, WaitingOn.CHILDREN)
    await applied(store, outcome(first, ENDINGS[ending]))
    assert not await is_runnable(store, parent)
    await applied(store, outcome(second, ENDINGS[ending]))
    assert (await record(store, parent.id)).waiting_on is None
    assert await is_runnable(store, parent)
    assert (await store.history(parent.id))[2].reason is Reason.PARKED


async def test_a_parent_that_parks_too_late_is_runnable_at_once(store: JobStore) -> None:
    parent, children = await family(store, 2)
    await applied(store, *(outcome(child, Succeed(None)) for child in children))
    await applied(store, outcome(parent, PARK))
    assert await is_runnable(store, parent)


async def test_a_parent_may_park_in_the_batch_that_ends_its_children(store: JobStore) -> None:
    parent, children = await family(store, 2)
    await applied(store, outcome(children[0], Succeed(None)), outcome(parent, PARK), outcome(children[1], Cancel()))
    assert await is_runnable(store, parent)


async def test_cancelled_children_count_as_ended(store: JobStore) -> None:
    parent, children = await family(store, 3)
    await applied(store, outcome(parent, PARK))
    await store.cancel([child.id for child in children], actor="client:me")
    assert await is_runnable(store, parent)


async def test_a_retried_child_does_not_wake_its_parent(store: JobStore) -> None:
    parent = await running(store)
    child = await running(store, parent_id=parent.id, child_key="a", child_index=0, max_attempts=2)
    await applied(store, outcome(parent, PARK))
    await applied(store, outcome(child, Fail(ERROR, 3600)))
    assert not await is_runnable(store, parent)


async def test_a_cancelled_family_stays_cancelled(store: JobStore) -> None:
    parent, [child] = await family(store, 1)
    await applied(store, outcome(parent, PARK))
    await store.cancel([parent.id], actor="client:me")
    [answer] = await store.apply([outcome(child, Succeed(None))], actor="node:here")
    assert answer == Refused(child.id, "invalid", Status.CANCELLED, child.token)
    assert await claimed(store) == []
    assert (await record(store, parent.id)).status is Status.CANCELLED


async def test_no_wake_up_is_lost_however_parking_and_ending_interleave(store: JobStore) -> None:
    """Ends the children one call each while the parent parks; the parent must always be claimable afterwards."""
    for turn in range(25):
        parent, children = await family(store, 4)
        calls = [store.apply([outcome(child, Succeed(None))], actor="node:here") for child in children]
        calls.insert(turn % (len(calls) + 1), store.apply([outcome(parent, PARK)], actor="node:here"))
        await asyncio.gather(*calls)
        [again] = await claimed(store)
        assert again.id == parent.id
        await applied(store, outcome(again, Succeed(None)))


async def test_a_cancelled_parent_takes_its_descendants_along(store: JobStore) -> None:
    parent, (ended, runs) = await family(store, 2)
    await applied(store, outcome(ended, Succeed("1")))
    [waits] = await spawned(store, parent_id=parent.id, child_key="later", child_index=0, delay_seconds=1000)
    [grandchild] = await spawned(store, parent_id=runs.id, child_key="part", child_index=0, delay_seconds=1000)
    [stranger] = await spawned(store)

    [answer] = await store.cancel([parent.id], actor="client:test")

    assert answer == Applied(parent.id, Status.CANCELLED)
    found = {
        job_id: (await record(store, job_id)).status for job_id in (ended.id, runs.id, waits, grandchild, stranger)
    }
    assert found == {
        ended.id: Status.COMPLETED,
        runs.id: Status.CANCELLED,
        waits: Status.CANCELLED,
        grandchild: Status.CANCELLED,
        stranger: Status.PENDING,
    }


async def test_a_cancel_that_was_interrupted_is_completed_by_the_next_one(store: JobStore) -> None:
    parent, (ended, child) = await family(store, 2)
    [leaf] = await spawned(store, parent_id=child.id, child_key="part", child_index=0)
    [survivor] = await spawned(store, parent_id=ended.id, child_key="part", child_index=0)
    await applied(store, outcome(ended, Succeed("1")), outcome(parent, Cancel()), outcome(child, Cancel()))
    assert (await record(store, leaf)).status is Status.PENDING

    assert await store.cancel([parent.id], actor="client:test") == [
        Refused(parent.id, "invalid", Status.CANCELLED, parent.token)
    ]

    assert await statuses(store, leaf) == [Status.PENDING, Status.CANCELLED]
    assert (await record(store, survivor)).status is Status.PENDING


async def test_a_cancel_ends_in_a_family_that_goes_in_a_circle(store: JobStore) -> None:
    first, second = new_job(), new_job()
    first = first._replace(parent_id=second.id, child_key="a", child_index=0)
    second = second._replace(parent_id=first.id, child_key="a", child_index=0)
    await store.spawn([first], actor="client:test")
    await store.spawn([second], actor="client:test")
    await store.cancel([first.id], actor="client:test")
    assert [(await record(store, job.id)).status for job in (first, second)] == [Status.CANCELLED] * 2


@pytest.mark.parametrize("count", [1, 3])
async def test_a_parent_that_has_ended_gets_no_new_children(store: JobStore, count: int) -> None:
    parent = await running(store)
    await store.cancel([parent.id], actor="client:test")
    children = [new_job(parent_id=parent.id, child_key="part", child_index=index) for index in range(count)]
    with pytest.raises(StaleAttempt, match="is cancelled, so it can have no new children"):
        await store.spawn(children, actor="node:here")
    assert await store.children(parent.id, "part") == []


async def test_promise_9_every_change_is_in_the_history_with_who_did_it(store: JobStore) -> None:
    [answer] = await store.spawn([new_job(status=Status.CREATED, max_attempts=5)], actor="client:a")
    await store.release([answer.id], actor="client:b")
    [first] = await claimed(store, lease=LONG_AGO)
    await store.rescue(actor="node:c", policy=Policy(), limit=9, retry_delay_seconds=lambda attempt: 0)
    [second] = await claimed(store)
    await store.apply([outcome(second, Snooze(0))], actor="node:d")
    await store.progress({AttemptKey(second.id, second.token): {"done": 1}})  # no change of status, no row
    await store.cancel([first.id], actor="client:e")
    assert [(row.actor, row.to_status, row.reason) for row in await store.history(first.id)] == [
        ("client:a", Status.CREATED, Reason.SPAWNED),
        ("client:b", Status.PENDING, Reason.RELEASED),
        ("node:here", Status.RUNNING, Reason.CLAIMED),
        ("node:c", Status.PENDING, Reason.LEASE_EXPIRED),
        ("node:here", Status.RUNNING, Reason.CLAIMED),
        ("node:d", Status.PENDING, Reason.SNOOZED),
        ("client:e", Status.CANCELLED, Reason.CANCELLED),
    ]
