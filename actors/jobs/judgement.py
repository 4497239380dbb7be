"""What an exception that ended a job's function means, as data: an exception cannot cross to another process."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, TypeAlias

from callboard.actors.errors import (
    ConfigurationError,
    InvalidArguments,
    InvalidResult,
    JobEnded,
    LlmRequestFailed,
    PayloadTooLarge,
    ProcessDied,
)

from . import control
from .decide import Park, Snooze
from .failure import describe, plain_error


class Failure(NamedTuple):
    """The attempt has failed."""

    error: dict[str, Any]
    """``{"type", "message", "traceback"}``."""
    retryable: bool = True
    retry_delay_seconds: float | None = None
    """None: to be drawn from the retry strategy."""
    was_cancelled: bool = False
    """Whether it ended because it was cancelled."""


Judgement: TypeAlias = Failure | Snooze | Park


def judge(exception: BaseException, retry_on: tuple[type[Exception], ...]) -> Judgement:
    """Return what an exception means.

    Args:
        exception: what the function raised.
        retry_on: exceptions that another attempt may mend.
    """
    match exception:
        case control.Parked(waiting_on=waiting_on):
            return Park(waiting_on)
        case BaseExceptionGroup() if (parked := _only_parked(exception)) is not None:
            return Park(parked.waiting_on)
        case control.Snooze(delay_seconds=delay_seconds):
            return Snooze(delay_seconds)
        case control.Retry(delay_seconds=delay):
            return Failure(describe(exception), retry_delay_seconds=delay)
        case (
            control.Abort()
            | InvalidArguments()
            | InvalidResult()
            | PayloadTooLarge()
            | ConfigurationError()
            | LlmRequestFailed()  # as this: the outcome stands
            | JobEnded()  # another job that this one needs has ended for good
        ):
            return Failure(describe(exception), retryable=False)
        case asyncio.CancelledError():
            error = plain_error("asyncio.CancelledError", "the function was cancelled from within")
            return Failure(error, was_cancelled=True)
        case SystemExit() | KeyboardInterrupt() | ProcessDied():
            return Failure(describe(exception))
        case _:
            return Failure(describe(exception), retryable=isinstance(exception, retry_on))


def _only_parked(group: BaseExceptionGroup[BaseException]) -> control.Parked | None:
    """Return what a task group makes of one or several ``ctx.map`` that wait, if nothing else went wrong."""
    parked, rest = group.split(control.Parked)
    if parked is None or rest is not None:
        return None
    first: BaseException = parked
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, control.Parked) else None
