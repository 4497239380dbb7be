"""When a job's process is used no longer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

ProcessEnd = Literal["crashed", "memory_limit", "not_ready", "recycled", "stopped"]
"""Why a process ended: by itself; by a job's memory limit; it took too long to begin; it was worn out; an attempt that
had to stop did not."""


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """The settings of a pool of processes.

    Attributes:
        max_jobs: a process that has run so many is replaced.
        max_memory_bytes: one that occupies more after a job is replaced.
        start_timeout_seconds: a process must have started, and have imported a job's module, within this time.
    """

    max_jobs: int = 1000
    max_memory_bytes: int = 2**30
    start_timeout_seconds: float = 60.0


ROOM: Final = 0.5
"""Of a job's memory limit, so much must be free when it begins in a process that others have used."""


def is_worn_out(jobs_run: int, memory_bytes: int, limits: ProcessLimits) -> bool:
    """Tell whether a process has run its last job."""
    return jobs_run >= limits.max_jobs or memory_bytes > limits.max_memory_bytes


def has_room(jobs_run: int, memory_bytes: int, memory_limit_bytes: int) -> bool:
    """Tell whether a process may run a job with this memory limit, in spite of what earlier jobs have left in it."""
    return jobs_run == 0 or memory_bytes <= memory_limit_bytes * (1 - ROOM)
