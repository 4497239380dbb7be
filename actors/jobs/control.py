"""What a job's function raises to say how it wants to go on.

These are answers, not errors: none of them is a ``CallboardError``. ``Parked`` is a ``BaseException`` so that a
function's own ``except Exception`` does not catch it.
"""

from __future__ import annotations

from .state import WaitingOn


class Retry(Exception):
    """Try again: counts as a failed attempt.

    Args:
        reason: kept as the attempt's error.
        delay_seconds: when to try again; None (default) takes the job's own backoff.
    """

    def __init__(self, reason: str = "retry asked for", *, delay_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.delay_seconds = delay_seconds


class Snooze(Exception):
    """Call me again after ``delay_seconds``. Costs no attempt."""

    def __init__(self, delay_seconds: float) -> None:
        super().__init__(f"snoozed for {delay_seconds} s")
        self.delay_seconds = delay_seconds


class Abort(Exception):
    """Fail at once: another attempt would not help."""


class Parked(BaseException):
    """Unwinds a function that waits for something. Raised by ``JobContext.map``, not by users."""

    def __init__(self, waiting_on: WaitingOn) -> None:
        super().__init__(f"waiting on {waiting_on}")
        self.waiting_on = waiting_on
