"""What the kernel asks of the world outside: stores, wake-ups, measurements.

Implemented in ``persistence`` and ``supervision``; joined in ``callboard/runtime.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol, TypeAlias
from uuid import UUID

from .callbacks.attempts import Attempt, CallbackState, Verdict
from .callbacks.types import CallbackRecord, DueCallback
from .jobs.controls import Controls
from .jobs.limits import Limit, LimitScope
from .jobs.retention import Pruned
from .jobs.state import Reason, Status
from .jobs.types import (
    AttemptKey,
    ClaimedJob,
)
from .leadership import Deposition, LeaderRecord, Standing
from .schedules.types import Fired, NewSchedule, ScheduleRecord, Synchronised


class ControlStore(Protocol):
    """What operators set on queues and limits. Every change holds from its commit on, for every node.

    Raises ``StoreUnavailable`` as a ``JobStore`` does; repeating is safe.
    """

    async def read(self) -> Controls:
        """Return what holds now."""

    async def set_limit(self, limit: Limit, *, actor: str) -> None:
        """Set a limit in the place of the one that its scope and name had.

        What runs counts, and goes on, even where it is more than the limit. Claims under way may still end as if there
        were no limit.
        """

    async def clear_limit(self, scope: LimitScope, name: str) -> bool:
        """Remove a limit; False if there was none."""

    async def set_queue(
        self, name: str, *, paused: bool | None = None, draining: bool | None = None, actor: str
    ) -> None:
        """Say whether jobs of a queue may be claimed, and whether it takes new ones; None leaves that as it is."""

    def invalidate(self) -> None:
        """Something may have changed: read again before the next use."""


class ScheduleStore(Protocol):
    """What is spawned again and again. Times are the database's.

    Raises ``StoreUnavailable`` as a ``JobStore`` does.
    """

    async def read(self) -> list[ScheduleRecord]:
        """Return all of them, by name."""

    async def put(self, schedule: NewSchedule, *, actor: str, replace: bool = False) -> None:
        """Store a schedule. One that it replaces keeps its moments, where they are the same, and stays paused.

        Raises:
            ConfigurationError: its name is taken, and ``replace`` is False. Nothing was written.
        """

    async def synchronise(self, declared: Sequence[NewSchedule], kinds: Collection[str], *, actor: str) -> Synchronised:
        """Make the schedules from code what this code says, in one transaction; see ``schedules.synchronising``.

        Args:
            declared: those in the worker's code.
            kinds: every kind of job that the worker knows: only their schedules may be deleted.
            actor: who does it.
        """

    async def set_paused(self, name: str, *, paused: bool, actor: str) -> bool:
        """Pause a schedule, or let a paused one go on with its first tick from now; False if there is none."""

    async def delete(self, name: str) -> bool:
        """Delete a schedule; False if there was none."""

    async def fire(self, *, actor: str, limit: int, term: int | None = None) -> list[Fired]:
        """Spawn the jobs of schedules whose time has come, and move those on: each in one transaction.

        A schedule that another node holds is left to it; for one schedule and tick there is one job, whoever asks, and
        however often. What fails (a full queue) is told in the answer, and tried again by the next call.

        Args:
            actor: who spawns, for the history.
            limit: most schedules of one call.
            term: the leader's; None (default) where nobody's leadership matters.

        Raises:
            StaleTerm: the term is over. The schedules before are done.
        """


class StepStore(Protocol):
    """What jobs did once and must not do again: results by job and key, deleted with their job.

    Raises ``StoreUnavailable`` as a ``JobStore`` does.
    """

    async def read(self, job_id: UUID, key: str) -> str | None:
        """Return what a step of a job gave, as JSON text; None where none is kept."""

    async def record(self, attempt: AttemptKey, key: str, value: str) -> str:
        """Keep what a step gave, and return what is kept: the first result stands.

        Args:
            attempt: whose step it was.
            key: names it within its job.
            value: a JSON text.

        Raises:
            StaleAttempt: the attempt runs no longer: cancelled, or taken over. Nothing was written.
        """


class CallbackStore(Protocol):
    """Whom to tell of ended jobs. A job's end, whatever path leads to it, makes its callback in the same transaction.

    Raises ``StoreUnavailable`` as a ``JobStore`` does.
    """

    async def claim(self, limit: int, *, lease_seconds: float) -> list[DueCallback]:
        """Take callbacks whose time has come, skipping those that others hold; each attempt has a token of its own.

        Args:
            limit: how many at most.
            lease_seconds: after so long without a ``record`` somebody else may take them.
        """

    async def record(self, callback: DueCallback, attempt: Attempt, verdict: Verdict) -> bool:
        """Write down what came of an attempt; False, and nothing is written, if another one has begun meanwhile."""

    async def put_off(self, callbacks: Sequence[tuple[DueCallback, float]]) -> None:
        """Give back callbacks that were claimed and not attempted, each for so many seconds; no attempt is counted.

        One that somebody else has claimed meanwhile is left alone.
        """

    async def read(self, state: CallbackState | None, *, limit: int) -> list[CallbackRecord]:
        """Return callbacks in a state, or in any, those of the newest jobs first."""

    async def replay(self, job_ids: Sequence[UUID]) -> list[UUID]:
        """Begin anew with those that are delivered or dead, and wake the nodes; returns which."""


class WakeUps(Protocol):
    """Hints from the database that something happened. Hints may be lost: everything works without them, later."""

    async def run(self, on_hint: Callable[[str, str], None]) -> None:
        """Listen until cancelled, calling ``on_hint(topic, detail)`` on the loop.

        Topics: ``listening`` (at the beginning: what came before may have been missed), ``runnable`` (detail: queue),
        ``ended`` (detail: empty, or a job id), ``cancelled`` (detail: job id), ``freed`` (a job that counted under a
        limit has ended), ``controls`` (somebody has paused a queue, set a limit, ...),
        ``callback`` (a job that has a callback has ended).

        Raises:
            StoreUnavailable: the connection was lost, or does not carry notifications. The caller runs it again.
        """


class AttemptKeeper(Protocol):
    """Keeps the leases of running attempts alive from a thread of its own, which a busy event loop cannot starve."""

    def keep(self, begun_by: Callable[[float], AbstractSet[AttemptKey]]) -> None:
        """Keep the attempts that run. Before ``start``.

        Args:
            begun_by: returns those that were claimed by a moment of the monotonic clock. Called from the thread.
        """

    def start(self, on_lost: Callable[[Sequence[AttemptKey]], None]) -> None:
        """Start the thread. ``on_lost`` is called from it with attempts that are no longer ours."""

    def beat(self) -> None:
        """Show that the event loop lives; without it for the hang limit, renewing stops."""

    def stop(self) -> None:
        """End the thread; returns when it has ended."""


class LeaderSession(Protocol):
    """One candidate's session: the lock is its own, and ends with it.

    Every method raises ``StoreUnavailable`` when the session has ended, or does not answer in time; it is of no use
    then, but to be closed.
    """

    async def campaign(self, node: str, *, silence_limit_seconds: float) -> Standing:
        """Wait for the lock for a while, about a second, and with it begin a new term; else tell who leads.

        Args:
            node: who would lead.
            silence_limit_seconds: after so long without a sign of life from it, others may depose it.
        """

    async def prove(self, term: int) -> bool:
        """Prove that the lock and the term are still this session's, and leave a sign of life.

        Returns whether somebody has asked the leader to step down.

        Raises:
            StaleTerm: they are not.
            ConfigurationError: the session is not one session: a pooler is in between.
        """

    async def watch(self, seconds: float) -> None:
        """Return after this time; raise ``StoreUnavailable`` as soon as the session ends."""

    async def depose(self, term: int) -> Deposition:
        """End the session of the leader of this term, if it has been silent for too long."""

    async def resign(self, term: int) -> None:
        """Give the lock back: another one leads now, if somebody waits."""

    async def close(self) -> None:
        """End the session. Twice is fine."""


class LeaderLock(Protocol):
    """Sees to it that one process leads."""

    async def open(self, *, answer_limit_seconds: float) -> LeaderSession:
        """Open a session.

        Args:
            answer_limit_seconds: how long it waits for an answer.

        Raises:
            StoreUnavailable: the database cannot be reached.
            ConfigurationError: the connection leads through a pooler that gives every statement another session.
        """

    async def read(self) -> LeaderRecord:
        """Return who leads."""

    async def ask_to_step_down(self) -> int | None:
        """Ask the leader to hand over, at its next sign of life; returns its term, or None where nobody leads."""


AttemptEnd: TypeAlias = tuple[str, str, Status, Reason]
"""How an attempt ended: its job's kind and queue, the status and the reason of its last transition."""


