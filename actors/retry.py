"""When to try again: tenacity's wait strategies, asked for one delay at a time.

Only the schedules are tenacity's. Its retry loop is not used: a job's next attempt is a row with a ``run_at``, an
actor's next try is a timer.
"""

from __future__ import annotations

from typing import Final, TypeAlias, cast

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_base, wait_random_exponential

LONGEST_DELAY_SECONDS: Final = 100 * 365 * 86_400
"""A hundred years: no job waits longer, and the database's interval arithmetic still works."""

WaitStrategy: TypeAlias = wait_base
"""Any of tenacity's ``wait_*`` objects, or a sum of them."""


def default_wait(initial_seconds: float = 1.0, max_seconds: float = 600.0) -> WaitStrategy:
    """Return exponential backoff with full jitter.

    The n-th delay is drawn evenly from 0 to ``min(max_seconds, initial_seconds * 2 ** (n - 1))``, so that jobs that
    failed together do not come back together (Brooker, "Exponential Backoff And Jitter", 2015).
    """
    return wait_random_exponential(multiplier=initial_seconds, max=max_seconds)


def next_delay_seconds(wait: WaitStrategy, attempt: int, exception: BaseException | None = None) -> float:
    """Draw the delay after attempt number ``attempt`` (from 1), in seconds; from 0 to a hundred years.

    Args:
        wait: the schedule.
        attempt: how many attempts there have been.
        exception: what the last one raised, for strategies that look at it.
    """
    # Strategies read nothing of the retry loop but this state's attempt number and outcome.
    state = RetryCallState(cast(Retrying, None), None, (), {})
    state.attempt_number = attempt
    if exception is not None:
        state.set_exception((type(exception), exception, exception.__traceback__))
    return min(max(0.0, wait(state)), LONGEST_DELAY_SECONDS)
