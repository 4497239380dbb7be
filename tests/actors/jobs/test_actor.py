"""A job actor, message by message: every order in which an attempt can end."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pykka
import pytest

from callboard.actors.errors import StoreUnavailable
from callboard.actors.jobs.actor import JobActor
from callboard.actors.jobs.call import Call, Raised, Returned
from callboard.actors.jobs.decide import Policy
from callboard.actors.jobs.definition import JobRegistry, job
from callboard.actors.jobs.environment import JobEnvironment
from callboard.actors.jobs.messages import StopAttempt, StopCause
from callboard.actors.jobs.settlement import Settlement
from callboard.actors.jobs.state import Reason, Status
from callboard.actors.jobs.supervisor import JobSupervisor, StartJobs
from callboard.actors.jobs.types import Applied, AttemptKey, ClaimedJob, Refused
from callboard.actors.outbox import Outbox
from callboard.actors.ports import AttemptEnd, NoTelemetry
from callboard.actors.progress import ProgressBoard
from callboard.actors.ref import EventRef
from callboard.actors.retry import default_wait
from callboard.actors.running_jobs import RunningJobs
from callboard.actors.system import ActorSystem
from callboard.actors.waiters import Waiters
from callboard.testing import FakeClock
from tests.actors.jobs.builders import claimed
from tests.supervision.theatre import TimerClock
from tests.support.waiting import settle

GRACE_SECONDS = 0.5
CANCELLED = Raised(asyncio.CancelledError())


class StageExecutor:
    """Runs nothing: the test says when the code starts and how it ends."""

    def __init__(self) -> None:
        self.call: Call | None = None
        self.cancels = 0
        self.abandoned = 0
        self.ended = False
        self.broken = False
        self.full = False

    def start(self, call: Call, on_start: Any, on_finish: Any) -> "StageExecutor":
        if self.broken:
            raise RuntimeError("can't start new thread")
        self.call, self.on_finish = call, on_finish
        if not self.full:
            on_start()
        return self

    def cancel(self) -> None:
        self.cancels += 1

    def abandon(self) -> bool:
        self.abandoned += not self.ended
        return not self.ended

    def end(self, outcome: Returned | Raised) -> None:
        self.ended = True
        self.on_finish(outcome)


class Counter(NoTelemetry):
    def __init__(self) -> None:
        self.ended: list[tuple[Status, Reason]] = []
        self.refused: list[str] = []
        self.broken = False

    def attempts_ended(self, ended: Sequence[tuple[AttemptEnd, float]]) -> None:
        if self.broken:
            raise ZeroDivisionError("a defect of ours")
        self.ended += [(to_status, reason) for (_, _, to_status, reason), _ in ended]

    def transition_refused(self, from_status: str, to_status: str, cause: str) -> None:
        self.refused.append(cause)


class Stage:
    """A job actor with everything around it."""

    def __init__(self, system: ActorSystem) -> None:
        self.system = system
        self.executor, self.telemetry, self.clock = StageExecutor(), Counter(), FakeClock()
        self.progress, self.waiters = ProgressBoard(), Waiters()
        self.running = RunningJobs({"default": 10})
        self.settlement = Settlement(self.running, self.progress, self.waiters, self.telemetry, self.clock, Policy())
        self.outbox = Outbox(self.settlement.settle)
        self.registry = JobRegistry()
        self.unknown_for: float | None = 0.0
        job(registry=self.registry, kind="tests.kind", retry=default_wait(0, 0))(_code)
        self.environment = JobEnvironment(
            registry=self.registry,
            executors={"async": self.executor},
            services=self,
            outbox=self.outbox,
            running=self.running,
            settlement=self.settlement,
            progress=self.progress,
            telemetry=self.telemetry,
            clock=self.clock,
            policy=Policy(),
            retry=default_wait(0, 0),
            cancel_grace_seconds=GRACE_SECONDS,
            result_limit_bytes=1000,
        )

        self.supervisor = system.spawn(JobSupervisor, self.environment, self.ready)

    def ready(self, start_jobs: StartJobs) -> None:
        self.start_jobs = start_jobs

    async def unknown_for_seconds(self, job_id: Any) -> float:
        if self.unknown_for is None:
            raise StoreUnavailable("no answer")
        return self.unknown_for

    async def start(self, **changes: Any) -> ClaimedJob:
        await settle()
        self.job = claimed(**changes)
        self.start_jobs([self.job])
        self.ref: EventRef[JobActor] = self.running._newest[self.job.id][1]
        await settle()
        return self.job

    async def stop(self, cause: StopCause) -> None:
        assert self.running.stop_job(self.job.id, StopAttempt(cause))
        await settle()

    async def end(self, outcome: Returned | Raised) -> None:
        self.executor.end(outcome)
        await settle()

    def written(self) -> list[tuple[Status, Reason]]:
        """What lies in the outbox."""
        return [(write.transition.to_status, write.transition.reason) for write in self.outbox._waiting]

    async def answer(self, answer: Any = None) -> None:
        (write,) = self.outbox.take(10)
        self.outbox.answer([answer or Applied(self.job.id, write.transition.to_status)])
        await settle()

    @property
    def gone(self) -> bool:
        """Nothing of the attempt is left."""
        free = self.running.slots.used["default"] == 0 and not len(self.running)
        assert not (free and self.ref.is_alive())
        return free


async def _code() -> str:
    raise AssertionError("the stage executor runs nothing")


@pytest.fixture
def stage(timed_system: ActorSystem) -> Stage:
    return Stage(timed_system)


REFUSED = Refused(claimed().id, "invalid", Status.CANCELLED, 7)


async def test_the_slot_is_free_after_the_commit_and_not_before(stage: Stage) -> None:
    await stage.start()
    wait = asyncio.ensure_future(stage.waiters.wait(stage.job.id))
    await stage.end(Returned('"done"'))
    assert stage.written() == [(Status.COMPLETED, Reason.SUCCEEDED)]
    assert not stage.gone
    assert not stage.ref.is_alive()
    assert not wait.done()
    await stage.answer()
    assert stage.gone
    assert (await wait).result == '"done"'
    assert stage.telemetry.ended == [(Status.COMPLETED, Reason.SUCCEEDED)]


async def test_a_failed_attempt_is_pending_again(stage: Stage) -> None:
    await stage.start(attempt=1, max_attempts=2)
    await stage.end(Raised(ValueError("no")))
    assert stage.written() == [(Status.PENDING, Reason.ERROR)]
    await stage.answer()
    assert stage.gone


@pytest.mark.parametrize("cause", [StopCause.CANCELLED, StopCause.LOST])
@pytest.mark.parametrize("outcome", [Returned("1"), Raised(ValueError()), CANCELLED])
async def test_what_is_not_ours_any_more_writes_nothing(stage: Stage, cause: StopCause, outcome: Any) -> None:
    await stage.start()
    await stage.stop(cause)
    assert (stage.executor.cancels, stage.executor.call.context.cancelled) == (1, True)
    assert not stage.gone
    await stage.end(outcome)
    assert stage.written() == []
    assert stage.gone


@pytest.mark.parametrize("cause", [StopCause.CANCELLED, StopCause.LOST])
async def test_code_that_does_not_listen_is_abandoned(stage: Stage, timer_clock: TimerClock, cause: StopCause) -> None:
    await stage.start()
    await stage.stop(cause)
    timer_clock.advance(GRACE_SECONDS)
    await settle()
    assert stage.executor.abandoned == 1
    assert stage.gone
    assert stage.written() == []


async def test_a_timeout_is_counted_from_the_start_of_the_code(stage: Stage, timer_clock: TimerClock) -> None:
    await stage.start(timeout_seconds=3)
    timer_clock.advance(2.9)
    await settle()
    assert stage.executor.cancels == 0
    timer_clock.advance(0.1)
    await settle()
    assert stage.executor.cancels == 1
    await stage.end(Returned('"just too late"'))
    assert stage.written() == [(Status.PENDING, Reason.TIMEOUT)]
    await stage.answer()
    assert stage.gone


async def test_a_timeout_of_deaf_code_is_written_after_the_grace(stage: Stage, timer_clock: TimerClock) -> None:
    await stage.start(timeout_seconds=3, attempt=3, max_attempts=3)
    for seconds in (3, GRACE_SECONDS):
        timer_clock.advance(seconds)
        await settle()
    assert (stage.executor.abandoned, stage.written()) == (1, [(Status.FAILED, Reason.TIMEOUT)])
    await stage.answer()
    assert stage.gone


async def test_a_timeout_after_the_end_is_none(stage: Stage, timer_clock: TimerClock) -> None:
    await stage.start(timeout_seconds=3)
    await stage.end(Returned("1"))
    timer_clock.advance(3)
    await settle()
    assert (stage.executor.cancels, stage.written()) == (0, [(Status.COMPLETED, Reason.SUCCEEDED)])


async def test_a_cancel_after_a_timeout_wins(stage: Stage, timer_clock: TimerClock) -> None:
    await stage.start(timeout_seconds=3)
    timer_clock.advance(3)
    await settle()
    await stage.stop(StopCause.CANCELLED)
    assert stage.executor.cancels == 1
    await stage.end(CANCELLED)
    assert (stage.written(), stage.gone) == ([], True)


async def test_a_timeout_after_a_cancel_changes_nothing(stage: Stage, timer_clock: TimerClock) -> None:
    await stage.start(timeout_seconds=0.1)
    await stage.stop(StopCause.CANCELLED)
    timer_clock.advance(0.1)
    await settle()
    await stage.end(CANCELLED)
    assert (stage.written(), stage.gone) == ([], True)


async def test_a_cancel_during_the_write_lets_the_database_decide(stage: Stage) -> None:
    await stage.start()
    await stage.end(Returned("1"))
    await stage.stop(StopCause.CANCELLED)
    assert stage.executor.cancels == 0
    await stage.answer(REFUSED)
    assert stage.gone
    assert stage.telemetry.refused == ["invalid"]
    assert not stage.system.dead_letters.counts()


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Returned("1"), (Status.COMPLETED, Reason.SUCCEEDED)),
        (Raised(ValueError()), (Status.PENDING, Reason.ERROR)),
        (CANCELLED, (Status.PENDING, Reason.SHUTDOWN)),
    ],
)
async def test_a_shutdown_keeps_what_was_reached(stage: Stage, outcome: Any, expected: Any) -> None:
    await stage.start()
    await stage.stop(StopCause.SHUTDOWN)
    await stage.end(outcome)
    assert stage.written() == [expected]
    await stage.answer()
    assert stage.gone


async def test_a_shutdown_puts_deaf_code_back(stage: Stage, timer_clock: TimerClock) -> None:
    await stage.start()
    await stage.stop(StopCause.SHUTDOWN)
    timer_clock.advance(GRACE_SECONDS)
    await settle()
    assert (stage.executor.abandoned, stage.written()) == (1, [(Status.PENDING, Reason.SHUTDOWN)])
    await stage.answer()
    assert stage.gone


async def test_the_grace_and_the_end_at_once_is_an_end(stage: Stage, timer_clock: TimerClock) -> None:
    await stage.start()
    await stage.stop(StopCause.SHUTDOWN)
    stage.executor.ended = True  # in its thread; the message is on its way
    timer_clock.advance(GRACE_SECONDS)
    await settle()
    assert (stage.executor.abandoned, stage.written()) == (0, [])
    await stage.end(Returned("1"))
    assert stage.written() == [(Status.COMPLETED, Reason.SUCCEEDED)]


async def test_the_last_report_goes_before_the_end(stage: Stage) -> None:
    await stage.start()
    attempt = AttemptKey(stage.job.id, stage.job.token)
    stage.progress.report(attempt, {"done": 1})
    await stage.end(Returned("1"))
    assert stage.written() == []
    await stage.stop(StopCause.CANCELLED)
    stage.progress.take()
    stage.progress.flushed(attempt)
    await settle()
    assert stage.written() == [(Status.COMPLETED, Reason.SUCCEEDED)]
    await stage.answer()
    assert stage.gone


async def test_an_outcome_that_cannot_be_stored_fails_the_job(stage: Stage) -> None:
    await stage.start()
    await stage.end(Returned("1"))
    await stage.answer(ValueError("the database does not take it"))
    assert stage.written() == [(Status.FAILED, Reason.NOT_RETRYABLE)]
    assert not stage.gone
    await stage.answer()
    assert stage.gone


async def test_an_attempt_whose_plain_error_cannot_be_stored_either_is_left_to_its_lease(stage: Stage) -> None:
    await stage.start()
    await stage.end(Returned("1"))
    await stage.answer(ValueError("no"))
    await stage.answer(ValueError("not this either"))
    assert stage.gone
    assert stage.running.accounted() == [AttemptKey(stage.job.id, stage.job.token)]


async def test_a_defect_after_the_commit_frees_what_the_attempt_held(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.start()
    stage.telemetry.broken = True
    await stage.end(Returned("1"))
    await stage.answer()
    assert stage.gone
    assert "a defect of ours" in caplog.text


async def test_a_crash_of_the_actor_frees_what_it_held(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.start()
    monkeypatch.setattr(JobActor, "_succeed", lambda self, result: 1 / 0)
    await stage.end(Returned("1"))
    assert (stage.written(), stage.gone) == ([], True)
    assert stage.running.accounted() == [AttemptKey(stage.job.id, stage.job.token)]


@pytest.mark.parametrize("how", ["kill", "shutdown"])
async def test_a_transition_that_is_on_its_way_outlives_the_supervisor(stage: Stage, how: str) -> None:
    await stage.start()
    await stage.end(Returned("1"))
    getattr(stage.supervisor, how)()
    await settle()
    assert not stage.gone
    await stage.answer()
    assert stage.gone
    assert stage.running.accounted() == []


@pytest.mark.parametrize("how", ["kill", "shutdown", "stop"])
@pytest.mark.parametrize("whose", ["its own", "its supervisor's"])
async def test_however_the_actor_ends_it_leaves_nothing(stage: Stage, how: str, whose: str) -> None:
    await stage.start()
    getattr(stage.ref if whose == "its own" else stage.supervisor, how)(**({"block": False} if how == "stop" else {}))
    await settle()
    assert stage.gone
    assert (stage.executor.cancels, stage.executor.call.context.cancelled) == (1, True)
    assert stage.running.accounted() == [AttemptKey(stage.job.id, stage.job.token)]
    await stage.end(CANCELLED)
    assert stage.written() == []
    assert stage.supervisor.is_alive() == (whose == "its own")


async def test_a_supervisor_of_jobs_that_has_ended_starts_none(stage: Stage) -> None:
    await settle()
    stage.supervisor.kill()
    await settle()
    with pytest.raises(pykka.ActorDeadError):
        stage.start_jobs([claimed()])
    assert len(stage.running) == 0


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0, Status.PENDING), (3599.0, Status.PENDING), (3600.0, Status.FAILED), (None, Status.PENDING)],
)
async def test_an_unknown_kind_has_its_grace_from_the_first_meeting(
    stage: Stage, seconds: float | None, expected: Status
) -> None:
    stage.unknown_for = seconds
    await stage.start(kind="nobody knows")
    assert (stage.executor.call, stage.written()) == (None, [(expected, Reason.UNKNOWN_KIND)])
    await stage.stop(StopCause.SHUTDOWN)
    await stage.answer()
    assert stage.gone


async def test_an_executor_that_cannot_start_fails_the_attempt(stage: Stage) -> None:
    stage.executor.broken = True
    await stage.start()
    assert stage.written() == [(Status.PENDING, Reason.ERROR)]
    await stage.answer()
    assert stage.gone


@pytest.mark.parametrize("outcome", [Returned('"half done"'), Raised(RuntimeError("gave in"))])
async def test_a_thread_that_gave_in_at_a_shutdown_has_not_done_its_work(stage: Stage, outcome: Any) -> None:
    await stage.start()
    await stage.stop(StopCause.SHUTDOWN)
    assert stage.executor.call.context.cancelled
    await stage.end(outcome)
    assert stage.written() == [(Status.PENDING, Reason.SHUTDOWN)]


async def test_a_deadline_runs_while_the_code_waits_for_a_thread(stage: Stage, timer_clock: TimerClock) -> None:
    stage.executor.full = True
    await stage.start(timeout_seconds=100, deadline=stage.environment.clock.now() + timedelta(seconds=2), attempt=3)
    timer_clock.advance(2)
    await settle()
    assert stage.executor.cancels == 1
    await stage.end(CANCELLED)
    assert stage.written() == [(Status.FAILED, Reason.TIMEOUT)]


async def test_code_that_reports_for_ever_does_not_hold_up_its_end(stage: Stage, timer_clock: TimerClock) -> None:
    await stage.start(timeout_seconds=1)
    attempt = AttemptKey(stage.job.id, stage.job.token)
    stage.progress.report(attempt, {"done": 1})
    for seconds in (1, GRACE_SECONDS):
        timer_clock.advance(seconds)
        await settle()
    assert stage.executor.abandoned == 1
    stage.progress.take()
    stage.progress.report(attempt, {"done": 2})
    stage.progress.flushed(attempt)
    await settle()
    assert stage.written() == [(Status.PENDING, Reason.TIMEOUT)]
    assert stage.progress.take() == {}
