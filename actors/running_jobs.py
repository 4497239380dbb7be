"""The jobs that this process runs now."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias
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
        self._newest: dict[UUID, _Running] = {}
        self._taken_over: dict[AttemptKey, _Running] = {}
        self._kinds: set[str] = set()
        self._on_free: Callable[[], None] | None = None
        self._emptied: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._newest) + len(self._taken_over)

    def close(self) -> None:
        """Let nobody claim any more, whichever incarnation of the claimer it is."""
        self.closed = True

    def add(self, claimed: ClaimedJob, handle: JobHandle, since: float) -> None:
        """Record a job that starts; takes its slot.

        An older attempt of the same job that still runs here was taken from us, and is told so.

        Args:
            claimed: the attempt.
            handle: of its actor.
            since: when it was claimed, on the monotonic clock.
        """
        running = claimed, handle, since
        newest = self._newest.setdefault(claimed.id, running)
        if newest is not running:
            older, its_handle, _ = newest
            _tell(its_handle, StopAttempt(StopCause.LOST))
            self._taken_over[AttemptKey(older.id, older.token)] = newest
            self._newest[claimed.id] = running
        self.slots.take(claimed.queue)

    def remove(self, ended: Sequence[ClaimedJob]) -> None:
        """Record that attempts' last transitions are committed (or not ours any more); frees their slots."""
        newest, taken_over = self._newest, self._taken_over
        for claimed in ended:
            # Either may end first: the newer one has not to wait until the older one has noticed that it is lost.
            if not taken_over or taken_over.pop(AttemptKey(claimed.id, claimed.token), None) is None:
                del newest[claimed.id]
        self._kinds.update([claimed.kind for claimed in ended])
        for queue, count in Counter([claimed.queue for claimed in ended]).items():
            self.slots.free(queue, count)
        if self._emptied is not None and not len(self):
            self._emptied.set()
        if ended and self._on_free is not None:
            self._on_free()

    def crashed(self, claimed: ClaimedJob) -> None:
        """Record that an attempt's actor crashed: its lease is left to expire, so that the attempt counts."""
        self._crashed.add(AttemptKey(claimed.id, claimed.token))

    def attempts(self, *, begun_by: float = math.inf) -> set[AttemptKey]:
        """Return the attempts that run, or those claimed by this moment of the monotonic clock. Any thread."""
        # A copy of a dictionary is made in one piece; this thread is not the only one.
        running = [*self._newest.copy().values(), *self._taken_over.copy().values()]
        return {AttemptKey(claimed.id, claimed.token) for claimed, _, since in running if since <= begun_by}

    def accounted(self) -> list[AttemptKey]:
        """Return the attempts that this process knows of: those that run, and those whose actors have crashed."""
        return [*self.attempts(), *self._crashed]

    def by_kind(self) -> dict[str, int]:
        """Count running jobs by kind; kinds of which one has ended stay, with 0. Any thread."""
        running = [*self._newest.copy().values(), *self._taken_over.copy().values()]
        return dict.fromkeys(self._kinds.copy(), 0) | Counter(claimed.kind for claimed, _, _ in running)

    def on_free(self, callback: Callable[[], None] | None) -> None:
        """Call ``callback``, or nobody, whenever slots get free, from now on."""
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
            if newest is not None and newest[0].token == attempt.token:
                _tell(newest[1], message)
            elif attempt in self._taken_over:
                _tell(self._taken_over[attempt][1], message)

    def stop_all(self, message: StopAttempt) -> None:
        """Tell every job's actor to stop its attempt."""
        for _, handle, _ in [*self._newest.values(), *self._taken_over.values()]:
            _tell(handle, message)

    async def wait_empty(self) -> None:
        """Return when no job runs."""
        while len(self):
            self._emptied = self._emptied or asyncio.Event()
            await self._emptied.wait()
            self._emptied = None


_Running: TypeAlias = tuple[ClaimedJob, JobHandle, float]


def _tell(handle: JobHandle, message: StopAttempt) -> None:
    """Send a message, unless it comes too late: the database then decides who was first."""
    if handle.is_alive():
        handle.send(message)