class Telemetry(Protocol):
    """Measurements of jobs, by fixed and bounded names. Called on the loop, in batches where it is hot."""

    def jobs_created(self, kind: str, queue: str, count: int) -> None:
        """Jobs were inserted by this process."""

    def jobs_claimed(self, jobs: Sequence[ClaimedJob]) -> None:
        """Jobs were claimed (counts, and their waits)."""

    def attempts_ended(self, ended: Sequence[tuple[AttemptEnd, float]]) -> None:
        """Attempts' last transitions were committed; each with the seconds that the attempt took."""

    def transition_refused(self, from_status: str, to_status: str, cause: str) -> None:
        """A transition lost: ``cause`` is that of ``Refused``: missing, invalid or stale."""

    def quota_checked(self, quota: str, allowed: bool) -> None:
        """A spawn was held against a bound on what waits: ``quota`` is ``queue_queued`` or ``owner_queued``."""

    def rate_limited(self, limiter: str) -> None:
        """A claim left jobs for later as a rate's bucket ran empty; ``limiter`` is a ``LimitScope``: what it is of."""

    def jobs_pruned(self, pruned: Pruned) -> None:
        """Retention has deleted something."""

    def job_rescued(self, reason: Reason) -> None:
        """A job was taken back from a dead worker, or ended by its deadline."""

    def lease_failed(self, reason: str) -> None:
        """A renewal failed (``error``) or found the lease lost (``lost``)."""

    def callback_attempted(self, outcome: str, seconds: float) -> None:
        """An attempt to call back has ended: ``outcome`` is a ``CallbackOutcome``."""

    def callbacks_put_off(self, count: int) -> None:
        """Callbacks are due later, because their hosts do not answer."""

    def callback_hosts_silent(self, count: int) -> None:
        """So many hosts are left alone now, by this process."""

    def job_process_ended(self, reason: str) -> None:
        """A child process for jobs ended: ``reason`` is a ``ProcessEnd``. Any thread."""

    def statement(self, operation: str, seconds: float) -> None:
        """One of the store's own statements took so long."""


