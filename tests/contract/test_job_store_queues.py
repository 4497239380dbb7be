"""Queues that are paused, drained and resumed."""

from __future__ import annotations

import pytest

from callboard.actors.errors import QueueFull
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import Succeed
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import AttemptKey, QueueDemand

from .support import applied, claimed, new_job, outcome, record, running, spawned


async def set_queue(store: JobStore, name: str = "default", *, paused: bool = False, draining: bool = False) -> None:
    await store.controls.set_queue(name, paused=paused, draining=draining, actor="client:test")


async def test_nobody_claims_from_a_paused_queue_until_it_is_resumed(store: JobStore) -> None:
    await spawned(store, 2)
    await spawned(store, 1, concurrency_key="k", concurrency_limit=1)
    await spawned(store, 2, queue="other")
    await set_queue(store, paused=True)
    await spawned(store)
    demands = [QueueDemand("default", 9), QueueDemand("other", 9)]
    assert {job.queue for job in await store.claim(demands, node="here", lease_seconds=60)} == {"other"}
    await set_queue(store)
    assert len(await claimed(store)) == 4


async def test_what_runs_when_its_queue_is_paused_goes_on(store: JobStore) -> None:
    job = await running(store)
    await set_queue(store, paused=True)
    await applied(store, outcome(job, Succeed("1")))
    assert (await record(store, job.id)).status is Status.COMPLETED


async def test_a_draining_queue_works_off_what_it_has_and_takes_nothing_new(store: JobStore) -> None:
    await spawned(store, 2)
    await set_queue(store, draining=True)
    with pytest.raises(QueueFull, match=r"queue .default. is being drained .*callboard queue resume default"):
        await spawned(store)
    await spawned(store, queue="other")
    assert len(await claimed(store)) == 2
    await set_queue(store)
    await spawned(store)
    assert len(await claimed(store)) == 1


async def test_the_jobs_of_a_draining_queue_may_have_children_in_it(store: JobStore) -> None:
    parent = await running(store)
    await set_queue(store, draining=True)
    child = new_job(parent_id=parent.id, child_key="c", child_index=0)
    await store.spawn([child], actor="node:here", parent=AttemptKey(parent.id, parent.token))
    assert [job.id for job in await claimed(store)] == [child.id]


async def test_what_is_set_can_be_read_back(store: JobStore) -> None:
    await set_queue(store, "a", paused=True)
    await set_queue(store, "b", draining=True)
    await set_queue(store, "c", paused=True)
    await set_queue(store, "c")
    controls = await store.controls.read()
    assert controls.is_paused("a")
    assert not controls.is_draining("a")
    assert controls.is_draining("b")
    assert not controls.is_paused("c")
    assert not controls.is_paused("unheard of")
    assert controls.queues["a"].changed_by == "client:test"
    assert controls.queues["a"].changed_at is not None
