import asyncio
from collections.abc import Sequence
from uuid import UUID

import pykka
import pytest

from callboard.actors.claimer import Claimer, Look
from callboard.actors.errors import StoreError
from callboard.actors.jobs.types import ClaimedJob, QueueDemand
from callboard.actors.ports import NoTelemetry
from callboard.actors.ref import EventRef
from callboard.actors.running_jobs import RunningJobs
from callboard.actors.system import ActorSystem
from callboard.persistence.memory_store import MemoryStore
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.supervisor import Supervisor
from callboard.tree import RESTART_BACKOFF
from tests.actors.stores import StageStore, unavailable
from tests.supervision.theatre import TimerClock
from tests.support.waiting import settle

LIMITS = {"default": 8, "other": 4}


class Stage:
    """A claimer with everything around it."""

    def __init__(self, system: ActorSystem) -> None:
        self.system = system
        self.store = StageStore()
        self.running = RunningJobs(LIMITS)
        self.batch_size = 100
        self.started: list[ClaimedJob] = []

    def start_jobs(self, jobs: Sequence[ClaimedJob]) -> None:
        for claimed in jobs:
            self.started.append(claimed)
            self.running.add(claimed, None, 0.0)

    def spawn(self) -> EventRef[Claimer]:
        spec = self.spec()
        return self.system.spawn(Claimer, *spec.args, **spec.kwargs)

    def supervise(self) -> None:
        """Have a supervisor that lets no restart count as one: it gives up after a defect, and after no outage."""
        self.system.spawn(Supervisor, [self.spec()], intensity=0, backoff=RESTART_BACKOFF)

    def look(self) -> None:
        self.system.registry.get("claimer").send(Look())

    def spec(self) -> ChildSpec:
        return ChildSpec(
            "claimer",
            Claimer,
            (self.store, self.running, self.start_jobs, NoTelemetry()),
            {
                "node": "node",
                "lease_seconds": 30,
                "batch_size": self.batch_size,
                "poll_interval_seconds": 10,
                "statement_timeout_seconds": 30,
            },
        )

    def ids(self) -> list[UUID]:
        return [claimed.id for claimed in self.started]


@pytest.fixture
def stage(timed_system: ActorSystem) -> Stage:
    return Stage(timed_system)


async def test_it_looks_at_its_start_and_takes_what_fits(stage: Stage) -> None:
    jobs = await stage.store.add(3)
    await stage.store.add(2, "unserved")
    stage.spawn()
    await settle()

    assert stage.store.claims[0] == [QueueDemand("default", 8), QueueDemand("other", 4)]
    assert stage.ids() == [job.id for job in jobs]
    assert {attempt.job_id for attempt in stage.running.attempts()} == set(stage.ids())


async def first_started(stage: Stage) -> None:
    """Stop the loop just when the jobs of the first claim have been started."""
    for _ in range(30):
        if stage.started:
            return
        await asyncio.sleep(0)


async def test_a_claim_that_got_all_is_followed_by_the_next_until_the_slots_are_taken(stage: Stage) -> None:
    jobs = await stage.store.add(20)
    stage.batch_size = 3
    stage.spawn()
    await settle()
    default = [[demand for demand in demands if demand.queue == "default"] for demands in stage.store.claims]
    assert default == [[QueueDemand("default", 3)], [QueueDemand("default", 3)], [QueueDemand("default", 2)]]
    assert stage.ids() == [job.id for job in jobs[:8]]


async def test_the_next_claim_is_under_way_while_the_jobs_of_the_first_run(stage: Stage) -> None:
    await stage.store.add(6)
    stage.batch_size = 3
    stage.spawn()
    await first_started(stage)
    assert len(stage.store.claims) == 2
    assert len(stage.started) == 3
    assert not stage.running.claim.done()
    stage.running.close()
    await settle()
    assert len(stage.store.claims) == 2, "what is under way comes back, and is the last"
    assert len(stage.started) == 6


async def test_a_claim_ahead_that_fails_is_asked_for_again(stage: Stage, timer_clock: TimerClock) -> None:
    jobs = await stage.store.add(6)
    stage.batch_size = 3
    stage.supervise()
    await first_started(stage)
    stage.store.lost_answers = [unavailable()]
    await settle()
    timer_clock.advance(5)
    await settle()
    assert sorted(stage.ids()) == [job.id for job in jobs]


async def test_it_polls(stage: Stage, timer_clock: TimerClock) -> None:
    stage.spawn()
    await settle()
    await stage.store.add(1)
    await settle()
    assert stage.started == []
    timer_clock.advance(10)
    await settle()
    assert len(stage.started) == 1


async def test_a_full_house_asks_again_when_a_quarter_is_free(stage: Stage) -> None:
    await stage.store.add(20)
    stage.spawn()
    await settle()
    assert len(stage.started) == 8

    stage.running.remove([stage.started[0]])
    await settle()
    assert len(stage.started) == 8
    stage.running.remove([stage.started[1]])
    await settle()
    assert len(stage.started) == 10
    assert stage.store.claims[-1] == [QueueDemand("default", 2)]


async def test_an_idle_queue_does_not_hide_the_backlog_of_another(stage: Stage) -> None:
    await stage.store.add(6, "other")
    stage.spawn()
    await settle()
    assert len(stage.started) == 4
    for claimed in stage.started[:4]:
        stage.running.remove([claimed])
    await settle()
    assert len(stage.started) == 6


async def test_nothing_is_asked_when_nothing_is_free(stage: Stage, timer_clock: TimerClock) -> None:
    await stage.store.add(20)
    await stage.store.add(20, "other")
    stage.spawn()
    await settle()
    asked = len(stage.store.claims)
    timer_clock.advance(10)
    await settle()
    assert len(stage.store.claims) == asked


