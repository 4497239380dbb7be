"""Reading: single jobs, lists, history, summary, nodes."""

from __future__ import annotations

import pytest

from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import Fail, Succeed
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import JobFilter, StatusCount

from .support import ERROR, applied, claimed, new_job, outcome, record, running, spawned


async def test_a_missing_job_is_none(store: JobStore) -> None:
    missing = new_job().id
    assert await store.get(missing) is None
    assert await store.history(missing) == []
    assert await store.get_many([]) == []


async def test_get_many_reads_those_that_exist(store: JobStore) -> None:
    ids = await spawned(store, 3)
    found = await store.get_many([ids[2], new_job().id, ids[0], ids[0]])
    assert {job.id for job in found} == {ids[0], ids[2]}
    assert await store.get_many(ids[:1]) == [await record(store, ids[0])]


async def test_pages_go_from_the_newest_to_the_oldest(store: JobStore) -> None:
    ids = await spawned(store, 95)
    seen = []
    before = None
    while page := await store.list_jobs(JobFilter(), limit=10, before=before):
        assert len(page) <= 10
        seen += [job.id for job in page]
        before = page[-1].id
    assert seen == ids[::-1]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (JobFilter(), {"plain", "tagged", "owned", "other", "child"}),
        (JobFilter(tags=("a",)), {"tagged"}),
        (JobFilter(tags=("a", "b")), {"tagged"}),
        (JobFilter(tags=("a", "c")), set()),
        (JobFilter(owner="me"), {"owned"}),
        (JobFilter(kinds=("plain", "child")), {"plain", "child"}),
        (JobFilter(queues=("q",)), {"other"}),
        (JobFilter(queues=("q",), kinds=("plain",)), set()),
        (JobFilter(statuses=(Status.CREATED,)), {"owned"}),
        (JobFilter(statuses=(Status.CREATED, Status.PENDING)), {"owned", "plain", "tagged", "other", "child"}),
        (JobFilter(statuses=(Status.FAILED,)), set()),
    ],
    ids=repr,
)
async def test_a_list_has_what_every_given_field_matches(store: JobStore, where: JobFilter, expected: set[str]) -> None:
    [parent] = await spawned(store, kind="plain")
    await spawned(store, kind="tagged", tags=("a", "b"))
    await spawned(store, kind="owned", owner="me", status=Status.CREATED)
    await spawned(store, kind="other", queue="q")
    await spawned(store, kind="child", parent_id=parent, child_key="a", child_index=0)
    assert {job.kind for job in await store.list_jobs(where, limit=10)} == expected
    assert [job.kind for job in await store.list_jobs(JobFilter(parent_id=parent), limit=10)] == ["child"]


async def test_history_after_a_sequence(store: JobStore) -> None:
    job = await running(store)
    await applied(store, outcome(job, Succeed(None)))
    rows = await store.history(job.id)
    assert await store.history(job.id, after=rows[0].sequence) == rows[1:]
    assert await store.history(job.id, after=rows[-1].sequence) == []


async def test_the_summary_counts(store: JobStore) -> None:
    await store.register_node("here")
    await store.register_node("idle")
    await spawned(store, 3, queue="q", kind="late", delay_seconds=3600)
    await spawned(store, 2, queue="q", kind="held", status=Status.CREATED)
    done, failed, _ = [await running(store) for _ in range(3)]
    await applied(store, outcome(done, Succeed(None)), outcome(failed, Fail(ERROR, 0)))
    waiting = await spawned(store, 4)
    summary = await store.summary()
    assert set(summary.counts) == {
        StatusCount("late", "q", Status.PENDING, 3),
        StatusCount("held", "q", Status.CREATED, 2),
        StatusCount("kind", "default", Status.COMPLETED, 1),
        StatusCount("kind", "default", Status.FAILED, 1),
        StatusCount("kind", "default", Status.RUNNING, 1),
        StatusCount("kind", "default", Status.PENDING, 4),
    }
    [depth] = summary.depths
    assert (depth.queue, depth.runnable) == ("default", 4)
    assert depth.oldest_runnable_at == (await record(store, waiting[0])).run_at
    assert [(node.name, node.running) for node in summary.nodes] == [("here", 1), ("idle", 0)]


async def test_a_node_is_there_until_it_is_forgotten(store: JobStore) -> None:
    await store.register_node("here")
    [first] = (await store.summary()).nodes
    await store.register_node("here")
    [second] = (await store.summary()).nodes
    assert first.started_at == second.started_at == first.seen_at
    assert second.seen_at > first.seen_at
    await store.housekeep()
    assert len((await store.summary()).nodes) == 1
    await store.forget_node("here")
    await store.forget_node("here")
    assert (await store.summary()).nodes == ()


async def test_an_empty_store(store: JobStore) -> None:
    summary = await store.summary()
    assert (summary.counts, summary.depths, summary.nodes) == ((), (), ())
    assert await store.list_jobs(JobFilter(), limit=10) == []
    assert await claimed(store) == []


async def test_closing_twice_is_fine(store: JobStore) -> None:
    await store.close()
    await store.close()
