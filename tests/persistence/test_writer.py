"""Group commit: nothing dropped, nothing twice, an answer after the commit and not before."""

from collections.abc import Sequence

import pytest

from callboard.actors.errors import SchemaMissing, StoreError, ValueNotStorable
from callboard.actors.jobs.decide import Transition
from callboard.actors.jobs.state import Reason, Status
from callboard.actors.jobs.types import Applied, ClaimedJob, QueueDemand, Refused
from callboard.actors.outbox import Answer, Outbox, Write
from callboard.actors.ref import EventRef
from callboard.actors.system import ActorSystem
from callboard.persistence.writer import Writer
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.supervisor import Supervisor
from callboard.tree import RESTART_BACKOFF
from tests.actors.conftest import timed_system, timer_clock  # noqa: F401 - fixtures
from tests.actors.stores import StageStore, unavailable
from tests.supervision.theatre import TimerClock
from tests.support.waiting import settle


class Stage:
    """A writer with everything around it."""

    def __init__(self, system: ActorSystem) -> None:
        self.system = system
        self.store = StageStore()
        self.outbox = Outbox(self.settle)
        self.numbers: dict[int, int] = {}
        self.answers: dict[int, Answer] = {}

    def settle(self, writes: Sequence[Write], answers: Sequence[Answer]) -> list[Write]:
        for write, answer in zip(writes, answers, strict=True):
            self.answers[self.numbers[id(write)]] = answer
        return []

    def spawn(self, batch_size: int = 100) -> EventRef[Writer]:
        return self.system.spawn(Writer, self.store, self.outbox, actor="node:test", batch_size=batch_size)

    def supervise(self) -> None:
        """Have a supervisor that gives up after a defect, and after no outage."""
        spec = ChildSpec("writer", Writer, (self.store, self.outbox), {"actor": "node:test", "batch_size": 100})
        self.system.spawn(Supervisor, [spec], intensity=0, backoff=RESTART_BACKOFF)

    async def claim(self, count: int) -> list[ClaimedJob]:
        await self.store.add(count)
        return await self.store.claim([QueueDemand("default", count)], node="test", lease_seconds=30)

    def finish(self, number: int, job: ClaimedJob, result: str | None = None, *, has_parent: bool = True) -> None:
        transition = Transition(
            job.id,
            Status.RUNNING,
            Status.COMPLETED,
            job.token,
            Reason.SUCCEEDED,
            result=result or str(number),
            has_parent=has_parent,
        )
        write = Write(transition, job, 0.0)
        self.numbers[id(write)] = number
        self.outbox.put(write)

    async def statuses(self, jobs: list[ClaimedJob]) -> list[Status]:
        return [(await self.store.get(job.id)).status for job in jobs]


@pytest.fixture
def stage(timed_system: ActorSystem) -> Stage:  # noqa: F811
    return Stage(timed_system)


async def test_what_comes_together_is_one_commit(stage: Stage) -> None:
    jobs = await stage.claim(10)
    stage.spawn()
    await settle()
    for number, job in enumerate(jobs):
        stage.finish(number, job)
    await settle()
    assert stage.store.batches == [10]
    assert stage.answers == {number: Applied(job.id, Status.COMPLETED) for number, job in enumerate(jobs)}


async def test_completions_have_a_commit_of_their_own_and_the_answers_stay_in_order(stage: Stage) -> None:
    jobs = await stage.claim(5)
    stage.spawn()
    await settle()
    for number, job in enumerate(jobs):
        stage.finish(number, job, has_parent=number % 2 == 0)
    await settle()
    assert stage.store.batches == [2, 3]
    assert stage.answers == {number: Applied(job.id, Status.COMPLETED) for number, job in enumerate(jobs)}


async def test_what_comes_during_a_commit_is_the_next_one_in_order_and_bounded(stage: Stage) -> None:
    jobs = await stage.claim(12)
    stage.spawn(batch_size=5)
    stage.store.gate.clear()
    stage.finish(0, jobs[0])
    await settle()
    for number, job in enumerate(jobs[1:], start=1):
        stage.finish(number, job)
    await settle()
    assert (stage.store.batches, stage.answers) == ([1], {})
    stage.store.gate.set()
    await settle()
    assert stage.store.batches == [1, 5, 5, 1]
    assert list(stage.answers) == list(range(12))
    assert len(stage.outbox) == 0


