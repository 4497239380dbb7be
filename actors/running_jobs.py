"""The jobs that this process runs now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol
from uuid import UUID

from .jobs.messages import StopAttempt, StopCause
from .jobs.types import AttemptKey, ClaimedJob
from .slots import Slots


class JobHandle(Protocol):
    """Where messages to a job's actor go."""

    def send(self, message: StopAttempt) -> None:
        """Deliver a message; never raises."""


class RunningJobs:
    """Which job has which actor, and how much room is left.

    Belongs to no actor: a claimer that crashes and restarts finds it as it was. Loop thread only.

    Attributes:
        slots: how many may run, and do.
        closed: whether nobody may claim any more.
        claim: the claim that is under way, or the last one.
        unaccounted: whether the answer of a claim got lost, which may have taken jobs that nobody here knows of.
    """

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.slots = Slots(limits)
        self.closed = False
        self.claim: asyncio.Task[Any] | None = None
        self.unaccounted = False
        self._crashed: set[AttemptKey] = set()
        self._jobs: dict[AttemptKey, JobHandle] = {}
        self._newest: dict[UUID, AttemptKey] = {}
        self._kinds: dict[str, int] = {}
        self._on_free: Callable[[], None] | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._jobs)

    def close(self) -> None:
        """Let nobody claim any more, whichever incarnation of the claimer it is."""
        self.closed = True

    def add(self, claimed: ClaimedJob, handle: JobHandle) -> None:
        """Record a job that starts; takes its slot.

        An older attempt of the same job that still runs here was taken from us, and is told so.
        """
        attempt = AttemptKey(claimed.id, claimed.token)
        older = self._newest.get(claimed.id)
        if older is not None:
            self._jobs[older].send(StopAttempt(StopCause.LOST))
        self._jobs[attempt] = handle
        self._newest[claimed.id] = attempt
        self._kinds[claimed.kind] = self._kinds.get(claimed.kind, 0) + 1
        self.slots.take(claimed.queue)
        self._empty.clear()

    def remove(self, claimed: ClaimedJob) -> None:
        """Record that an attempt's last transition is committed (or not ours any more); frees its slot."""
        attempt = AttemptKey(claimed.id, claimed.token)
        del self._jobs[attempt]
        if self._newest[claimed.id] == attempt:
            del self._newest[claimed.id]
        self._kinds[claimed.kind] -= 1
        self.slots.free(claimed.queue)
        if not self._jobs:
            self._empty.set()
        if self._on_free is not None:
            self._on_free()

    def crashed(self, claimed: ClaimedJob) -> None:
        """Record that an attempt's actor crashed: its lease is left to expire, so that the attempt counts."""
        self._crashed.add(AttemptKey(claimed.id, claimed.token))

    def attempts(self) -> set[AttemptKey]:
        """Return the attempts that run."""
        return set(self._jobs)

    def accounted(self) -> list[AttemptKey]:
        """Return the attempts that this process knows of: those that run, and those whose actors have crashed."""
        return [*self._jobs, *self._crashed]

    def by_kind(self) -> dict[str, int]:
        """Count running jobs by kind; kinds that have run before stay, with 0. Any thread."""
        return dict(self._kinds)

    def on_free(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever a slot gets free, from now on."""
        self._on_free = callback

    def stop_job(self, job_id: UUID, message: StopAttempt) -> bool:
        """Tell a job's actor to stop its attempt; False if the job does not run here."""
        attempt = self._newest.get(job_id)
        if attempt is not None:
            self._jobs[attempt].send(message)
        return attempt is not None

    def stop_attempts(self, attempts: Iterable[AttemptKey], message: StopAttempt) -> None:
        """Tell the actors of these attempts to stop, where exactly these attempts run here."""
        for attempt in attempts:
            handle = self._jobs.get(attempt)
            if handle is not None:
                handle.send(message)

    def stop_all(self, message: StopAttempt) -> None:
        """Tell every job's actor to stop its attempt."""
        for handle in list(self._jobs.values()):
            handle.send(message)

    async def wait_empty(self) -> None:
        """Return when no job runs."""
        await self._empty.wait()
