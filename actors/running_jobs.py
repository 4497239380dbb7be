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

    def is_alive(self) -> bool:
        """Tell whether the actor is there: not any more when the attempt's last transition is on its way."""

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
        self._newest: dict[UUID, tuple[int, JobHandle]] = {}
        self._taken_over: dict[AttemptKey, JobHandle] = {}
        self._kinds: dict[str, int] = {}
        self._on_free: Callable[[], None] | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._newest) + len(self._taken_over)

    def close(self) -> None:
        """Let nobody claim any more, whichever incarnation of the claimer it is."""
        self.closed = True

    def add(self, claimed: ClaimedJob, handle: JobHandle) -> None:
        """Record a job that starts; takes its slot.

        An older attempt of the same job that still runs here was taken from us, and is told so.
        """
        attempt = claimed.token, handle
        newest = self._newest.setdefault(claimed.id, attempt)
        if newest is not attempt:
            token, older = newest
            _tell(older, StopAttempt(StopCause.LOST))
            self._taken_over[AttemptKey(claimed.id, token)] = older
            self._newest[claimed.id] = attempt
        self._kinds[claimed.kind] = self._kinds.get(claimed.kind, 0) + 1
        self.slots.take(claimed.queue)
        self._empty.clear()

    def remove(self, claimed: ClaimedJob) -> None:
        """Record that an attempt's last transition is committed (or not ours any more); frees its slot."""
        # Either may end first: the newer one has not to wait until the older one has noticed that it is lost.
        if not self._taken_over or self._taken_over.pop(AttemptKey(claimed.id, claimed.token), None) is None:
            del self._newest[claimed.id]
        self._kinds[claimed.kind] -= 1
        self.slots.free(claimed.queue)
        if not self._newest and not self._taken_over:
            self._empty.set()
        if self._on_free is not None:
            self._on_free()

    def crashed(self, claimed: ClaimedJob) -> None:
        """Record that an attempt's actor crashed: its lease is left to expire, so that the attempt counts."""
        self._crashed.add(AttemptKey(claimed.id, claimed.token))

    def attempts(self) -> set[AttemptKey]:
        """Return the attempts that run."""
        newest = {AttemptKey(job_id, token) for job_id, (token, _) in self._newest.items()}
        return newest.union(self._taken_over)

    def accounted(self) -> list[AttemptKey]:
        """Return the attempts that this process knows of: those that run, and those whose actors have crashed."""
        return [*self.attempts(), *self._crashed]

    def by_kind(self) -> dict[str, int]:
        """Count running jobs by kind; kinds that have run before stay, with 0. Any thread."""
        return dict(self._kinds)

    def on_free(self, callback: Callable[[], None] | None) -> None:
        """Call ``callback``, or nobody, whenever a slot gets free, from now on."""
        self._on_free = callback

    def stop_job(self, job_id: UUID, message: StopAttempt) -> bool:
        """Tell a job's actor to stop its attempt; False if the job does not run here."""
        newest = self._newest.get(job_id)
        if newest is not None:
            _tell(newest[1], message)
        return newest is not None

    def stop_attempts(self, attempts: Iterable[AttemptKey], message: StopAttempt) -> None:
        """Tell the actors of these attempts to stop, where exactly these attempts run here."""
        for attempt in attempts:
            newest = self._newest.get(attempt.job_id)
            if newest is not None and newest[0] == attempt.token:
                _tell(newest[1], message)
            elif attempt in self._taken_over:
                _tell(self._taken_over[attempt], message)

    def stop_all(self, message: StopAttempt) -> None:
        """Tell every job's actor to stop its attempt."""
        for handle in [*(handle for _, handle in self._newest.values()), *self._taken_over.values()]:
            _tell(handle, message)

    async def wait_empty(self) -> None:
        """Return when no job runs."""
        await self._empty.wait()


def _tell(handle: JobHandle, message: StopAttempt) -> None:
    """Send a message, unless it comes too late: the database then decides who was first."""
    if handle.is_alive():
        handle.send(message)
