"""What the end of a job's function means: from an outcome to an event of the state machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import assert_never

from callboard.actors.errors import InvalidArguments, InvalidResult, JobEnded, PayloadTooLarge

from . import control
from .call import Outcome, Raised, Returned
from .decide import Event, Fail, Park, Snooze, Succeed
from .failure import describe, plain_error


def interpret(
    outcome: Outcome,
    *,
    retry_on: tuple[type[Exception], ...],
    retry_delay_seconds: Callable[[BaseException], float],
) -> Event:
    """Return the event that an outcome is.

    Args:
        outcome: how the function ended.
        retry_on: exceptions that another attempt may mend.
        retry_delay_seconds: draws the delay before the next attempt, for the exception of this one.
    """
    match outcome:
        case Returned(result):
            return Succeed(result)
        case Raised(exception):
            return _interpret_exception(exception, retry_on, retry_delay_seconds)
        case _:
            assert_never(outcome)


def _interpret_exception(
    exception: BaseException,
    retry_on: tuple[type[Exception], ...],
    retry_delay_seconds: Callable[[BaseException], float],
) -> Event:
    match exception:
        case control.Parked(waiting_on=waiting_on):
            return Park(waiting_on)
        case BaseExceptionGroup() if (parked := _only_parked(exception)) is not None:
            return Park(parked.waiting_on)
        case control.Snooze(delay_seconds=delay_seconds):
            return Snooze(delay_seconds)
        case control.Retry(delay_seconds=delay) if delay is not None:
            return Fail(describe(exception), delay)
        case control.Abort() | InvalidArguments() | InvalidResult() | PayloadTooLarge() | JobEnded():
            # JobEnded: another job that this one needs has ended for good.
            return Fail(describe(exception), 0.0, retryable=False)
        case asyncio.CancelledError():
            # Nobody on our side asked for it: the function cancelled itself, or something that it awaited.
            error = plain_error("asyncio.CancelledError", "the function was cancelled from within")
            return Fail(error, retry_delay_seconds(exception))
        case control.Retry() | SystemExit() | KeyboardInterrupt():
            return Fail(describe(exception), retry_delay_seconds(exception))
        case _:
            retryable = isinstance(exception, retry_on)
            return Fail(describe(exception), retry_delay_seconds(exception) if retryable else 0.0, retryable)


def _only_parked(group: BaseExceptionGroup[BaseException]) -> control.Parked | None:
    """Return what a task group makes of one or several ``ctx.map`` that wait, if nothing else went wrong."""
    parked, rest = group.split(control.Parked)
    if parked is None or rest is not None:
        return None
    first: BaseException = parked
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, control.Parked) else None