class NoTelemetry:
    """Measures nothing."""

    def jobs_created(self, kind: str, queue: str, count: int) -> None:
        """Ignore."""

    def jobs_claimed(self, jobs: Sequence[ClaimedJob]) -> None:
        """Ignore."""

    def attempts_ended(self, ended: Sequence[tuple[AttemptEnd, float]]) -> None:
        """Ignore."""

    def transition_refused(self, from_status: str, to_status: str, cause: str) -> None:
        """Ignore."""

    def quota_checked(self, quota: str, allowed: bool) -> None:
        """Ignore."""

    def rate_limited(self, limiter: str) -> None:
        """Ignore."""

    def jobs_pruned(self, pruned: Pruned) -> None:
        """Ignore."""

    def job_rescued(self, reason: Reason) -> None:
        """Ignore."""

    def lease_failed(self, reason: str) -> None:
        """Ignore."""

    def callback_attempted(self, outcome: str, seconds: float) -> None:
        """Ignore."""

    def callbacks_put_off(self, count: int) -> None:
        """Ignore."""

    def callback_hosts_silent(self, count: int) -> None:
        """Ignore."""

    def job_process_ended(self, reason: str) -> None:
        """Ignore."""

    def statement(self, operation: str, seconds: float) -> None:
        """Ignore."""
