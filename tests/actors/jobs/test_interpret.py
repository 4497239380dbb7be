"""What each end of a function means."""

import asyncio
from typing import Any

import pytest

from callboard.actors.errors import (
    InvalidArguments,
    InvalidResult,
    JobDefinitionError,
    JobFailed,
    MemoryLimitExceeded,
    PayloadTooLarge,
    ProcessDied,
)
from callboard.actors.jobs.call import Judged, Outcome, Raised, Returned
from callboard.actors.jobs.control import Abort, Parked, Retry, Snooze
from callboard.actors.jobs.decide import Event, Fail, Park, Succeed
from callboard.actors.jobs.decide import Snooze as SnoozeEvent
from callboard.actors.jobs.interpret import interpret
from callboard.actors.jobs.judgement import Failure
from callboard.actors.jobs.state import WaitingOn
from tests.actors.jobs.builders import JOB_ID


def event_of(outcome: Outcome, retry_on: tuple[type[Exception], ...] = (Exception,)) -> Event:
    return interpret(outcome, retry_on=retry_on, retry_delay_seconds=lambda exception: 42.0)


@pytest.mark.parametrize("result", [None, "[1]"])
def test_a_return_is_success(result: str | None) -> None:
    assert event_of(Returned(result)) == Succeed(result)


def test_answers_are_no_failures() -> None:
    assert event_of(Raised(Snooze(5))) == SnoozeEvent(5)
    assert event_of(Raised(Parked(WaitingOn.CHILDREN))) == Park(WaitingOn.CHILDREN)


@pytest.mark.parametrize(
    ("exception", "delay", "retryable"),
    [
        (OSError("x"), 42.0, True),
        (ValueError("x"), 0.0, False),
        (Retry("x"), 42.0, True),
        (Retry("x", delay_seconds=0.0), 0.0, True),
        (Retry("x", delay_seconds=7.0), 7.0, True),
        (Abort("x"), 0.0, False),
        (InvalidArguments("x"), 0.0, False),
        (InvalidResult("x"), 0.0, False),
        (PayloadTooLarge("x"), 0.0, False),
        (JobDefinitionError("x"), 0.0, False),
        (ProcessDied("x"), 42.0, True),
        (MemoryLimitExceeded("x"), 42.0, True),
        (SystemExit("x"), 42.0, True),
        (KeyboardInterrupt("x"), 42.0, True),
        (GeneratorExit("x"), 0.0, False),
        (ExceptionGroup("x", [OSError()]), 0.0, False),
        (type("Strange", (BaseException,), {})("x"), 0.0, False),
    ],
    ids=repr,
)
def test_an_exception_is_a_failure(exception: BaseException, delay: float, retryable: bool) -> None:
    event = event_of(Raised(exception), retry_on=(OSError,))
    assert isinstance(event, Fail)
    assert (event.retry_delay_seconds, event.retryable) == (delay, retryable)
    assert event.error["message"].startswith("x")


def test_what_another_process_has_judged_is_taken_as_it_is() -> None:
    error = {"type": "ValueError", "message": "no", "traceback": None}
    assert event_of(Judged(Failure(error))) == Fail(error, 42.0)
    assert event_of(Judged(Failure(error, retry_delay_seconds=0.0))) == Fail(error, 0.0)
    assert event_of(Judged(Failure(error, retryable=False))) == Fail(error, 0.0, retryable=False)
    assert event_of(Judged(SnoozeEvent(5))) == SnoozeEvent(5)
    assert event_of(Judged(Park(WaitingOn.CHILDREN))) == Park(WaitingOn.CHILDREN)


def test_no_retry_on_takes_back_what_another_attempt_cannot_mend() -> None:
    event = event_of(Raised(InvalidResult("x")), retry_on=(Exception,))
    assert isinstance(event, Fail)
    assert not event.retryable


def test_a_cancellation_that_nobody_asked_for_is_a_failure() -> None:
    event = event_of(Raised(asyncio.CancelledError()), retry_on=(OSError,))
    assert isinstance(event, Fail)
    assert (event.error["type"], event.retry_delay_seconds, event.retryable) == ("asyncio.CancelledError", 42.0, True)


@pytest.mark.parametrize("answer", [Retry, Snooze])
@pytest.mark.parametrize("delay", [-1.0, float("nan"), float("inf"), 1e12])
def test_a_delay_that_no_clock_can_hold_is_the_functions_own_error(answer: Any, delay: float) -> None:
    with pytest.raises(ValueError, match=rf"{answer.__name__}\(delay_seconds=.*expected 0 to"):
        answer(delay_seconds=delay)


def test_a_task_group_whose_maps_wait_waits() -> None:
    parked = Parked(WaitingOn.CHILDREN)
    group = BaseExceptionGroup("tasks", [parked, BaseExceptionGroup("inner", [Parked(WaitingOn.CHILDREN)])])
    assert event_of(Raised(group)) == Park(WaitingOn.CHILDREN)


def test_a_task_group_in_which_something_else_went_wrong_has_failed() -> None:
    group = BaseExceptionGroup("tasks", [Parked(WaitingOn.CHILDREN), ValueError("no")])
    assert isinstance(event_of(Raised(group)), Fail)


def test_another_jobs_end_is_not_mended_by_another_attempt() -> None:
    event = event_of(Raised(JobFailed(JOB_ID, "child", stop_reason="timeout", error=None)))
    assert isinstance(event, Fail)
    assert not event.retryable
