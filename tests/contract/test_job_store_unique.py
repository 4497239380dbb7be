"""Unique jobs: statuses and windows that a key spans, and what a spawn does where it is held."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from callboard.actors.errors import DuplicateJob
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import Fail, Park, Succeed
from callboard.actors.jobs.state import UNFINISHED, Status, WaitingOn
from callboard.actors.jobs.types import AttemptKey, JobFilter, NewJob, OnConflict, Spawned

from .support import ERROR, applied, claimed, new_job, outcome, record, running

ALL = tuple(Status)
UNENDED = tuple(status for status in Status if status in UNFINISHED)


def unique(**fields: object) -> NewJob:
    return new_job(**{"unique_key": "k", "unique_statuses": UNENDED, **fields})


async def spawn(store: JobStore, *jobs: NewJob) -> list[Spawned]:
    return await store.spawn(jobs, actor="client:test")


async def test_a_key_may_span_what_has_ended(store: JobStore) -> None:
    first = await running(store, unique_key="k", unique_statuses=ALL)
    await applied(store, outcome(first, Succeed("1")))
    assert await spawn(store, unique(unique_statuses=ALL)) == [Spawned(first.id, created=False)]
    assert (await spawn(store, unique(unique_statuses=UNENDED)))[0].created
    assert (await spawn(store, unique(unique_statuses=ALL, kind="another")))[0].created


async def test_a_key_may_span_what_waits_only(store: JobStore) -> None:
    """One job runs, one waits: whatever changes while it runs is seen to by the next."""
    waiting = (Status.PENDING,)
    await running(store, unique_key="k", unique_statuses=waiting)
    second, third = unique(unique_statuses=waiting), unique(unique_statuses=waiting)
    assert await spawn(store, second, third) == [Spawned(second.id, created=True), Spawned(second.id, created=False)]


async def test_a_failed_job_holds_no_key_that_spans_success_only(store: JobStore) -> None:
    spanned = (*UNENDED, Status.COMPLETED)
    job = await running(store, unique_key="k", unique_statuses=spanned)
    assert not (await spawn(store, unique(unique_statuses=spanned)))[0].created
    await applied(store, outcome(job, Fail(ERROR, 0.0)))
    assert (await spawn(store, unique(unique_statuses=spanned)))[0].created


async def test_a_window_ends(store: JobStore) -> None:
    await spawn(store, unique())
    assert not (await spawn(store, unique(unique_seconds=3600.0)))[0].created
    assert (await spawn(store, unique(unique_seconds=1e-6)))[0].created


async def test_raise_names_the_job_and_writes_nothing(store: JobStore) -> None:
    [held] = await spawn(store, unique())
    plain = new_job()
    with pytest.raises(DuplicateJob, match=f"job {held.id} of kind kind is pending and holds the unique_key 'k'") as no:
        await spawn(store, plain, unique(on_conflict=OnConflict.RAISE))
    assert no.value.job_id == held.id
    assert await store.get(plain.id) is None
    twice = [unique(unique_key="new", on_conflict=OnConflict.RAISE) for _ in range(2)]
    with pytest.raises(DuplicateJob):
        await spawn(store, *twice)
    assert len(await store.list_jobs(JobFilter(), limit=9)) == 1


async def test_replace_gives_the_waiting_job_everything_new_but_its_id(store: JobStore) -> None:
    [held] = await spawn(store, unique(delay_seconds=3600.0, tags=("old",), queue="slow", priority=3))
    new = unique(
        on_conflict=OnConflict.REPLACE,
        arguments='{"a": 2}',
        tags=("new", "er"),
        metadata='{"m": 1}',
        owner="ada",
        priority=-1,
        max_attempts=7,
        timeout_seconds=9.0,
        concurrency_key="c",
        concurrency_limit=2,
    )
    before = await record(store, held.id)
    assert await spawn(store, new) == [Spawned(held.id, created=False)]
    after = await record(store, held.id)
    assert (after.arguments, after.tags, after.metadata, after.owner) == ('{"a": 2}', ("new", "er"), {"m": 1}, "ada")
    assert (after.priority, after.max_attempts, after.timeout_seconds, after.queue) == (-1, 7, 9.0, "default")
    assert (after.id, after.created_at, after.status) == (before.id, before.created_at, before.status)
    [job] = await claimed(store)
    assert (job.id, job.arguments) == (held.id, '{"a": 2}')
    assert await claimed(store, queue="slow") == []


async def test_reschedule_moves_the_time_and_nothing_else(store: JobStore) -> None:
    [held] = await spawn(store, unique())
    again = unique(on_conflict=OnConflict.RESCHEDULE, delay_seconds=3600.0, arguments='{"a": 2}')
    assert await spawn(store, again) == [Spawned(held.id, created=False)]
    assert await claimed(store) == []
    sooner = datetime(2020, 1, 1, tzinfo=UTC)
    await spawn(store, unique(on_conflict=OnConflict.RESCHEDULE, run_at=sooner))
    stored = await record(store, held.id)
    assert (stored.run_at, stored.arguments) == (sooner, "{}")
    assert stored.created_at > sooner + timedelta(days=1)
    assert [job.id for job in await claimed(store)] == [held.id]


@pytest.mark.parametrize("on_conflict", [OnConflict.REPLACE, OnConflict.RESCHEDULE])
async def test_a_job_that_has_begun_is_not_changed(store: JobStore, on_conflict: OnConflict) -> None:
    job = await running(store, unique_key="k", unique_statuses=UNENDED, max_attempts=2)
    change = unique(on_conflict=on_conflict, arguments='{"a": 2}', delay_seconds=3600.0)
    assert await spawn(store, change) == [Spawned(job.id, created=False)]
    await applied(store, outcome(job, Fail(ERROR, 0.0)))
    assert await spawn(store, change._replace(id=new_job().id)) == [Spawned(job.id, created=False)]
    stored = await record(store, job.id)
    assert (stored.arguments, stored.status) == ("{}", Status.PENDING)
    assert [again.id for again in await claimed(store)] == [job.id]


@pytest.mark.parametrize("on_conflict", [OnConflict.REPLACE, OnConflict.RESCHEDULE])
async def test_a_parked_job_has_begun_and_is_not_changed(store: JobStore, on_conflict: OnConflict) -> None:
    job = await running(store, unique_key="k", unique_statuses=UNENDED)
    attempt = AttemptKey(job.id, job.token)
    await store.steps.record(attempt, "charge", "1")
    assert await store.llm_requests.ask(attempt, "draft", "p", "{}") is None
    await applied(store, outcome(job, Park(WaitingOn.LLM_BATCH)))
    change = unique(on_conflict=on_conflict, arguments='{"a": 2}', delay_seconds=3600.0)
    assert await spawn(store, change) == [Spawned(job.id, created=False)]
    stored = await record(store, job.id)
    assert (stored.arguments, stored.attempt, stored.waiting_on) == ("{}", 0, WaitingOn.LLM_BATCH)
    assert stored.run_at <= stored.created_at + timedelta(minutes=1)
    assert await store.llm_requests.providers() == ["p"]


async def test_a_repeated_call_finds_its_own_job(store: JobStore) -> None:
    job = unique(on_conflict=OnConflict.RAISE)
    assert (await spawn(store, job))[0].created
    assert await spawn(store, job) == [Spawned(job.id, created=False)]


async def test_of_concurrent_spawns_one_is_created(store: JobStore) -> None:
    answers = await asyncio.gather(*(spawn(store, unique(unique_statuses=ALL)) for _ in range(8)))
    assert sum(answer.created for [answer] in answers) == 1
    assert len({answer.id for [answer] in answers}) == 1


async def test_of_concurrent_spawns_that_raise_one_does_not(store: JobStore) -> None:
    results = await asyncio.gather(
        *(spawn(store, unique(on_conflict=OnConflict.RAISE)) for _ in range(8)), return_exceptions=True
    )
    assert sum(isinstance(result, DuplicateJob) for result in results) == 7
    assert len(await store.list_jobs(JobFilter(), limit=9)) == 1
