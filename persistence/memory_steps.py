"""Steps of jobs in this process's memory: the same contract, not durable."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from callboard.actors.jobs.types import AttemptKey, JobRecord

from .families import require_running_attempt


class MemorySteps:
    """Implements ``StepStore``.

    Args:
        job: finds a job.
    """

    def __init__(self, job: Callable[[UUID], JobRecord | None]) -> None:
        self._job = job
        self._values: dict[UUID, dict[str, str]] = {}

    async def read(self, job_id: UUID, key: str) -> str | None:
        """Return what a step of a job gave."""
        return self._values.get(job_id, {}).get(key)

    async def record(self, attempt: AttemptKey, key: str, value: str) -> str:
        """Keep what a step gave; return what is kept, which is what came first."""
        found = self._job(attempt.job_id)
        status, token = (None, None) if found is None else (found.status, found.token)
        require_running_attempt(attempt, status, token, may="record no step")
        return self._values.setdefault(attempt.job_id, {}).setdefault(key, value)

    def forget(self, job_id: UUID) -> None:
        """A job was deleted."""
        self._values.pop(job_id, None)
