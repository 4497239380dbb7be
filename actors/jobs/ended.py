"""How a job ended, and what that means to whoever waits for it."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from callboard.actors.errors import JobCancelled, JobEnded, JobFailed, ResultExpired

from .state import Status
from .types import JobRecord


class Ended(NamedTuple):
    """How a job ended."""

    id: UUID
    kind: str
    status: Status
    result: str | None
    """JSON text."""
    stop_reason: str
    error: dict[str, Any] | None
    expired_after_seconds: float | None = None
    """How long the result was kept, where it is gone."""

    def failure(self) -> JobEnded | ResultExpired | None:
        """Return the exception for a job that has no result; None for one that completed."""
        if self.status is Status.COMPLETED:
            expired = self.expired_after_seconds
            return None if expired is None else ResultExpired(self.id, expired)
        raised = JobCancelled if self.status is Status.CANCELLED else JobFailed
        return raised(self.id, self.kind, stop_reason=self.stop_reason, error=self.error)


def ended_from(record: JobRecord) -> Ended:
    """Return how a stored job ended."""
    expired = record.result_ttl_seconds if record.result_expired else None
    return Ended(record.id, record.kind, record.status, record.result, record.stop_reason or "", record.error, expired)
