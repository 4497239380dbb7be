"""Who waits for which job's end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from .jobs.state import Reason, Status
from .jobs.types import JobRecord


class Ended(NamedTuple):
    """How a job ended."""

    id: UUID
    kind: str
    status: Status
    result: str | None
    """JSON text."""
    stop_reason: Reason | str
    error: dict[str, Any] | None


class Waiters:
    """Futures of jobs' ends. They are resolved by this process's own job actors and by the ``ResultWatcher``.

    Belongs to no actor, so that nobody waits in vain after a restart of the watcher. Loop thread only.
    """

    def __init__(self) -> None:
        self._futures: dict[UUID, set[asyncio.Future[Ended]]] = {}

    def __len__(self) -> int:
        return len(self._futures)

    def job_ids(self) -> list[UUID]:
        """Return the jobs that somebody waits for."""
        return list(self._futures)

    async def wait(self, job_id: UUID) -> Ended:
        """Return when the job has ended. Cancelling this wait leaves the job alone."""
        future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(job_id, set()).add(future)
        try:
            return await future
        finally:
            futures = self._futures.get(job_id)
            if futures is not None:
                futures.discard(future)
                if not futures:
                    del self._futures[job_id]

    def ended(self, ended: Ended) -> None:
        """Tell everybody who waits for this job."""
        for future in self._futures.pop(ended.id, ()):
            if not future.done():
                future.set_result(ended)

    def found(self, records: Sequence[JobRecord]) -> None:
        """Tell everybody who waits for those of these jobs that have ended."""
        for record in records:
            if record.status.is_terminal:
                self.ended(ended_from(record))

    def fail(self, exception: Exception) -> None:
        """Make every wait raise: the runtime stops."""
        futures, self._futures = self._futures, {}
        for waiting in futures.values():
            for future in waiting:
                if not future.done():
                    future.set_exception(exception)


def ended_from(record: JobRecord) -> Ended:
    """Return how a stored job ended."""
    return Ended(record.id, record.kind, record.status, record.result, record.stop_reason or "", record.error)
