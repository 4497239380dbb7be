"""In which order runnable jobs are started: by time, shifted by priority, so that none waits for ever. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

DEFAULT_AGING_SECONDS: Final = 60.0
"""What one step of priority is worth, in seconds of waiting."""

_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


def turn(run_at: datetime, priority: int, aging_seconds: float) -> datetime:
    """Return when it is a job's turn: the job with the earliest one is claimed first.

    It does not change while the job waits, so an index can keep it. A job overtakes those of a lower priority that came
    at most ``aging_seconds`` earlier for each step between them, and no others: whoever waits longer than that has aged
    past it.

    Args:
        run_at: from when on it may run, with a time zone.
        priority: lower is earlier, like nice.
        aging_seconds: what one step of priority is worth, in seconds.
    """
    try:
        return run_at + timedelta(seconds=priority * aging_seconds)
    except OverflowError:  # years before the first or after the last that Python knows
        return _FIRST if priority < 0 else _LAST


def is_delayed(run_at: datetime, now: datetime) -> bool:
    """Tell whether a queued job waits for its time, and so has no turn yet."""
    return run_at > now
