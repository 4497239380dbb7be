"""What the kernel asks of the world outside: stores, wake-ups, measurements.

Implemented in ``persistence`` and ``supervision``; joined in ``callboard/runtime.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from .batches.ports import BatchStore, LlmRequestStore
from .callbacks.attempts import Attempt, CallbackState, Verdict
from .callbacks.types import CallbackRecord, DueCallback
from .jobs.controls import Controls
from .jobs.decide import Policy, Transition
from .jobs.limits import Limit, LimitScope
from .jobs.retention import Pruned, Retention
from .jobs.state import Reason, Status
from .jobs.types import (
    Applied,
    AttemptKey,
    ClaimedJob,
    ErrorCount,
    HistoryRow,
    JobFilter,
    JobRecord,
    NewJob,
    QueueDemand,
    Refused,
    Rescued,
    Spawned,
    StoreSummary,
)
from .leadership import Deposition, LeaderRecord, Standing
from .schedules.types import Fired, NewSchedule, ScheduleRecord, Synchronised


class JobStore(Protocol):
    """Jobs and their history.

    Every method is one transaction: it happens as a whole or not at all. (``cancel`` takes one for each generation of a
    family.)
    All methods raise ``StoreUnavailable`` when the database cannot be reached or the connection is lost; whether a
    write that was under way happened is then unknown to the caller, and repeating it is safe.
    Those that write values raise ``ValueNotStorable`` where one does not fit; nothing was written then.
    Times are the database's.
    """

    @property
    def controls(self) -> ControlStore:
        """The settings of queues and limits."""

    @property
    def callbacks(self) -> CallbackStore:
        """The callbacks of jobs that have ended."""

    @property
    def steps(self) -> StepStore:
        """What jobs did once."""

    @property
    def schedules(self) -> ScheduleStore:
        """The schedules."""

    @property
    def batches(self) -> BatchStore:
        """LLM batches."""

    @property
    def llm_requests(self) -> LlmRequestStore:
        """What jobs have asked a model."""

    async def open(self) -> None:
        """Connect and check the server and the schema.

        Raises:
            StoreUnavailable, ServerTooOld, SchemaMissing, SchemaMismatch: with what to do.
        """

    async def close(self) -> None:
        """Close every connection. Twice is fine."""

    async def spawn(
        self,
        jobs: Sequence[NewJob],
        *,
        actor: str,
        connection: object | None = None,
        parent: AttemptKey | None = None,
    ) -> list[Spawned]:
        """Insert jobs, their first history row each, and one wake-up for each queue; durable on return.

        Positional: the answer has one entry for each job, in order. A job whose ``unique_key`` an unfinished job of
        its kind already has, or whose (parent, child_key, child_index) or id exists, is not inserted again.

        Args:
            jobs: what to insert.
            actor: who does it, for the history.
            connection: a connection or session of the caller's that the store knows, in whose transaction the jobs
                are then written: durable, and workers are woken, when the caller commits.
            parent: the attempt that spawns these as its children, where it is one.

        Raises:
            StaleAttempt: ``parent`` runs no longer (cancelled, or taken over by another attempt), or a job named by a
                ``parent_id`` has ended. Nothing was written.
            QueueFull: a bound on what waits in a queue, or for an owner, is reached, or a queue is being drained.
                Nothing was written. In a caller's transaction, what others have not committed is not counted.
            DuplicateJob: another job holds a ``unique_key``, and ``on_conflict`` is ``raise``. Nothing was written.
        """

    async def claim(self, demands: Sequence[QueueDemand], *, node: str, lease_seconds: float) -> list[ClaimedJob]:
        """Take up to ``limit`` runnable jobs of each queue, the earliest ``turn`` first, skipping locked rows.

        None of a paused queue, and none beyond a limit: of its queue, its kind, its owner, or its concurrency key. Such
        limits are exact over all nodes.
        """

    async def adopt(self, known: Sequence[AttemptKey], *, node: str, lease_seconds: float) -> list[ClaimedJob]:
        """Give a node what it claimed without hearing of it, because the answer of the claim got lost.

        Args:
            known: the node's attempts that it does know of; all others of its name are its orphans.
            node: as it claimed; another process's name must differ.
            lease_seconds: how long they hold from now on.
        """

    async def apply(self, transitions: Sequence[Transition], *, actor: str) -> list[Applied | Refused]:
        """Write transitions by compare-and-set on (status, token), with a history row each, in one transaction.

        Positional. A refused one does not hinder the others. Where children ended, a parent that waits for the last
        of them becomes runnable in the same transaction.
        """

    async def cancel(self, job_ids: Sequence[UUID], *, actor: str) -> list[Applied | Refused]:
        """End unfinished jobs as ``cancelled``, whatever their status; final on return. Notifies their workers.

        Their unfinished children are cancelled as well, and the children of those. Answers for ``job_ids`` only.
        A call that was interrupted may leave descendants; repeated, it completes its work, though it is refused for
        the jobs that are cancelled already.
        """

    async def release(self, job_ids: Sequence[UUID], *, actor: str) -> list[Applied | Refused]:
        """Queue held jobs (``created → pending``)."""

    async def run_now(self, job_ids: Sequence[UUID]) -> list[UUID]:
        """Make pending jobs that wait for their time runnable at once. Returns those it changed. No transition."""

    async def renew(self, attempts: Sequence[AttemptKey], *, lease_seconds: float) -> list[AttemptKey]:
        """Extend leases. Returns the attempts that are no longer the holder's: cancelled, rescued or gone."""

    async def rescue(
        self,
        *,
        actor: str,
        policy: Policy,
        limit: int,
        retry_delay_seconds: Callable[[int], float],
        alive: Collection[AttemptKey] = (),
    ) -> list[Rescued]:
        """Take back jobs whose lease has expired, and end waiting ones whose deadline has passed.

        Decides by ``decide``; one bad row does not hinder the rest.

        Args:
            actor: who sweeps.
            policy: settings for ``decide``.
            limit: rows of one sweep.
            retry_delay_seconds: from the attempt number to the drawn delay.
            alive: attempts that the caller knows to run, whatever their leases say: they are left out.
        """

    async def expire_leases(self, nodes: Sequence[str]) -> int:
        """End the leases of everything that runs on these nodes, so that the next ``rescue`` takes it back.

        Only for nodes that are known to be dead, such as processes that their parent has reaped. Returns how many
        leases ended. No transition. A claim of theirs that is still on its way to the database is not seen: call it
        again until such a claim must have ended.
        """

    async def progress(self, reports: Mapping[AttemptKey, Mapping[str, Any]]) -> set[AttemptKey]:
        """Store the progress of running attempts, all in one. Returns the stale attempts. No transition."""

    async def get(self, job_id: UUID) -> JobRecord | None:
        """Read one job."""

    async def get_many(self, job_ids: Sequence[UUID]) -> list[JobRecord]:
        """Read the jobs that exist among these, in any order."""

    async def children(self, parent_id: UUID, child_key: str) -> list[JobRecord]:
        """Read the children that a parent spawned under a key, by ``child_index``."""

    async def list_jobs(self, where: JobFilter, *, limit: int, before: UUID | None = None) -> list[JobRecord]:
        """List jobs, newest first; ``before`` is the last id of the page before (keyset pagination)."""

    async def history(self, job_id: UUID, *, after: int = 0) -> list[HistoryRow]:
        """Read a job's transitions with a ``sequence`` above ``after``, oldest first."""

    async def summary(self) -> StoreSummary:
        """Count jobs by kind, queue and status; measure backlogs; list nodes."""

    async def register_node(self, node: str) -> None:
        """Record that a node works (again): its heartbeat."""

    async def forget_node(self, node: str) -> None:
        """Remove a node that stopped in order."""

    async def errors(self, where: JobFilter) -> list[ErrorCount]:
        """Count failed jobs by kind, queue and error, the latest first: the dead letter list."""

    async def prune(self, retention: Retention, *, term: int | None = None) -> Pruned:
        """Delete what need not be kept any longer, in small steps; safe from every node, one at a time works.

        Ended jobs, results, and the history in whole partitions. Never a job that has not ended, its history, or its
        children.

        Args:
            retention: how long what is kept.
            term: the leader's; None (default) where nobody's leadership matters.

        Raises:
            StaleTerm: the term is over. The steps before are done.
        """

    async def housekeep(self) -> None:
        """Make the history partitions of the near future, forget nodes unseen for a day. Safe from every node."""


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

    def start(self, on_lost: Callable[[Sequence[AttemptKey]], None]) -> None:
        """Start the thread. ``on_lost`` is called from it with attempts that are no longer ours."""

    def add(self, attempts: Sequence[AttemptKey]) -> None:
        """Keep these from now on. Any thread."""

    def discard(self, attempts: Sequence[AttemptKey]) -> None:
        """Stop keeping these. Any thread."""

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


class Telemetry(Protocol):
    """Measurements of jobs, by fixed and bounded names. Called on the loop, in batches where it is hot."""

    def jobs_created(self, kind: str, queue: str, count: int) -> None:
        """Jobs were inserted by this process."""

    def jobs_claimed(self, jobs: Sequence[ClaimedJob]) -> None:
        """Jobs were claimed (counts, and their waits)."""

    def attempt_ended(self, kind: str, queue: str, to_status: Status, reason: Reason, run_seconds: float) -> None:
        """An attempt's last transition was committed."""

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

    def attempt_ended(self, kind: str, queue: str, to_status: Status, reason: Reason, run_seconds: float) -> None:
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
