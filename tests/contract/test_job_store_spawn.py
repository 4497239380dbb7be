"""Inserting jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from callboard.actors.errors import InvalidArguments, QueueFull, StaleAttempt, ValueNotStorable
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import Snooze, Succeed
from callboard.actors.jobs.limits import Limit, LimitScope
from callboard.actors.jobs.state import Reason, Status
from callboard.actors.jobs.types import AttemptKey, JobFilter, NewJob, Spawned

from .support import applied, claimed, new_job, outcome, record, running, spawned, statuses

PAYLOADS = {
    "plain": '{"a": 1}',
    "escaped NUL": r'{"a": "\u0000"}',
    "backslashes and quotes": r'{"a": "\\ \" \n", "b": "\\N {,} \\t"}',
    "every plane": '{"ключ": "日本 🎭 \u2028 \u200d"}',
    "escaped lone surrogate": r'{"a": "\ud800"}',
    "spread over lines": '{\n\t"a":\r\n [1,\n2]}',
    "NULL": '{"NULL": "NULL", "": null}',
}


@pytest.mark.parametrize("count", [1, 3, 200])
async def test_a_new_job_is_stored_as_given(store: JobStore, count: int) -> None:
    before = datetime.now(UTC)
    ids = await spawned(
        store,
        count,
        arguments='{"a": [1, "ü"]}',
        priority=-5,
        max_attempts=7,
        timeout_seconds=1.5,
        deadline_seconds=3600,
        owner='Zoë "the\\best"',
        tags=("a", "b, c", 'quo"te', "{}", "NULL"),
        metadata='{"trace": "x"}',
        queue="a queue,{}",
        kind='pack\tage."kind"',
    )
    job = await record(store, ids[-1])
    assert (job.kind, job.queue, job.status) == ('pack\tage."kind"', "a queue,{}", Status.PENDING)
    assert (job.priority, job.max_attempts, job.timeout_seconds) == (-5, 7, 1.5)
    assert (job.attempt, job.token, job.node, job.waiting_on, job.progress) == (0, 0, None, None, None)
    assert (job.owner, job.tags) == ('Zoë "the\\best"', ("a", "b, c", 'quo"te', "{}", "NULL"))
    assert (job.arguments, job.metadata) == ('{"a": [1, "ü"]}', {"trace": "x"})
    assert (job.result, job.error, job.stop_reason, job.started_at, job.finished_at) == (None,) * 5
    assert job.run_at == job.created_at
    assert job.deadline == job.created_at + timedelta(hours=1)
    assert abs(job.created_at - before) < timedelta(minutes=1)


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
@pytest.mark.parametrize("count", [1, 100])
async def test_arguments_come_back_to_the_letter(store: JobStore, payload: str, count: int) -> None:
    ids = await spawned(store, count, arguments=payload)
    jobs = await claimed(store)
    assert {job.id: job.arguments for job in jobs} == dict.fromkeys(ids, payload)
    assert (await record(store, ids[0])).arguments == payload


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize(
    "fields",
    [
        {"arguments": '{"a": "\x00"}'},
        {"arguments": '{"a": "\ud800"}'},
        {"arguments": "{'a': 1}"},
        {"arguments": '{"a": NaN}'},
        {"kind": "a\x00b"},
        {"owner": "\ud800"},
        {"tags": ("a\x00",)},
        {"metadata": "[1"},
    ],
    ids=repr,
)
async def test_what_cannot_be_stored_is_refused_and_nothing_is_written(
    store: JobStore, fields: dict[str, object], count: int
) -> None:
    jobs = [*(new_job() for _ in range(count)), new_job(**fields)]
    with pytest.raises(ValueNotStorable, match=r"cannot store a value .* nothing was written"):
        await store.spawn(jobs, actor="client:test")
    assert await store.list_jobs(JobFilter(), limit=10) == []


@pytest.mark.parametrize("count", [1, 100])
async def test_the_first_history_row_says_who_spawned(store: JobStore, count: int) -> None:
    ids = await spawned(store, count)
    [row] = await store.history(ids[-1])
    assert (row.from_status, row.to_status, row.reason, row.attempt) == (None, Status.PENDING, Reason.SPAWNED, 0)
    assert (row.actor, row.job_id, row.sequence) == ("client:test", ids[-1], 1)


@pytest.mark.parametrize("count", [1, 100])
async def test_a_held_job_is_created_and_not_claimed(store: JobStore, count: int) -> None:
    [first, *_] = await spawned(store, count, status=Status.CREATED)
    assert await claimed(store) == []
    assert await statuses(store, first) == [Status.CREATED]


@pytest.mark.parametrize("count", [1, 100])
async def test_a_delay_and_a_time_say_when_it_runs(store: JobStore, count: int) -> None:
    when = datetime(2100, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    [timed, *_] = await spawned(store, count, run_at=when, delay_seconds=5)
    [delayed, *_] = await spawned(store, count, delay_seconds=90.5)
    assert (await record(store, timed)).run_at == when
    job = await record(store, delayed)
    assert job.run_at - job.created_at == timedelta(seconds=90.5)
    assert await claimed(store) == []


async def test_nothing_to_spawn_is_nothing_spawned(store: JobStore) -> None:
    assert await store.spawn([], actor="client:test") == []


@pytest.mark.parametrize("count", [1, 100])
async def test_the_same_spawn_again_creates_nothing(store: JobStore, count: int) -> None:
    jobs = [new_job() for _ in range(count)]
    first = await store.spawn(jobs, actor="client:test")
    again = await store.spawn([*jobs, new_job()], actor="client:test")
    assert first == [Spawned(job.id, created=True) for job in jobs]
    assert again[:-1] == [Spawned(job.id, created=False) for job in jobs]
    assert again[-1].created
    assert len(await store.history(jobs[0].id)) == 1


async def test_a_unique_key_names_one_unfinished_job_of_a_kind(store: JobStore) -> None:
    [first] = await spawned(store, unique_key="k")
    answers = await store.spawn(
        [
            new_job(unique_key="k"),
            new_job(unique_key="other"),
            new_job(unique_key="other"),
            new_job(unique_key="k", kind="another"),
        ],
        actor="client:test",
    )
    assert [answer.created for answer in answers] == [False, True, False, True]
    assert answers[0].id == first
    assert answers[2].id == answers[1].id


@pytest.mark.parametrize("how", ["completed", "cancelled"])
async def test_a_unique_key_is_free_again_when_its_job_has_ended(store: JobStore, how: str) -> None:
    job = await running(store, unique_key="k")
    assert await spawned(store, unique_key="k") == [job.id]
    if how == "completed":
        await applied(store, outcome(job, Succeed(None)))
    else:
        await store.cancel([job.id], actor="client:test")
    assert await spawned(store, unique_key="k") != [job.id]


async def test_of_concurrent_spawns_with_one_unique_key_one_wins(store: JobStore) -> None:
    keys = [f"k{number}" for number in range(20)]

    async def spawn_all(order: list[str]) -> list[Spawned]:
        return await store.spawn([new_job(unique_key=key) for key in order], actor="client:test")

    rounds = await asyncio.gather(*(spawn_all(keys if turn % 2 else keys[::-1]) for turn in range(8)))
    answers = [answer for answers in rounds for answer in answers]
    assert sum(answer.created for answer in answers) == len(keys)
    assert len({answer.id for answer in answers}) == len(keys)
    assert len(await store.list_jobs(JobFilter(), limit=1000)) == len(keys)


async def test_a_child_is_found_again_by_its_place(store: JobStore) -> None:
    parent = await running(store)
    places = [("maps", 1), ("maps", 0), ("reduce", 0)]

    def family() -> list[object]:
        return [new_job(parent_id=parent.id, child_key=key, child_index=index) for key, index in places]

    first = await store.spawn(family(), actor="node:here")  # type: ignore[arg-type]
    again = await store.spawn(family(), actor="node:here")  # type: ignore[arg-type]
    assert [answer.created for answer in first] == [True] * 3
    assert again == [Spawned(answer.id, created=False) for answer in first]
    assert [job.id for job in await store.children(parent.id, "maps")] == [first[1].id, first[0].id]
    assert [job.child_index for job in await store.children(parent.id, "maps")] == [0, 1]
    assert await store.children(parent.id, "nothing") == []


async def test_a_finished_child_still_has_its_place(store: JobStore) -> None:
    parent = await running(store)
    [child] = await spawned(store, parent_id=parent.id, child_key="a", child_index=0)
    await store.cancel([child], actor="client:test")
    [again] = await store.spawn([new_job(parent_id=parent.id, child_key="a", child_index=0)], actor="node:here")
    assert again == Spawned(child, created=False)


@pytest.mark.parametrize("count", [1, 3])
async def test_an_attempt_spawns_children_for_as_long_as_it_runs(store: JobStore, count: int) -> None:
    stale = await running(store, max_attempts=9)
    key = AttemptKey(stale.id, stale.token)
    children = [new_job(parent_id=stale.id, child_key="part", child_index=index) for index in range(count)]
    await applied(store, outcome(stale, Snooze(0)))
    with pytest.raises(StaleAttempt, match=f"job {stale.id} is pending with token 1"):
        await store.spawn(children, actor="node:late", parent=key)
    [fresh] = await claimed(store)
    with pytest.raises(StaleAttempt, match="is running with token 2, so the attempt with token 1 can spawn no"):
        await store.spawn(children, actor="node:late", parent=key)
    assert await store.children(stale.id, "part") == []
    assert await store.get_many([child.id for child in children]) == []

    answers = await store.spawn(children, actor="node:here", parent=AttemptKey(fresh.id, fresh.token))
    assert answers == [Spawned(child.id, created=True) for child in children]
    with pytest.raises(StaleAttempt):  # not even to be told that they exist
        await store.spawn(children, actor="node:late", parent=key)


async def test_an_attempt_of_a_job_that_does_not_exist_spawns_nothing(store: JobStore) -> None:
    jobs = [new_job() for _ in range(70)]
    with pytest.raises(StaleAttempt, match="does not exist"):
        await store.spawn(jobs, actor="node:late", parent=AttemptKey(new_job().id, 1))
    assert await store.get_many([job.id for job in jobs]) == []


async def test_many_jobs_at_once(store: JobStore) -> None:
    jobs = [new_job(queue=f"queue {number % 3}") for number in range(20_000)]
    answers = await store.spawn(jobs, actor="client:test")
    assert answers == [Spawned(job.id, created=True) for job in jobs]
    summary = await store.summary()
    assert sum(count.jobs for count in summary.counts) == len(jobs)


async def test_many_unique_jobs_at_once(store: JobStore) -> None:
    jobs = [new_job(unique_key=str(number % 6_000)) for number in range(12_000)]
    answers = await store.spawn(jobs, actor="client:test")
    assert sum(answer.created for answer in answers) == 6_000
    assert [answer.id for answer in answers[:6_000]] == [answer.id for answer in answers[6_000:]]


# Many that are alike, made while they are inserted

ALIKE = {"kind": "alike", "owner": "o", "tags": ("t",), "arguments": '{"a": 1}'}


def chunks_of(*sizes: int, **fields: object) -> list[list[NewJob]]:
    return [[new_job(**{**ALIKE, **fields}) for _ in range(size)] for size in sizes]


@pytest.mark.parametrize("sizes", [(), (1,), (1000,), (1000, 1000, 3)])
@pytest.mark.parametrize(
    "fields", [{}, {"concurrency_key": "k", "concurrency_limit": 2}, {"callback_url": "https://a"}]
)
async def test_jobs_that_are_alike_are_stored_as_others_are(
    store: JobStore, sizes: tuple[int, ...], fields: dict[str, object]
) -> None:
    chunks = chunks_of(*sizes, **fields)
    jobs = [job for chunk in chunks for job in chunk]
    assert await store.spawn_alike(chunks, len(chunks), actor="client:test") == [Spawned(job.id, True) for job in jobs]
    found = {one.id: one for one in await store.get_many([job.id for job in jobs])}
    assert len(found) == len(jobs)
    for job in jobs[:: max(1, len(jobs) // 5)]:
        one = found[job.id]
        assert (one.status, one.kind, one.owner, one.tags, one.arguments) == (
            Status.PENDING,
            "alike",
            "o",
            ("t",),
            '{"a": 1}',
        )
        assert [row.reason for row in await store.history(job.id)] == [Reason.SPAWNED]
    assert len(await claimed(store, 5)) == min(5, len(jobs), 2 if "concurrency_key" in fields else 5)


async def test_a_chunk_that_cannot_be_made_leaves_none_of_the_others(store: JobStore) -> None:
    def failing() -> Iterator[list[NewJob]]:
        yield from chunks_of(1000, 1000)
        raise InvalidArguments("call 2007: got a cat")

    with pytest.raises(InvalidArguments, match="call 2007"):
        await store.spawn_alike(failing(), 3, actor="client:test")
    assert await store.list_jobs(JobFilter(), limit=10) == []
    chunks = chunks_of(100, 2)
    assert len(await store.spawn_alike(chunks, 2, actor="client:test")) == 102


async def test_jobs_that_are_alike_keep_bounds(store: JobStore) -> None:
    await store.controls.set_queue("default", paused=False, draining=True, actor="client:test")
    with pytest.raises(QueueFull, match="is being drained"):
        await store.spawn_alike(chunks_of(100, 100), 2, actor="client:test")
    await store.controls.set_queue("default", paused=False, draining=False, actor="client:test")
    await store.controls.set_limit(Limit(LimitScope.OWNER, "o", max_queued=150), actor="client:test")
    with pytest.raises(QueueFull):
        await store.spawn_alike(chunks_of(100, 100), 2, actor="client:test")
    assert await store.list_jobs(JobFilter(), limit=10) == []
    assert len(await store.spawn_alike(chunks_of(100, 50), 2, actor="client:test")) == 150
