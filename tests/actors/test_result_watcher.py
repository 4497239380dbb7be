import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest

from callboard.actors.errors import JobNotFound
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import JobRecord
from callboard.actors.result_watcher import LookUp, ResultWatcher
from callboard.actors.system import ActorSystem
from callboard.actors.waiters import Waiters
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.supervisor import Supervisor
from callboard.tree import RESTART_BACKOFF
from tests.actors.stores import StageStore, unavailable
from tests.supervision.theatre import TimerClock
from tests.support.waiting import settle


class AskedStore(StageStore):
    def __init__(self) -> None:
        super().__init__()
        self.questions: list[int] = []

    async def get_many(self, job_ids: Sequence[UUID]) -> list[JobRecord]:
        self.questions.append(len(job_ids))
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return await super().get_many(job_ids)


@pytest.fixture
def store() -> AskedStore:
    return AskedStore()


@pytest.fixture
def waiters() -> Waiters:
    return Waiters()


async def test_all_waits_are_one_question(timed_system: ActorSystem, store: AskedStore, waiters: Waiters) -> None:
    jobs = await store.add(1500)
    watcher = timed_system.spawn(ResultWatcher, store, waiters, poll_interval_seconds=10)
    waits = [asyncio.ensure_future(waiters.wait(job.id)) for job in jobs]
    await settle()
    assert store.questions == []
    watcher.send(LookUp())
    await settle()
    assert store.questions == [1000, 500]
    await store.cancel([job.id for job in jobs], actor="client:test")
    watcher.send(LookUp())
    await settle()
    assert {(await wait).status for wait in waits} == {Status.CANCELLED}
    assert len(waiters) == 0


async def test_it_polls_and_survives_an_unreachable_database(
    timed_system: ActorSystem, timer_clock: TimerClock, store: AskedStore, waiters: Waiters
) -> None:
    (job,) = await store.add(1)
    spec = ChildSpec("result_watcher", ResultWatcher, (store, waiters), {"poll_interval_seconds": 10})
    timed_system.spawn(Supervisor, [spec], intensity=0, backoff=RESTART_BACKOFF)
    wait = asyncio.ensure_future(waiters.wait(job.id))
    await settle()
    await store.cancel([job.id], actor="client:test")
    store.failures = [unavailable()]
    timer_clock.advance(10)
    await settle()
    assert not wait.done()
    timer_clock.advance(10)
    assert (await wait).status is Status.CANCELLED


async def test_a_job_that_does_not_exist_is_not_waited_for(
    timed_system: ActorSystem, store: AskedStore, waiters: Waiters
) -> None:
    watcher = timed_system.spawn(ResultWatcher, store, waiters, poll_interval_seconds=10)
    wait = asyncio.ensure_future(waiters.wait(uuid7()))
    await settle()
    watcher.send(LookUp())
    with pytest.raises(JobNotFound):
        await wait


async def test_a_question_asked_during_an_answer_is_not_forgotten(
    timed_system: ActorSystem, store: AskedStore, waiters: Waiters
) -> None:
    (job,) = await store.add(1)
    watcher = timed_system.spawn(ResultWatcher, store, waiters, poll_interval_seconds=10)
    wait = asyncio.ensure_future(waiters.wait(job.id))
    store.gate.clear()
    await settle()
    for _ in range(3):
        watcher.send(LookUp())
    await settle()
    assert store.questions == [1]
    store.gate.set()
    await settle()
    assert store.questions == [1, 1]
    wait.cancel()
    await settle()
    assert len(waiters) == 0
