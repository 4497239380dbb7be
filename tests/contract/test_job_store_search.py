"""Finding jobs by tags, metadata and errors; the dead letter list."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import Fail, Succeed
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import JobFilter

from .support import applied, new_job, outcome, record, running, spawned


async def found(store: JobStore, **where: Any) -> list[object]:
    return [job.id for job in reversed(await store.list_jobs(JobFilter(**where), limit=99))]


async def test_all_given_tags_and_metadata_must_be_there(store: JobStore) -> None:
    [one] = await spawned(store, tags=("a", "b"), metadata='{"tenant":"acme","n":1,"deep":{"x":1}}')
    [two] = await spawned(store, tags=("b",), metadata='{"tenant":"acme","n":2,"urgent":true,"none":null}')
    await spawned(store)
    assert await found(store, tags=("b",)) == [one, two]
    assert await found(store, tags=("a", "b")) == [one]
    assert await found(store, metadata={"tenant": "acme"}) == [one, two]
    assert await found(store, metadata={"tenant": "acme", "n": 2}) == [two]
    assert await found(store, metadata={"urgent": True, "none": None}) == [two]
    assert await found(store, metadata={"n": "1"}) == []
    assert await found(store, metadata={"tenant": "acme"}, tags=("a",)) == [one]


METADATA = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=1200),
    ),
    min_size=1,
    max_size=3,
)


@given(METADATA)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_stored_is_found_by_it(store: JobStore, metadata: dict[str, Any]) -> None:
    stored = json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))
    [job_id] = await spawned(store, metadata=stored, queue="found")
    assert job_id in await found(store, metadata=metadata, queues=("found",))
    assert (await record(store, job_id)).metadata == metadata


async def test_metadata_that_the_index_cannot_hold_are_stored_all_the_same(store: JobStore) -> None:
    [job_id] = await spawned(store, metadata='{"a\\u0000b":1}')
    assert (await record(store, job_id)).metadata == {"a\0b": 1}


async def test_pages_by_key_meet_at_no_job_and_miss_none(store: JobStore) -> None:
    ids = await spawned(store, 25, tags=("t",))
    await spawned(store, 5)
    pages: list[object] = []
    before = None
    while page := await store.list_jobs(JobFilter(tags=("t",)), limit=7, before=before):
        pages += [job.id for job in page]
        before = page[-1].id
        await spawned(store, 1, tags=("t",))  # what comes meanwhile moves nothing
    assert pages == ids[::-1]


def error(name: str) -> dict[str, Any]:
    return {"type": name, "message": "no", "traceback": None}


async def test_the_dead_letter_list_counts_failures_by_error(store: JobStore) -> None:
    first, second = await running(store, kind="a"), await running(store, kind="a")
    await applied(store, outcome(first, Fail(error("ValueError"), 0.0)))
    await applied(store, outcome(second, Fail(error("ValueError"), 0.0)))
    third = await running(store, kind="b", queue="default")
    await applied(store, outcome(third, Fail(error("KeyError"), 0.0)))
    done = await running(store)
    await applied(store, outcome(done, Succeed("1")))
    counts = await store.errors(JobFilter())
    assert [(count.kind, count.error_type, count.jobs, count.latest_id) for count in counts] == [
        ("b", "KeyError", 1, third.id),
        ("a", "ValueError", 2, second.id),
    ]
    assert counts[1].latest_at == (await record(store, second.id)).finished_at
    assert [count.kind for count in await store.errors(JobFilter(error_types=("KeyError",)))] == ["b"]
    assert await found(store, statuses=(Status.FAILED,), error_types=("ValueError",)) == [first.id, second.id]


async def test_a_job_of_which_there_is_a_copy_counts_as_retried(store: JobStore) -> None:
    jobs = [await running(store) for _ in range(2)]
    await applied(store, *(outcome(job, Fail(error("ValueError"), 0.0)) for job in jobs))
    copy = new_job(metadata=f'{{"retry_of":"{jobs[0].id}"}}')
    await store.spawn([copy], actor="client:test")
    assert await found(store, statuses=(Status.FAILED,), retried=True) == [jobs[0].id]
    assert await found(store, statuses=(Status.FAILED,), retried=False) == [jobs[1].id]
    assert [count.jobs for count in await store.errors(JobFilter(retried=False))] == [1]
