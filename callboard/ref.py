"""A handle on one job: wait for it, watch it, cancel it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar
from uuid import UUID

from callboard.actors.errors import JobNotFound
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.ended import Ended
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import HistoryRow, JobRecord
from callboard.actors.pulse import Pulse

R = TypeVar("R", covariant=True)


@dataclass(frozen=True, slots=True)
class TransitionEvent:
    """The job's status changed."""

    row: HistoryRow


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """The job reported progress."""

    progress: dict[str, Any]


JobEvent: TypeAlias = TransitionEvent | ProgressEvent


class JobDesk(Protocol):
    """What a reference needs of its runtime."""

    @property
    def store(self) -> JobStore:
        """Where jobs are."""

    @property
    def pulse(self) -> Pulse:
        """Beats when some job may have changed."""

    @property
    def poll_interval_seconds(self) -> float:
        """How often to look without being woken."""

    async def wait_ended(self, job_id: UUID) -> Ended:
        """Return when the job has ended."""

    async def cancel(self, job_ids: Sequence[UUID]) -> int:
        """Cancel jobs; returns how many this call ended."""

    async def release(self, job_ids: Sequence[UUID]) -> int:
        """Queue held jobs; returns how many this call queued."""


class JobRef(Generic[R]):
    """One job, wherever it runs. Holds no resources; equal to every other reference to the same job.

    Attributes:
        id: the job's id, a UUIDv7.
        kind: its kind.
        created: False where ``spawn`` found an unfinished job with the same ``unique_key`` and returned that one.
    """

    def __init__(
        self,
        desk: JobDesk,
        job_id: UUID,
        kind: str,
        *,
        decode_result: Callable[[str | None], Any] | None = None,
        created: bool = True,
    ) -> None:
        self._desk = desk
        self._decode_result = decode_result or _decode_plain
        self.id = job_id
        self.kind = kind
        self.created = created

    def __repr__(self) -> str:
        return f"<JobRef {self.kind} {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobRef) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    async def result(self, timeout: float | None = None) -> R:
        """Wait for the job's end and return what its function returned.

        Args:
            timeout: seconds to wait; None (default) waits as long as it takes. The job goes on after a timeout.

        Raises:
            JobFailed: it failed; carries the stored error.
            JobCancelled: it was cancelled.
            TimeoutError: it has not ended yet.
            JobNotFound: it does not exist (any more).
            ResultExpired: it completed, and its ``result_ttl_seconds`` are over.
        """
        async with asyncio.timeout(timeout):
            ended = await self._desk.wait_ended(self.id)
        failure = ended.failure()
        if failure is not None:
            raise failure
        result: R = self._decode_result(ended.result)
        return result

    async def record(self) -> JobRecord:
        """Read everything that is stored about the job.

        Raises:
            JobNotFound: it does not exist (any more).
        """
        record = await self._desk.store.get(self.id)
        if record is None:
            raise JobNotFound(self.id)
        return record

    async def status(self) -> Status:
        """Read the job's status. Raises ``JobNotFound``."""
        return (await self.record()).status

    async def history(self) -> list[HistoryRow]:
        """Read the job's transitions, oldest first."""
        return await self._desk.store.history(self.id)

    async def cancel(self) -> bool:
        """Cancel the job, whatever it is doing; on return that is final in the database.

        Running code is told to end; whatever it still writes is refused.

        Returns:
            True if this call cancelled it; False if it had ended already.

        Raises:
            JobNotFound: it does not exist (any more).
        """
        if await self._desk.cancel((self.id,)):
            return True
        await self.record()
        return False

    async def release(self) -> bool:
        """Queue a held job; False if it was not held (any more). Raises ``JobNotFound``."""
        if await self._desk.release((self.id,)):
            return True
        await self.record()
        return False

    async def events(self) -> AsyncGenerator[JobEvent, None]:
        """Yield the job's transitions from the first on, and its progress reports; ends when the job has ended.

        Every transition comes, in order; of progress reports that follow each other quickly, the newest.

        Raises:
            JobNotFound: it does not exist (any more).
        """
        seen, progress = 0, None
        while True:
            record = await self.record()
            for row in await self._desk.store.history(self.id, after=seen):
                seen = row.sequence
                yield TransitionEvent(row)
            if record.progress is not None and record.progress != progress:
                progress = record.progress
                yield ProgressEvent(progress)
            if record.status.is_terminal:
                return
            await self._desk.pulse.wait(self._desk.poll_interval_seconds)


def _decode_plain(text: str | None) -> Any:
    return None if text is None else json.loads(text)