@pytest.mark.parametrize(
    "failure", [unavailable(), SchemaMissing("run `callboard migrate`"), StoreError("permission denied")], ids=repr
)
async def test_a_database_that_refuses_delays_and_drops_nothing(
    stage: Stage,
    timer_clock: TimerClock,  # noqa: F811
    failure: StoreError,
) -> None:
    jobs = await stage.claim(3)
    stage.store.failures = [failure, failure]
    stage.supervise()
    for number, job in enumerate(jobs):
        stage.finish(number, job)
    for _ in range(2):
        await settle()
        assert stage.answers == {}
        timer_clock.advance(5)
    await settle()
    assert list(stage.answers) == [0, 1, 2]
    assert await stage.statuses(jobs) == [Status.COMPLETED] * 3


async def test_a_commit_whose_answer_got_lost_counts_as_applied(stage: Stage, timer_clock: TimerClock) -> None:  # noqa: F811
    jobs = await stage.claim(2)
    stage.store.lost_answers = [unavailable()]
    stage.supervise()
    for number, job in enumerate(jobs):
        stage.finish(number, job)
    await settle()
    timer_clock.advance(5)
    await settle()
    assert stage.store.batches == [2, 2]
    assert all(isinstance(answer, Applied) for answer in stage.answers.values())
    assert len(await stage.store.history(jobs[0].id)) == 3


async def test_a_refusal_for_others_reasons_stays_one(stage: Stage, timer_clock: TimerClock) -> None:  # noqa: F811
    (job,) = await stage.claim(1)
    await stage.store.cancel([job.id], actor="client:test")
    stage.store.failures = [unavailable()]
    stage.supervise()
    stage.finish(0, job)
    await settle()
    timer_clock.advance(5)
    await settle()
    answer = stage.answers[0]
    assert isinstance(answer, Refused)
    assert answer.actual_status is Status.CANCELLED


async def test_a_batch_that_is_not_accepted_is_split_until_the_bad_one_stands_alone(stage: Stage) -> None:
    jobs = await stage.claim(9)
    stage.store.poison = {"bad"}
    stage.spawn()
    for number, job in enumerate(jobs):
        stage.finish(number, job, "bad" if number == 4 else None)
    await settle()
    assert isinstance(stage.answers[4], ValueNotStorable)
    assert all(isinstance(stage.answers[number], Applied) for number in range(9) if number != 4)
    assert await stage.statuses(jobs) == [*[Status.COMPLETED] * 4, Status.RUNNING, *[Status.COMPLETED] * 4]


@pytest.mark.parametrize("how", ["kill", "shutdown"])
async def test_the_next_incarnation_goes_on_where_the_last_one_stopped(stage: Stage, how: str) -> None:
    jobs = await stage.claim(6)
    writer = stage.spawn(batch_size=2)
    stage.store.gate.clear()
    for number, job in enumerate(jobs):
        stage.finish(number, job)
    await settle()
    getattr(writer, how)()
    await writer.termination()
    assert (len(stage.outbox), stage.answers) == (6, {})
    stage.store.gate.set()
    stage.spawn(batch_size=2)
    await settle()
    assert list(stage.answers) == list(range(6))
    assert await stage.statuses(jobs) == [Status.COMPLETED] * 6


async def test_a_defect_in_the_store_loses_nothing_either(stage: Stage) -> None:
    (job,) = await stage.claim(1)
    stage.store.failures = [ValueError("a defect")]
    writer = stage.spawn()
    stage.finish(0, job)
    await writer.termination()  # the supervisor counts it
    assert (len(stage.outbox), stage.answers) == (1, {})
    stage.spawn()
    await settle()
    assert stage.answers == {0: Applied(job.id, Status.COMPLETED)}
