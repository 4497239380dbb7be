"""Unique jobs: whose key keeps a new job out, and what becomes of the two. Pure."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final

from .options import SpawnOptions
from .state import UNFINISHED, Status
from .types import OnConflict

WAITING: Final = frozenset({Status.CREATED, Status.PENDING})
"""Statuses in which a job can still be changed: no attempt has it."""


class Resolution(StrEnum):
    """What a spawn does about the job that holds its key."""

    KEEP = "keep"
    REFUSE = "refuse"
    REPLACE = "replace"
    RESCHEDULE = "reschedule"


def spanned_statuses(options: SpawnOptions) -> tuple[Status, ...] | None:
    """Return the statuses in which a job holds its key; None where the unique index alone decides (the usual case)."""
    if options.unique_statuses is not None:
        statuses = frozenset(options.unique_statuses)
    elif options.unique_seconds is not None:
        statuses = UNFINISHED | {Status.COMPLETED}
    elif options.on_conflict is not OnConflict.RETURN:
        statuses = UNFINISHED
    else:
        return None
    return tuple(status for status in Status if status in statuses)


def holds_key(
    status: Status, created_at: datetime, now: datetime, statuses: tuple[Status, ...], seconds: float | None
) -> bool:
    """Tell whether a job with the same kind and key keeps a new one out."""
    return status in statuses and (seconds is None or (now - created_at).total_seconds() < seconds)


def resolve(status: Status, token: int, on_conflict: OnConflict) -> Resolution:
    """Tell what to do with the job that holds the key.

    Args:
        status: its status.
        token: of its latest attempt, 0 before the first. A job that has begun is not changed any more, whether it waits
            for its retry or is parked: what it has done and asked stands beside it, and was for the old arguments.
        on_conflict: what the new job asks for.
    """
    if on_conflict is OnConflict.RAISE:
        return Resolution.REFUSE
    if status not in WAITING or token > 0 or on_conflict is OnConflict.RETURN:
        return Resolution.KEEP
    return Resolution.REPLACE if on_conflict is OnConflict.REPLACE else Resolution.RESCHEDULE
