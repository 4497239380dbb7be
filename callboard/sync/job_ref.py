"""References to jobs, for code without an event loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from callboard import ref as asynchronous
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import HistoryRow, JobRecord

from .loop_thread import LoopThread

R = TypeVar("R")


class JobRef(Generic[R]):
    """``callboard.JobRef`` for code without an event loop. See there.

    Attributes:
        id: the job's id.
        kind: its kind.
        created: False where ``spawn`` found an unfinished job with the same ``unique_key``.
    """

    def __init__(self, thread: LoopThread, ref: asynchronous.JobRef[R]) -> None:
        self._thread = thread
        self._ref = ref
        self.id = ref.id
        self.kind = ref.kind
        self.created = ref.created

    def __repr__(self) -> str:
        return repr(self._ref)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobRef) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def result(self, timeout: float | None = None) -> R:
        """Wait for the job's end and return what its function returned. See ``callboard.JobRef.result``."""
        return self._thread.wait_for(self._ref.result(timeout))

    def record(self) -> JobRecord:
        """Read everything that is stored about the job."""
        return self._thread.wait_for(self._ref.record())

    def status(self) -> Status:
        """Read the job's status."""
        return self._thread.wait_for(self._ref.status())

    def history(self) -> list[HistoryRow]:
        """Read the job's transitions, oldest first."""
        return self._thread.wait_for(self._ref.history())

    def cancel(self) -> bool:
        """Cancel the job; final in the database on return. See ``callboard.JobRef.cancel``."""
        return self._thread.wait_for(self._ref.cancel())

    def release(self) -> bool:
        """Queue a held job; False if it was not held."""
        return self._thread.wait_for(self._ref.release())

    def events(self) -> Iterator[asynchronous.JobEvent]:
        """Yield the job's transitions and progress until it has ended. See ``callboard.JobRef.events``."""
        return self._thread.each(self._ref.events())
