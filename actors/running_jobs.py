"""The jobs that this process runs now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from .jobs.types import AttemptKey, ClaimedJob
from .slots import Slots

if TYPE_CHECKING:
    from .jobs.messages import StopAttempt


class JobHandle(Protocol):
    """Where messages to a job's actor go."""

    def send(self, message: StopAttempt) -> None:
        """Deliver a message; never raises."""


class RunningJobs:
    """Which job has which actor, and how much room is left.

    Belongs to no actor: a claimer that crashes and restarts finds it as it was. Loop thread only.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.slots = Slots(limits)
        self._jobs: dict[UUID, tuple[int, JobHandle]] = {}
        self._kinds: dict[str, int] = {}
        self._on_free: Callable[[], None] | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, claimed: ClaimedJob, handle: JobHandle) -> None:
        """Record a job that starts; takes its slot."""
        self._jobs[claimed.id] = (claimed.token, handle)
        self._kinds[claimed.kind] = self._kinds.get(claimed.kind, 0) + 1
        self.slots.take(claimed.queue)
        self._empty.clear()

    def remove(self, claimed: ClaimedJob) -> None:
        """Record that a job's last transition is committed (or not ours any more); frees its slot.

        A job that was taken from us and claimed again here has a newer attempt under its id: that one stays.
        """
        known = self._jobs.get(claimed.id)
        if known is not None and known[0] == claimed.token:
            del self._jobs[claimed.id]
        self._kinds[claimed.kind] -= 1
        self.slots.free(claimed.queue)
        if not self._jobs:
            self._empty.set()
        if self._on_free is not None:
            self._on_free()

    def by_kind(self) -> dict[str, int]:
        """Count running jobs by kind; kinds that have run before stay, with 0. Any thread."""
        return dict(self._kinds)

    def on_free(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever a slot gets free, from now on."""
        self._on_free = callback

    def stop_job(self, job_id: UUID, message: StopAttempt) -> bool:
        """Tell a job's actor to stop its attempt; False if the job does not run here."""
        known = self._jobs.get(job_id)
        if known is not None:
            known[1].send(message)
        return known is not None

    def stop_attempts(self, attempts: Iterable[AttemptKey], message: StopAttempt) -> None:
        """Tell the actors of these attempts to stop, where exactly these attempts run here."""
        for job_id, token in attempts:
            known = self._jobs.get(job_id)
            if known is not None and known[0] == token:
                known[1].send(message)

    def stop_all(self, message: StopAttempt) -> None:
        """Tell every job's actor to stop its attempt."""
        for _, handle in list(self._jobs.values()):
            handle.send(message)

    async def wait_empty(self) -> None:
        """Return when no job runs."""
        await self._empty.wait()
