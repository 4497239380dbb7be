"""What the end of a job's function means: from an outcome to an event of the state machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from .call import Judged, Outcome, Raised, Returned
from .decide import Event, Fail, Park, Snooze, Succeed
from .judgement import Failure, Judgement, judge


def interpret(
    outcome: Outcome,
    *,
    retry_on: tuple[type[Exception], ...],
    retry_delay_seconds: Callable[[BaseException | None], float],
) -> Event:
    """Return the event that an outcome is.

    Args:
        outcome: how the function ended.
        retry_on: exceptions that another attempt may mend.
        retry_delay_seconds: draws the delay before the next attempt, for the exception of this one; None where that
            stayed in another process.
    """
    match outcome:
        case Returned(result):
            return Succeed(result)
        case Raised(exception):
            return _event(judge(exception, retry_on), lambda: retry_delay_seconds(exception))
        case Judged(judgement):
            return _event(judgement, lambda: retry_delay_seconds(None))
        case _:
            assert_never(outcome)


def _event(judgement: Judgement, draw_delay_seconds: Callable[[], float]) -> Event:
    match judgement:
        case Failure(error, retryable, delay):
            if not retryable:
                return Fail(error, 0.0, retryable=False)
            return Fail(error, draw_delay_seconds() if delay is None else delay)
        case Snooze() | Park():
            return judgement
        case _:
            assert_never(judgement)
