"""How long what has ended is kept. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID


class Retention(NamedTuple):
    """How long each thing is kept; None is for ever."""

    completed_seconds: float | None = None
    """Completed jobs, from their end."""
    failed_seconds: float | None = None
    """Failed and cancelled jobs, from their end."""
    history_seconds: float | None = None
    """Transitions. They go by weeks, so up to a week later."""
    batches_seconds: float | None = None
    """Ended LLM batches with their results, from their end. Those in which an unfinished job has asked stay."""

    @property
    def shortest_seconds(self) -> float | None:
        """The shortest time for which a job is kept; None where every job is kept."""
        return min((seconds for seconds in self[:2] if seconds is not None), default=None)


class Pruned(NamedTuple):
    """What was deleted."""

    jobs: int = 0
    results: int = 0
    partitions: int = 0
    batches: int = 0


class Partition(NamedTuple):
    """A stretch of the history."""

    name: str
    ends_at: datetime


def droppable(partitions: Iterable[Partition], cutoff: datetime, oldest_unfinished: datetime | None) -> list[str]:
    """Return the partitions that nobody needs any more, oldest first.

    Args:
        partitions: those that there are.
        cutoff: what happened before need not be kept.
        oldest_unfinished: when the oldest job was spawned that has not ended; its history is kept as a whole.
    """
    until = cutoff if oldest_unfinished is None else min(cutoff, oldest_unfinished)
    return [
        partition.name for partition in sorted(partitions, key=lambda one: one.ends_at) if partition.ends_at <= until
    ]


def newest_id_before(moment: datetime) -> UUID:
    """Return the id above those of all jobs that were spawned before a moment: ids begin with their time (UUIDv7)."""
    milliseconds = max(0, (moment - datetime(1970, 1, 1, tzinfo=moment.tzinfo)) // timedelta(milliseconds=1))
    return UUID(int=milliseconds << 80)


def result_expired(finished_at: datetime | None, result_ttl_seconds: float | None, now: datetime) -> bool:
    """Tell whether a result need not be kept any longer."""
    if finished_at is None or result_ttl_seconds is None:
        return False
    return finished_at + timedelta(seconds=result_ttl_seconds) <= now
