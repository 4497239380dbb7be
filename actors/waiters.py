"""Who waits for which job's end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from .errors import JobNotFound
from .jobs.ended import Ended, ended_from
from .jobs.types import JobRecord


class Waiters:
    """Futures of jobs' ends. They are resolved by this process's own job actors and by the ``ResultWatcher``.

    Belongs to no actor, so that nobody waits in vain after a restart of the watcher. Loop thread only.
    """

    def __init__(self) -> None:
        self._futures: dict[UUID, set[asyncio.Future[Ended]]] = {}

    def __len__(self) -> int:
        return len(self._futures)

    def __contains__(self, job_id: UUID) -> bool:
        return bool(self._futures) and job_id in self._futures

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

    def looked_up(self, job_ids: Sequence[UUID], records: Sequence[JobRecord]) -> None:
        """Take the store's answer about some jobs: ended ones are told, missing ones raise ``JobNotFound``."""
        for record in records:
            if record.status.is_terminal:
                self.ended(ended_from(record))
        for missing in set(job_ids).difference(record.id for record in records):
            self._fail(self._futures.pop(missing, set()), JobNotFound(missing))

    def fail(self, exception: Exception) -> None:
        """Make every wait raise: the runtime stops."""
        futures, self._futures = self._futures, {}
        for waiting in futures.values():
            self._fail(waiting, exception)

    def _fail(self, waiting: set[asyncio.Future[Ended]], exception: Exception) -> None:
        for future in waiting:
            if not future.done():
                future.set_exception(exception)
