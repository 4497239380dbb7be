"""What a job's function raises to say how it wants to go on.

These are answers, not errors: none of them is a ``CallboardError``. ``Parked`` is a ``BaseException`` so that a
function's own ``except Exception`` does not catch it.
"""

from __future__ import annotations

from callboard.actors.retry import LONGEST_DELAY_SECONDS

from .state import WaitingOn


class Retry(Exception):
    """Try again: counts as a failed attempt.

    Args:
        reason: kept as the attempt's error.
        delay_seconds: when to try again, at most a hundred years; None (default) takes the job's own backoff.

    Raises:
        ValueError: the delay is negative, longer or not a number.
    """

    def __init__(self, reason: str = "retry asked for", *, delay_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.delay_seconds = None if delay_seconds is None else _checked("Retry", delay_seconds)


class Snooze(Exception):
    """Call me again after ``delay_seconds``, at most a hundred years. Costs no attempt.

    Raises:
        ValueError: the delay is negative, longer or not a number.
    """

    def __init__(self, delay_seconds: float) -> None:
        super().__init__(f"snoozed for {delay_seconds} s")
        self.delay_seconds = _checked("Snooze", delay_seconds)


class Abort(Exception):
    """Fail at once: another attempt would not help."""


class Parked(BaseException):
    """Unwinds a function that waits for something. Raised by ``JobContext.map``, not by users."""

    def __init__(self, waiting_on: WaitingOn) -> None:
        super().__init__(f"waiting on {waiting_on}")
        self.waiting_on = waiting_on


def _checked(answer: str, delay_seconds: float) -> float:
    """Refuse here, where the traceback names the job's own line, what neither timedelta nor the database can hold."""
    if not 0 <= delay_seconds <= LONGEST_DELAY_SECONDS:
        raise ValueError(f"{answer}(delay_seconds={delay_seconds!r}): expected 0 to {LONGEST_DELAY_SECONDS:,} s")
    return delay_seconds
