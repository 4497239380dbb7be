"""Which job runs here, and who is told to stop."""

import asyncio
from uuid import UUID

import pytest

from callboard.actors.jobs.messages import StopAttempt, StopCause
from callboard.actors.jobs.types import AttemptKey, QueueDemand
from callboard.actors.running_jobs import RunningJobs
from tests.actors.jobs.builders import JOB_ID, claimed

STOP = StopAttempt(StopCause.CANCELLED)
OTHER_ID = UUID(int=1)


class Handle:
    def __init__(self) -> None:
        self.messages: list[StopAttempt] = []

        self.alive = True

    def is_alive(self) -> bool:
        return self.alive

    def send(self, message: StopAttempt) -> None:
        assert self.alive
        self.messages.append(message)


@pytest.fixture
def running() -> RunningJobs:
    return RunningJobs({"default": 2})


def test_a_job_takes_its_slot_until_it_is_removed(running: RunningJobs) -> None:
    running.add(claimed(), Handle(), 0.0)
    assert len(running) == 1
    assert running.slots.demands(9) == [QueueDemand("default", 1)]
    assert running.by_kind() == {"tests.kind": 1}
    running.remove([claimed()])
    assert len(running) == 0
    assert running.slots.demands(9) == [QueueDemand("default", 2)]
    assert running.by_kind() == {"tests.kind": 0}


def test_the_claimer_is_told_of_each_free_slot(running: RunningJobs) -> None:
    seen: list[int] = []
    running.on_free(lambda: seen.append(running.slots.used["default"]))
    running.add(claimed(), Handle(), 0.0)
    running.add(claimed(OTHER_ID), Handle(), 0.0)
    running.remove([claimed()])
    running.remove([claimed(OTHER_ID)])
    assert seen == [1, 0]


def test_an_older_attempt_that_ends_leaves_the_newer_one(running: RunningJobs) -> None:
    newer = Handle()
    running.add(claimed(token=7), Handle(), 0.0)
    running.add(claimed(token=8), newer, 0.0)
    running.remove([claimed(token=7)])
    assert len(running) == 1
    assert running.slots.used["default"] == 1
    assert running.stop_job(JOB_ID, STOP)
    assert newer.messages == [STOP]


def test_an_older_attempt_may_end_after_the_newer_one(running: RunningJobs) -> None:
    older = Handle()
    running.add(claimed(token=7), older, 0.0)
    running.add(claimed(token=8), Handle(), 0.0)
    running.remove([claimed(token=8)])
    assert running.attempts() == {AttemptKey(JOB_ID, 7)}
    assert not running.stop_job(JOB_ID, STOP)
    running.stop_all(STOP)
    assert older.messages[-1] == STOP
    running.remove([claimed(token=7)])
    assert len(running) == 0
    assert running.slots.used["default"] == 0


def test_a_job_that_does_not_run_here_is_not_stopped(running: RunningJobs) -> None:
    assert not running.stop_job(JOB_ID, STOP)


def test_only_exactly_these_attempts_are_stopped(running: RunningJobs) -> None:
    first, second = Handle(), Handle()
    running.add(claimed(token=7), first, 0.0)
    running.add(claimed(OTHER_ID, token=3), second, 0.0)
    running.stop_attempts([AttemptKey(JOB_ID, 6), AttemptKey(OTHER_ID, 3), AttemptKey(UUID(int=9), 7)], STOP)
    assert first.messages == []
    assert second.messages == [STOP]


def test_all_are_stopped_even_if_one_ends_at_once(running: RunningJobs) -> None:
    class Hasty(Handle):
        def send(self, message: StopAttempt) -> None:
            super().send(message)
            running.remove([claimed()])

    hasty, other = Hasty(), Handle()
    running.add(claimed(), hasty, 0.0)
    running.add(claimed(OTHER_ID), other, 0.0)
    running.stop_all(STOP)
    assert hasty.messages == other.messages == [STOP]


async def test_waiting_for_the_last_job(running: RunningJobs) -> None:
    await running.wait_empty()
    running.add(claimed(), Handle(), 0.0)
    running.add(claimed(OTHER_ID), Handle(), 0.0)
    waiting = asyncio.create_task(running.wait_empty())
    running.remove([claimed()])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    running.remove([claimed(OTHER_ID)])
    await waiting


def test_who_has_ended_is_told_nothing_but_still_counts(running: RunningJobs) -> None:
    handle = Handle()
    running.add(claimed(), handle, 0.0)
    handle.alive = False
    assert running.stop_job(JOB_ID, STOP)
    running.stop_all(STOP)
    running.stop_attempts([AttemptKey(JOB_ID, claimed().token)], STOP)
    running.add(claimed(token=claimed().token + 1), Handle(), 0.0)
    assert handle.messages == []
    assert len(running) == 2
