"""What the kernel asks of a store of jobs. ``tests/contract/`` holds every store to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from .batches.ports import BatchStore, LlmRequestStore
from .jobs.decide import Policy, Transition
from .jobs.retention import Pruned, Retention
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
from .ports import CallbackStore, ControlStore, ScheduleStore, StepStore


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

    async def spawn_alike(self, chunks: Iterable[Sequence[NewJob]], chunk_count: int, *, actor: str) -> list[Spawned]:
        """Insert many new jobs that differ in nothing but ids and arguments, and have no ``unique_key``; all or none.

        A chunk is asked for while the database works on the one before. What asking raises goes to the caller, and
        nothing was written. Otherwise like ``spawn``.

        Args:
            chunks: what to insert, each of 1 to ``spawning.CHUNK`` jobs.
            chunk_count: how many there are.
            actor: who does it, for the history.

        Raises:
            QueueFull: as for ``spawn``.
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
        only_nodes: Sequence[str] | None = None,
        server_up_seconds: float = 0.0,
    ) -> list[Rescued]:
        """Take back jobs whose lease has expired, and end waiting ones whose deadline has passed.

        Decides by ``decide``; one bad row does not hinder the rest.

        Args:
            actor: who sweeps.
            policy: settings for ``decide``.
            limit: rows of one sweep.
            retry_delay_seconds: from the attempt number to the drawn delay.
            alive: attempts that the caller knows to run, whatever their leases say: they are left out.
            only_nodes: nodes that are dead for certain: only what they ran is taken back. None is everybody's.
            server_up_seconds: unless there are such nodes, nothing happens before the server has run for so long: its
                restart kept everybody from renewing.
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