async def test_one_claim_at_a_time_and_no_wake_up_is_forgotten(stage: Stage) -> None:
    stage.store.gate.clear()
    claimer = stage.spawn()
    await settle()
    for _ in range(5):
        claimer.send(Look())
    await settle()
    assert len(stage.store.claims) == 1
    stage.store.gate.set()
    await settle()
    assert len(stage.store.claims) == 2


async def test_an_unreachable_database_is_tried_again(stage: Stage, timer_clock: TimerClock) -> None:
    await stage.store.add(1)
    stage.store.failures = [unavailable(), StoreError("read-only")]
    stage.supervise()
    for _ in range(2):
        await settle()
        assert stage.started == []
        timer_clock.advance(5)
    await settle()
    assert len(stage.started) == 1


async def test_another_error_crashes_it(stage: Stage) -> None:
    stage.store.failures = [ValueError("a defect")]
    claimer = stage.spawn()
    ended = await claimer.termination()
    assert isinstance(ended.exception, ValueError)


async def test_jobs_that_cannot_be_started_are_adopted_by_the_next_claim(stage: Stage) -> None:
    jobs = await stage.store.add(3)
    start_jobs, down = stage.start_jobs, [True]

    def start(jobs: Sequence[ClaimedJob]) -> None:
        if down:
            down.clear()
            start_jobs(jobs[:1])
            raise pykka.ActorDeadError("the supervisor of jobs is restarted")
        start_jobs(jobs)

    stage.start_jobs = start  # type: ignore[method-assign]
    crashed = await stage.spawn().termination()
    assert isinstance(crashed.exception, pykka.ActorDeadError)
    assert (len(stage.started), len(stage.running)) == (1, 1)
    stage.spawn()
    await settle()
    assert sorted(stage.ids()) == sorted(job.id for job in jobs)
    assert sorted(attempt.job_id for attempt in stage.running.attempts()) == sorted(stage.ids())


@pytest.mark.parametrize("how", ["kill", "shutdown"])
async def test_a_claim_under_way_survives_its_claimer(stage: Stage, how: str) -> None:
    await stage.store.add(2)
    stage.store.gate.clear()
    claimer = stage.spawn()
    await settle()
    getattr(claimer, how)()
    await claimer.termination()
    stage.store.gate.set()
    await settle()
    assert len(stage.started) == 2


async def test_the_next_incarnation_waits_for_the_claim_under_way(stage: Stage) -> None:
    await stage.store.add(20)
    stage.store.gate.clear()
    claimer = stage.spawn()
    await settle()
    claimer.kill()
    await claimer.termination()
    stage.spawn()
    await settle()
    assert len(stage.store.claims) == 1
    stage.store.gate.set()
    await settle()
    assert len(stage.started) == 8  # and not twice as many


async def test_a_closed_house_is_not_filled_by_any_incarnation(stage: Stage, timer_clock: TimerClock) -> None:
    claimer = stage.spawn()
    await settle()
    stage.running.close()
    await stage.store.add(2)
    claimer.send(Look())
    timer_clock.advance(10)
    stage.spawn()
    await settle()
    assert stage.started == []


async def test_a_claim_whose_answer_got_lost_is_found_again(stage: Stage, timer_clock: TimerClock) -> None:
    jobs = await stage.store.add(3)
    stage.store.lost_answers = [unavailable()]
    stage.supervise()
    await settle()
    assert stage.started == []
    timer_clock.advance(5)
    await settle()
    assert sorted(stage.ids()) == sorted(job.id for job in jobs)
    assert {claimed.attempt for claimed in stage.started} == {1}
    assert sorted(attempt.job_id for attempt in stage.running.attempts()) == sorted(stage.ids())


async def test_what_runs_here_is_no_orphan(stage: Stage, timer_clock: TimerClock) -> None:
    await stage.store.add(2)
    stage.supervise()
    await settle()
    stage.store.failures = [unavailable()]
    stage.look()
    await settle()
    timer_clock.advance(5)
    await settle()
    assert len(stage.started) == 2


async def test_a_lost_claim_that_happens_late_is_found_when_its_time_is_over(
    stage: Stage, timer_clock: TimerClock
) -> None:
    stage.store.failures = [unavailable()]
    stage.supervise()
    await settle()
    timer_clock.advance(5)
    await settle()
    await stage.store.add(1)
    await MemoryStore.claim(stage.store, [QueueDemand("default", 1)], node="node", lease_seconds=30)
    timer_clock.advance(29)
    await settle()
    assert stage.started == []
    timer_clock.advance(1)
    await settle()
    assert len(stage.started) == 1
    asked = len(stage.store.adoptions)
    timer_clock.advance(60)
    await settle()
    assert len(stage.store.adoptions) == asked == 2


async def test_the_next_incarnation_knows_that_an_answer_got_lost(stage: Stage) -> None:
    await stage.store.add(1)
    stage.store.lost_answers = [ValueError("a defect")]
    claimer = stage.spawn()
    await claimer.termination()
    stage.spawn()
    await settle()
    assert len(stage.started) == 1


async def test_the_orphan_of_a_crashed_actor_is_left_to_its_lease(stage: Stage) -> None:
    await stage.store.add(1)
    claimer = stage.spawn()
    await settle()
    stage.running.crashed(stage.started[0])
    stage.running.remove([stage.started[0]])
    stage.running.unaccounted = True
    claimer.send(Look())
    await settle()
    assert len(stage.store.adoptions) == 1
    assert len(stage.started) == 1
