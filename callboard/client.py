"""Spawning jobs and asking about them: the half of a runtime that its callers see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar
from uuid import UUID

from callboard.actors.callbacks.attempts import CallbackState
from callboard.actors.callbacks.types import CallbackRecord
from callboard.actors.errors import ConfigurationError, JobNotFound, RuntimeStopped
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.definition import ConfiguredJob, JobDefinition
from callboard.actors.jobs.ended import Ended
from callboard.actors.jobs.limits import Limit, LimitScope
from callboard.actors.jobs.spawning import Spawning
from callboard.actors.jobs.types import Applied, JobFilter, JobRecord, NewJob, QueueControl, Spawned, StoreSummary
from callboard.actors.ports import Telemetry
from callboard.actors.pulse import Pulse
from callboard.actors.settings import check_queue_name
from callboard.actors.waiters import Waiters

from .ref import JobRef
from .schedules import Schedules

R = TypeVar("R")


def _named(queue: str) -> str:
    try:
        return check_queue_name(queue)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


class JobClient:
    """Everything one can do to jobs. ``Runtime`` adds the life cycle.

    Args:
        store: where jobs are.
        spawning: makes rows of calls.
        telemetry: measurements.
        actor: who does it, for the history.
        poll_interval_seconds: how often waits look without being woken.

    Attributes:
        schedules: what is spawned again and again.
    """

    def __init__(
        self, store: JobStore, spawning: Spawning, telemetry: Telemetry, *, actor: str, poll_interval_seconds: float
    ) -> None:
        self._store = store
        self._spawning = spawning
        self._telemetry = telemetry
        self._actor = actor
        self._running = False
        self._waiters = Waiters()
        self.poll_interval_seconds = poll_interval_seconds
        self.pulse = Pulse()
        self.schedules = Schedules(lambda: self.store, spawning, actor)

    @property
    def store(self) -> JobStore:
        """The store of a started runtime.

        Raises:
            RuntimeStopped: it has not started, or has stopped.
        """
        self._require_running()
        return self._store

    def _require_running(self) -> None:
        if not self._running:
            raise RuntimeStopped("the runtime is not running: use it inside `async with Runtime(...)`")

    # Spawning

    async def spawn(
        self,
        job: JobDefinition[Any, R] | ConfiguredJob[Any, R],
        /,
        *args: Any,
        connection: object | None = None,
        **kwargs: Any,
    ) -> JobRef[R]:
        """Spawn a job. It is durable when this returns.

        Args:
            job: a function decorated with ``@job``, or ``job.options(...)``.
            *args: its positional arguments.
            connection: an SQLAlchemy connection or session (asynchronous or not), or a psycopg one. The job is written
                in its transaction: it exists if and when that commits, and nothing is told to workers before. Ask for
                its result after the commit; before, there is no such job.
            **kwargs: its keyword arguments, and options (``priority=-5``, ``delay_seconds=60``, see ``SpawnOptions``).
                A name that is both is an argument; give the option by ``job.options(...)``.

        Raises:
            InvalidArguments: the arguments do not fit the signature.
            ConfigurationError: an option is unknown or out of bounds, or ``job`` is not a job.
            PayloadTooLarge: the arguments exceed ``settings.payload_limit_bytes``.
            QueueFull: the queue or the owner has as many jobs waiting as it may, or the queue is being drained. Nothing
                was written; ``retry_after_seconds`` says when to try again.
            DuplicateJob: another job holds the ``unique_key``, and ``on_conflict`` is ``"raise"``.
            StoreUnavailable: the database cannot be reached. Nothing was written, or, if the connection was lost in the
                moment of the commit, it is unknown whether; a ``unique_key`` makes the repetition safe.
        """
        row = self._spawning.one(job, args, kwargs)
        spawned = (await self._insert([row], connection))[0]
        return self._ref(job, row.kind, spawned)

    async def spawn_many(
        self,
        job: JobDefinition[Any, R] | ConfiguredJob[Any, R],
        /,
        calls: Iterable[tuple[Any, ...] | Mapping[str, Any]],
        *,
        connection: object | None = None,
        **options: Any,
    ) -> list[JobRef[R]]:
        """Spawn a job for each call, all or none, in one statement.

        Args:
            job: as for ``spawn``.
            calls: for each job a tuple of positional arguments, or a mapping of keyword arguments.
            connection: as for ``spawn``.
            **options: options of all of them.

        Raises:
            InvalidArguments, ConfigurationError, PayloadTooLarge, QueueFull, StoreUnavailable: as for ``spawn``; where
                it is about one call, the message names its position.
        """
        bulk = self._spawning.bulk(job, list(calls), options)
        if bulk.chunk_count > 1 and connection is None:
            spawned = await self.store.spawn_alike(bulk.chunks, bulk.chunk_count, actor=self._actor)
        else:
            rows = list(chain.from_iterable(bulk.chunks))
            spawned = await self.store.spawn(rows, actor=self._actor, connection=connection)
        self._count_spawned(spawned, bulk.kind, bulk.queue)
        decode = job.definition.signature.decode_result
        return [JobRef(self, one.id, bulk.kind, decode_result=decode, created=one.created) for one in spawned]

    async def insert(self, rows: Sequence[NewJob]) -> list[Spawned]:
        """Insert rows that were made elsewhere: the command line's, which may not know the job's function."""
        return await self._insert(rows, None)

    async def _insert(self, rows: Sequence[NewJob], connection: object | None) -> list[Spawned]:
        spawned = await self.store.spawn(rows, actor=self._actor, connection=connection)
        self._count_spawned(spawned, rows[0].kind, rows[0].queue)
        return spawned

    def _count_spawned(self, spawned: Sequence[Spawned], kind: str, queue: str) -> None:
        created = sum(job.created for job in spawned)
        if created:
            self._telemetry.jobs_created(kind, queue, created)
            self._spawned(queue)

    def _spawned(self, queue: str) -> None:
        """Jobs were inserted into a queue; a runtime that works need not wait for the database to tell it."""

    def _ref(self, job: JobDefinition[Any, R] | ConfiguredJob[Any, R], kind: str, spawned: Spawned) -> JobRef[R]:
        decode: Callable[[str | None], Any] = job.definition.signature.decode_result
        return JobRef(self, spawned.id, kind, decode_result=decode, created=spawned.created)

    # Asking

    async def get(self, job_id: UUID, job: JobDefinition[Any, R] | ConfiguredJob[Any, R] | None = None) -> JobRef[R]:
        """Return a reference to an existing job.

        Args:
            job_id: its id.
            job: its function, for a typed result; without it the result is plain JSON data.

        Raises:
            JobNotFound: there is none.
        """
        record = await self.store.get(job_id)
        if record is None:
            raise JobNotFound(job_id)
        decode = None if job is None else job.definition.signature.decode_result
        return JobRef(self, job_id, record.kind, decode_result=decode)

    async def jobs(
        self, where: JobFilter | None = None, *, limit: int = 100, before: UUID | None = None
    ) -> list[JobRecord]:
        """List jobs, newest first.

        Args:
            where: which; default all.
            limit: how many at most.
            before: continue after this job, the last one of the page before.
        """
        return await self.store.list_jobs(where or JobFilter(), limit=limit, before=before)

    async def summary(self) -> StoreSummary:
        """Count jobs by kind, queue and status; list queues' backlogs and nodes."""
        return await self.store.summary()

    async def wait_ended(self, job_id: UUID) -> Ended:
        """Return how a job ended, once it has.

        Raises:
            JobNotFound: there is no such job (any more).
        """
        self._require_running()
        self._wait_begins()
        return await self._waiters.wait(job_id)

    def _wait_begins(self) -> None:
        """Somebody is about to wait for a job that may have ended already."""

    # Changing

    async def cancel(self, job_ids: Sequence[UUID]) -> int:
        """Cancel unfinished jobs, whatever they are doing, and their children; final in the database on return.

        Returns:
            How many this call cancelled; the others had ended before, or do not exist.
        """
        answers = await self.store.cancel(job_ids, actor=self._actor)
        cancelled = [answer.job_id for answer in answers if isinstance(answer, Applied)]
        self._were_cancelled(cancelled)
        return len(cancelled)

    def _were_cancelled(self, job_ids: Sequence[UUID]) -> None:
        """These jobs are cancelled in the database; where one runs here, its code is to end."""

    async def release(self, job_ids: Sequence[UUID]) -> int:
        """Queue held jobs; returns how many this call queued."""
        answers = await self.store.release(job_ids, actor=self._actor)
        return sum(isinstance(answer, Applied) for answer in answers)

    async def pause_queue(self, queue: str) -> None:
        """Let nobody claim jobs of a queue, on any node, from now on. Those that run go on; spawns are taken."""
        await self.store.controls.set_queue(_named(queue), paused=True, actor=self._actor)

    async def drain_queue(self, queue: str) -> None:
        """Let a queue take no new jobs (``spawn`` raises ``QueueFull``), and work off those that it has."""
        await self.store.controls.set_queue(_named(queue), paused=False, draining=True, actor=self._actor)

    async def resume_queue(self, queue: str) -> None:
        """End a queue's pause or drain."""
        await self.store.controls.set_queue(_named(queue), paused=False, draining=False, actor=self._actor)

    async def queues(self) -> list[QueueControl]:
        """Return what is set on queues, by name; a queue on which nobody has set anything is not there."""
        controls = await self.store.controls.read()
        return [queue for _, queue in sorted(controls.queues.items())]

    async def set_limit(self, limit: Limit) -> None:
        """Set a limit on what runs or waits, over all nodes; see ``Limit``. It takes the place of an earlier one."""
        await self.store.controls.set_limit(limit, actor=self._actor)

    async def clear_limit(self, scope: LimitScope, name: str) -> bool:
        """Remove a limit; False if there was none."""
        return await self.store.controls.clear_limit(scope, name)

    async def limits(self) -> list[Limit]:
        """Return the limits that are set, by scope and name."""
        return list((await self.store.controls.read()).limits)

    async def callbacks(self, state: CallbackState | None = None, *, limit: int = 100) -> list[CallbackRecord]:
        """List the callbacks of ended jobs, those of the newest jobs first.

        Args:
            state: only those in it; default all.
            limit: how many at most.
        """
        return await self.store.callbacks.read(state, limit=limit)

    async def replay_callbacks(self, job_ids: Sequence[UUID]) -> int:
        """Deliver callbacks again that are delivered or dead, with the ids that they had; returns how many."""
        return len(await self.store.callbacks.replay(job_ids))

    async def run_now(self, job_ids: Sequence[UUID]) -> int:
        """Let pending jobs that wait for their time run at once; returns how many did wait."""
        return len(await self.store.run_now(job_ids))
