"""The half of a runtime that runs jobs: what its parts are, how they start, and how they stop."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from callboard.actors.batches.types import BatchResult
from callboard.actors.callbacks.deliverer import Look as LookForCallbacks
from callboard.actors.claimer import Look
from callboard.actors.clock import Clock
from callboard.actors.errors import StoreError, StoreUnavailable
from callboard.actors.executors.event_loop import EventLoopExecutor
from callboard.actors.executors.process import ProcessExecutor, available_cores
from callboard.actors.executors.process_limits import ProcessLimits
from callboard.actors.executors.thread import ThreadExecutor
from callboard.actors.jobs.decide import Policy
from callboard.actors.jobs.definition import JobRegistry
from callboard.actors.jobs.environment import JobEnvironment
from callboard.actors.jobs.messages import StopAttempt, StopCause
from callboard.actors.jobs.renewal_grace import renewal_grace_seconds
from callboard.actors.jobs.settlement import Settlement
from callboard.actors.jobs.spawning import Spawnable, Spawning
from callboard.actors.jobs.state import Reason
from callboard.actors.jobs.supervisor import StartJobs
from callboard.actors.jobs.types import AttemptKey, ClaimedJob, JobRecord, Rescued
from callboard.actors.outbox import Outbox
from callboard.actors.periodic import Tick
from callboard.actors.ports import Telemetry
from callboard.actors.progress import ProgressBoard
from callboard.actors.retry import default_wait, next_delay_seconds
from callboard.actors.running_jobs import RunningJobs
from callboard.actors.schedules.calls import declared
from callboard.actors.settings import Settings
from callboard.actors.system import ActorSystem
from callboard.actors.waiters import Waiters
from callboard.persistence.stores import StoreParts

from .batch_desk import BatchDesk
from .unsigned_callbacks import warn_of_unsigned_callbacks

_log = logging.getLogger(__name__)

RESCUE_BATCH = 500
LAST_WRITES_SECONDS = 10.0
"""How long a stop waits, after the last function has ended, for the database to take the last transitions."""
LAST_CLAIM_SECONDS = 1.0
"""How long a stop waits at least for a claim that is under way."""
PROCESSES_END_SECONDS = 3.0
"""How long a stop waits for idle job processes, which are killed after a third of it."""
GOODBYE_SECONDS = 5.0
_REMEMBERED_CANCELS = 1000


class Worker:
    """Claims jobs, runs them, writes what became of them, and rescues those of dead workers.

    Args:
        settings: limits and intervals.
        parts: the store with its wake-ups and its lease keeper.
        system: where actors live.
        registry: the kinds that this process can run.
        spawning: for children of jobs.
        waiters: who waits for jobs in this process.
        telemetry: measurements.
        clock: the time.
        node: this process's name.
        batch_desk: where jobs ask models.
        ended_nodes: processes that are dead for certain: what they ran is taken back at once.
    """

    def __init__(
        self,
        settings: Settings,
        parts: StoreParts,
        system: ActorSystem,
        *,
        registry: JobRegistry,
        spawning: Spawning,
        waiters: Waiters,
        telemetry: Telemetry,
        clock: Clock,
        node: str,
        batch_desk: BatchDesk,
        ended_nodes: Sequence[str] = (),
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._system = system
        self._spawning = spawning
        self._telemetry = telemetry
        self._node = node
        self._batch_desk = batch_desk
        self._ended_nodes = tuple(ended_nodes)
        self._claims_of_ended_until = clock.monotonic() + settings.statement_timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._start_jobs: StartJobs
        self._rescue_after = -math.inf
        self._cancelled_early: dict[UUID, None] = {}
        self._in_haste = False
        self._progress = ProgressBoard()
        self.running = RunningJobs(settings.queues)
        self.threads = ThreadExecutor(settings.event_loop_threadpool_max_workers)
        self.processes = ProcessExecutor(
            settings.job_processes or available_cores(),
            ProcessLimits(
                max_jobs=settings.job_process_max_jobs,
                max_memory_bytes=settings.job_process_max_memory_bytes,
                start_timeout_seconds=settings.job_process_start_timeout_seconds,
            ),
            telemetry.job_process_ended,
        )
        self.retry = default_wait(settings.retry_initial_seconds, settings.retry_max_seconds)
        self.policy = Policy(unknown_kind_grace_seconds=settings.unknown_kind_grace_seconds)
        self.settlement = Settlement(self.running, self._progress, waiters, telemetry, clock, self.policy)
        self.outbox = Outbox(self.settlement.settle)
        self.environment = self._make_environment(registry, clock)
        self._progress.on_flush(lambda: self._tell("progress", Tick()))

    def _make_environment(self, registry: JobRegistry, clock: Clock) -> JobEnvironment:
        settings = self._settings
        return JobEnvironment(
            registry=registry,
            executors={"async": EventLoopExecutor(self._loop), "thread": self.threads, "process": self.processes},
            services=self,
            outbox=self.outbox,
            running=self.running,
            settlement=self.settlement,
            progress=self._progress,
            telemetry=self._telemetry,
            clock=clock,
            policy=self.policy,
            retry=self.retry,
            cancel_grace_seconds=settings.cancel_grace_seconds,
            result_limit_bytes=settings.result_limit_bytes,
        )

    def jobs_ready(self, start_jobs: StartJobs) -> None:
        """Start jobs by this function from now on: their supervisor is there."""
        self._start_jobs = start_jobs

    async def start(self) -> None:
        """Prepare what the actors need. Before they start."""
        await self._parts.store.register_node(self._node)
        await self._synchronise_schedules()
        if self._settings.callback_secret is None:
            await warn_of_unsigned_callbacks(self.environment.registry, self._parts.store)
        self._parts.keeper.keep(lambda moment: self.running.attempts(begun_by=moment))
        self._parts.keeper.start(self._attempts_lost)

    async def _synchronise_schedules(self) -> None:
        registry = self.environment.registry
        schedules = declared(registry, self._spawning)
        done = await self._parts.store.schedules.synchronise(schedules, registry.kinds(), actor=f"node:{self._node}")
        for name in done.refused:
            _log.error(
                "schedule %s of the code is not stored: one of this name was made at run time; delete that one", name
            )
        for what, names in (
            ("new", done.created),
            ("changed", done.changed),
            ("not in the code any more", done.deleted),
        ):
            if names:
                _log.info("schedules that are %s: %s", what, ", ".join(names))

    # The life of jobs

    def start_jobs(self, jobs: Sequence[ClaimedJob]) -> None:
        """Start the actors of claimed jobs."""
        try:
            self._start_jobs(jobs)
        finally:
            if self._cancelled_early:
                for claimed in jobs:
                    if claimed.id in self._cancelled_early:
                        self.running.stop_job(claimed.id, StopAttempt(StopCause.CANCELLED))

    def look(self) -> None:
        """Look for jobs now: there may be some."""
        self._tell("claimer", Look())

    def deliver_callbacks(self) -> None:
        """Look for callbacks now: there may be some."""
        self._tell("deliverer", LookForCallbacks())

    def take_over(self, nodes: Sequence[str]) -> None:
        """Take back at once what ran on these nodes, which are dead for certain."""
        self._ended_nodes = (*self._ended_nodes, *nodes)
        self._claims_of_ended_until = self._clock.monotonic() + self._settings.statement_timeout_seconds
        self._tell("rescuer", Tick())

    def job_cancelled(self, job_id: UUID) -> None:
        """Stop a job's code, because the job is cancelled in the database."""
        if self.running.stop_job(job_id, StopAttempt(StopCause.CANCELLED)):
            return
        # A claim may have taken it and not have returned yet.
        self._cancelled_early[job_id] = None
        if len(self._cancelled_early) > _REMEMBERED_CANCELS:
            del self._cancelled_early[next(iter(self._cancelled_early))]

    def _attempts_lost(self, attempts: Sequence[AttemptKey]) -> None:
        """Called from the lease keeper's thread."""
        self._loop.call_soon_threadsafe(self.running.stop_attempts, list(attempts), StopAttempt(StopCause.LOST))

    async def drain(self, timeout_seconds: float) -> None:
        """Claim no more, let running jobs end, put back those that have not ended in time, write everything."""
        self.running.close()
        ending = self._loop.time() + timeout_seconds
        await self._end_claim(timeout_seconds)
        # In haste, a claim that has just come back has brought jobs that nobody has told to end.
        if await self._empty_within(0.0 if self._in_haste else max(0.0, ending - self._loop.time())):
            return
        if not self._in_haste:
            _log.warning(
                "%d jobs have not ended within %.1f s: they go back to their queues", len(self.running), timeout_seconds
            )
        self.running.stop_all(StopAttempt(StopCause.SHUTDOWN))
        if not await self._empty_within(self._settings.cancel_grace_seconds + LAST_WRITES_SECONDS):
            _log.error(
                "%d jobs could not be put back, the database does not answer; their leases expire within %.0f s",
                len(self.running),
                self._settings.lease_seconds,
            )

    async def _end_claim(self, timeout_seconds: float) -> None:
        claim = self.running.claim
        if claim is None or claim.done():
            return
        await asyncio.wait((claim,), timeout=max(timeout_seconds, LAST_CLAIM_SECONDS))
        if not claim.done():
            _log.warning("a claim does not come back; what it may have claimed is rescued when its lease expires")
            claim.cancel()

    async def abandon_jobs(self) -> None:
        """End the code of running jobs without a write: nobody is left to write. Their leases expire."""
        self.running.close()
        await self._end_claim(0.0)
        self.running.stop_all(StopAttempt(StopCause.LOST))
        await self._empty_within(self._settings.cancel_grace_seconds + 1.0)

    def put_back_now(self) -> None:
        """Cancel a drain's waiting, also of one that begins later: running jobs are told to end and go back."""
        self._in_haste = True
        self.running.close()  # or what goes back is claimed again
        self.running.stop_all(StopAttempt(StopCause.SHUTDOWN))

    async def stop(self) -> None:
        """End what ``start`` began. After the actors have ended."""
        try:
            await asyncio.to_thread(self.threads.close, self._settings.cancel_grace_seconds)
            await asyncio.to_thread(self.processes.close, PROCESSES_END_SECONDS)
            await asyncio.to_thread(self._parts.keeper.stop)
        finally:
            try:
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await self._parts.store.forget_node(self._node)
            except (StoreError, TimeoutError) as error:
                _log.warning("cannot say goodbye to the database: %s", error or "it does not answer")

    def _tell(self, child: str, message: object) -> None:
        """Tell a supervised actor something that it also finds out by itself, should it be restarting just now."""
        ref = self._system.registry.get(child)
        if ref is not None:
            ref.send(message)

    async def _empty_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.running.wait_empty()
        except TimeoutError:
            return False
        return True

    def abandoned_calls(self) -> int:
        """Return how many threads and tasks still run code whose attempt, or whose actor, has ended."""
        executors = self.environment.executors.values()
        return self._system.abandoned + sum(executor.abandoned for executor in executors)

    # What contexts of jobs use

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The runtime's event loop."""
        return self._loop

    def progress(self, attempt: AttemptKey, progress: dict[str, Any]) -> None:
        """Keep a progress report until it is stored. Any thread."""
        self._progress.report(attempt, progress)

    async def children(
        self, parent: ClaimedJob, key: str, job: Spawnable, calls: Sequence[tuple[Any, ...]]
    ) -> list[JobRecord]:
        """Return the children of ``parent`` under ``key``, spawning those that do not exist yet."""
        store = self._parts.store
        found = await store.children(parent.id, key)
        if len(found) < len(calls):
            rows = [
                row._replace(parent_id=parent.id, child_key=key, child_index=index)
                for index, row in enumerate(self._spawning.many(job, calls, {}))
            ]
            attempt = AttemptKey(parent.id, parent.token)
            spawned = await store.spawn(rows, actor=f"node:{self._node}", parent=attempt)
            created = sum(child.created for child in spawned)
            self._telemetry.jobs_created(rows[0].kind, rows[0].queue, created)
            found = await store.children(parent.id, key)
            self.look()
        return found[: len(calls)]

    @property
    def result_limit_bytes(self) -> int:
        """How much JSON a result may take."""
        return self._settings.result_limit_bytes

    async def kept_step(self, job_id: UUID, key: str) -> str | None:
        """Return what a step of a job gave; None where none is kept."""
        return await self._parts.store.steps.read(job_id, key)

    async def keep_step(self, attempt: AttemptKey, key: str, value: str) -> str:
        """Keep what a step gave. Its effect is done: so it is not given up while the database is away."""
        while True:
            try:
                return await self._parts.store.steps.record(attempt, key, value)
            except StoreUnavailable as error:
                _log.warning("job %s: step %r is done and cannot be kept yet: %s", attempt.job_id, key, error)
            await asyncio.sleep(self._settings.poll_interval_seconds)

    async def llm_reply(self, attempt: AttemptKey, key: str, provider: str, params: str) -> BatchResult | None:
        """Ask a model once for a job and key; return the outcome, or None if there is none yet."""
        return await self._batch_desk.ask(attempt, key, provider, params)

    async def unknown_for_seconds(self, job_id: UUID) -> float:
        """Return how long ago a worker first put the job back because it did not know its kind; 0 if none did."""
        for row in await self._parts.store.history(job_id):
            if row.reason is Reason.UNKNOWN_KIND:
                return (self._clock.now() - row.at).total_seconds()
        return 0.0

    # What is done again and again

    async def flush_progress(self) -> None:
        """Store the newest progress reports."""
        reports = self._progress.take()
        try:
            stale = await self._parts.store.progress(reports)
        except StoreUnavailable:
            raise
        except StoreError:  # no report is worth more than what waits behind it
            _log.exception("%d progress reports were refused and are dropped", len(reports))
            stale = set()
        for attempt in stale:
            _log.warning("job %s: progress refused: the attempt with token %d is lost", *attempt)
            self._telemetry.lease_failed("lost")
        self.running.stop_attempts(stale, StopAttempt(StopCause.LOST))
        for attempt in reports:
            self._progress.flushed(attempt)

    async def rescue(self) -> None:
        """Take back what no lease holds any more, unless the living may just not have been able to renew theirs."""
        grace_seconds = renewal_grace_seconds(self._settings.lease_seconds)
        in_grace = self._clock.monotonic() < self._rescue_after
        ended_nodes = self._ended_nodes
        rescued: list[Rescued] = []
        try:
            await self._end_leases_of_ended()
            if ended_nodes:  # for certain, so there is nobody to wait for
                rescued += await self._sweep(ended_nodes, 0.0)
            if not in_grace:
                rescued += await self._sweep(None, grace_seconds)
        except StoreUnavailable:
            # Nobody could renew either. When the database is back, the living get the time to do so first.
            self._rescue_after = self._clock.monotonic() + grace_seconds
            raise
        for job in rescued:
            self._telemetry.job_rescued(job.reason)
            _log.warning("job %s (%s) is rescued: %s, now %s", job.job_id, job.kind, job.reason, job.to_status)
        if rescued:
            self.look()
        if len(rescued) >= RESCUE_BATCH:
            self._tell("rescuer", Tick())

    async def _sweep(self, only_nodes: Sequence[str] | None, server_up_seconds: float) -> list[Rescued]:
        return await self._parts.store.rescue(
            actor=f"node:{self._node}",
            alive=self.running.attempts(),
            policy=self.policy,
            limit=RESCUE_BATCH,
            retry_delay_seconds=lambda attempt: next_delay_seconds(self.retry, attempt),
            only_nodes=only_nodes,
            server_up_seconds=server_up_seconds,
        )

    async def _end_leases_of_ended(self) -> None:
        nodes = self._ended_nodes
        if not nodes:
            return
        # A claim that they had sent may still run in the database. It ends with the statement timeout at the latest, so
        # what it took is seen by the last of these calls.
        last = self._clock.monotonic() > self._claims_of_ended_until
        expired = await self._parts.store.expire_leases(nodes)
        if expired:
            _log.warning("%d jobs ran in processes that died; they are taken back now", expired)
        for node in nodes:
            await self._parts.store.forget_node(node)
        if last and self._ended_nodes == nodes:
            self._ended_nodes = ()
