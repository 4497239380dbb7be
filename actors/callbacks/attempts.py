"""What follows from an attempt to call back: done, another try, or the end."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

RETRY_DELAYS_SECONDS: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""Those that the Standard Webhooks specification recommends: ten attempts in about three days."""
LONGEST_DELAY_SECONDS: Final = 86_400.0
JITTER: Final = 0.2
"""A delay is longer by up to this part of it, so that those that failed together do not come back together."""


class CallbackState(StrEnum):
    """Where a callback is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    """Nobody tries any more; it can be replayed."""


class CallbackOutcome(StrEnum):
    """What an attempt has led to; the metric's label."""

    SUCCESS = "success"
    RETRY = "retry"
    FAILED = "failed"
    """The last attempt has failed."""
    BLOCKED = "blocked"
    """The address may not be called; nothing was sent."""
    GONE = "gone"
    """The receiver has said that it wants no more: 410."""


class Attempt(NamedTuple):
    """What an attempt has found."""

    number: int
    """1 for the first."""
    status_code: int | None = None
    """None where no answer came."""
    error: str | None = None
    blocked: bool = False
    retry_after_seconds: float | None = None
    """What the answer asked for."""


class Verdict(NamedTuple):
    """What is recorded."""

    state: CallbackState
    outcome: CallbackOutcome
    delay_seconds: float
    """Until the next attempt, where there is one."""


def judge(attempt: Attempt, draw: float, delays_seconds: tuple[float, ...] = RETRY_DELAYS_SECONDS) -> Verdict:
    """Return what follows.

    Args:
        attempt: what came of it.
        draw: a random number from 0 to 1.
        delays_seconds: after the first attempt, the second, ...; one more attempt than there are delays.
    """
    code = attempt.status_code
    if attempt.blocked:
        return Verdict(CallbackState.DEAD, CallbackOutcome.BLOCKED, 0.0)
    if code is not None and 200 <= code < 300:
        return Verdict(CallbackState.DELIVERED, CallbackOutcome.SUCCESS, 0.0)
    if code == 410:
        return Verdict(CallbackState.DEAD, CallbackOutcome.GONE, 0.0)
    if attempt.number > len(delays_seconds):
        return Verdict(CallbackState.DEAD, CallbackOutcome.FAILED, 0.0)
    asked = min(attempt.retry_after_seconds or 0.0, LONGEST_DELAY_SECONDS)
    delay = max(delays_seconds[attempt.number - 1], asked) * (1 + JITTER * draw)
    return Verdict(CallbackState.PENDING, CallbackOutcome.RETRY, delay)
