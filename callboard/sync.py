"""The same runtime for code without an event loop: scripts, Django views, shells.

::

    from callboard.sync import Runtime

    with Runtime(settings) as runtime:
        ref = runtime.spawn(summarize, 42)
        print(ref.result(timeout=30))

The asynchronous runtime runs on a loop in a thread of its own; every method here waits for its counterpart there, and
may be called from any thread. Arguments, results and errors are those of ``callboard.Runtime``.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID

from callboard.actors.batches.state import BatchStatus
from callboard.actors.batches.types import BatchRecord, BatchResult
from callboard.actors.callbacks.attempts import CallbackState
from callboard.actors.callbacks.types import CallbackRecord
from callboard.actors.errors import ConfigurationError, RuntimeStopped, WouldDeadlock
from callboard.actors.jobs.definition import ConfiguredJob, JobDefinition, JobRegistry, default_registry
from callboard.actors.jobs.limits import Limit, LimitScope
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import HistoryRow, JobFilter, JobRecord, QueueControl, StoreSummary
from callboard.actors.schedules.types import Schedule, ScheduleRecord
from callboard.actors.settings import Settings

from . import batch_ref as asynchronous_batches
from . import ref as asynchronous
from . import runtime as asynchronous_runtime
from . import schedules as asynchronous_schedules
from .batch_desk import Requests
from .ref import JobEvent

R = TypeVar("R")
T = TypeVar("T")


class _LoopThread:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._process_id = os.getpid()
        self._thread = threading.Thread(target=self._run, name="callboard-sync", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the loop and return its result.

        Raises:
            WouldDeadlock: called on the loop's own thread: by an ``async`` job, say.
            RuntimeStopped: the loop has ended, or runs in the process that this one was forked from.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise WouldDeadlock(
                "callboard.sync was called on its own event loop's thread, which would wait for itself; "
                "an async job uses callboard.Runtime or its JobContext instead"
            )
        if os.getpid() != self._process_id:
            work.close()
            raise RuntimeStopped(
                "this process was forked from the one that started the runtime, and threads do not survive a fork: "
                "start a Runtime of its own after the fork"
            )
        if self._loop.is_closed():
            work.close()
            raise RuntimeStopped("the runtime has stopped: use it inside `with Runtime(...)`")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # a Ctrl-C in the waiting thread ends the wait on the loop too
            raise

    def close(self) -> None:
        """End the loop and its thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class JobRef(Generic[R]):
    """``callboard.JobRef`` for code without an event loop. See there.

    Attributes:
        id: the job's id.
        kind: its kind.
        created: False where ``spawn`` found an unfinished job with the same ``unique_key``.
    """

    def __init__(self, thread: _LoopThread, ref: asynchronous.JobRef[R]) -> None:
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

    def events(self) -> Iterator[JobEvent]:
        """Yield the job's transitions and progress until it has ended. See ``callboard.JobRef.events``."""
        events = self._ref.events()
        try:
            while (event := self._thread.wait_for(_next(events))) is not None:
                yield event
        finally:
            self._thread.wait_for(_close(events))


class Schedules:
    """``runtime.schedules`` for code without an event loop. See ``callboard.schedules.Schedules``."""

    def __init__(self, thread: _LoopThread, schedules: asynchronous_schedules.Schedules) -> None:
        self._thread = thread
        self._schedules = schedules

    def create(
        self,
        name: str,
        job: JobDefinition[Any, Any] | ConfiguredJob[Any, Any],
        schedule: str | Schedule,
        /,
        *args: Any,
        replace: bool = False,
        **kwargs: Any,
    ) -> None:
        """Spawn a job again and again from now on."""
        self._thread.wait_for(self._schedules.create(name, job, schedule, *args, replace=replace, **kwargs))

    def pause(self, name: str) -> None:
        """Let a schedule spawn nothing."""
        self._thread.wait_for(self._schedules.pause(name))

    def resume(self, name: str) -> None:
        """Let a paused schedule go on from now."""
        self._thread.wait_for(self._schedules.resume(name))

    def delete(self, name: str) -> bool:
        """Delete a schedule; False if there was none."""
        return self._thread.wait_for(self._schedules.delete(name))

    def list(self) -> list[ScheduleRecord]:
        """Return all schedules, by name."""
        return self._thread.wait_for(self._schedules.list())


class BatchRef:
    """``callboard.BatchRef`` for code without an event loop. See there.

    Attributes:
        id: the batch's id.
        provider: who runs it.
    """

    def __init__(self, thread: _LoopThread, ref: asynchronous_batches.BatchRef) -> None:
        self._thread = thread
        self._ref = ref
        self.id = ref.id
        self.provider = ref.provider

    def __repr__(self) -> str:
        return repr(self._ref)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BatchRef) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def record(self) -> BatchRecord:
        """Read everything that is stored about the batch, without its items."""
        return self._thread.wait_for(self._ref.record())

    def status(self) -> BatchStatus:
        """Read the batch's status."""
        return self._thread.wait_for(self._ref.status())

    def ended(self, timeout: float | None = None) -> BatchRecord:
        """Wait for the batch's end. See ``callboard.BatchRef.ended``."""
        return self._thread.wait_for(self._ref.ended(timeout))

    def results(self, timeout: float | None = None) -> list[BatchResult]:
        """Wait for the batch's end; return every request and what became of it. See ``callboard.BatchRef.results``."""
        return self._thread.wait_for(self._ref.results(timeout))

    def cancel(self) -> bool:
        """Cancel the batch. See ``callboard.BatchRef.cancel``."""
        return self._thread.wait_for(self._ref.cancel())


class Runtime:
    """``callboard.Runtime`` for code without an event loop; a context manager. See there for every argument.

    Args:
        settings: default: read from the environment.
        work: whether this process runs jobs too (default).
        registry: the jobs that this process can run.
    """

    def __init__(
        self, settings: Settings | None = None, *, work: bool = True, registry: JobRegistry = default_registry
    ) -> None:
        self._make: Callable[[], asynchronous_runtime.Runtime] = lambda: asynchronous_runtime.Runtime(
            settings, work=work, registry=registry
        )
        self._thread: _LoopThread | None = None
        self._runtime: asynchronous_runtime.Runtime | None = None

    def __enter__(self) -> Runtime:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the loop's thread and the runtime on it. See ``callboard.Runtime.start``."""
        if self._runtime is not None:
            raise ConfigurationError("this runtime runs already; make a new Runtime to start another one")
        runtime = self._make()
        self._thread = _LoopThread()
        try:
            self._thread.wait_for(runtime.start())
        except BaseException:
            self._thread.close()
            raise
        self._runtime = runtime

    def stop(self, *, drain_timeout_seconds: float | None = None) -> None:
        """Stop in order; twice is fine. See ``callboard.Runtime.stop``."""
        runtime, self._runtime = self._runtime, None
        if runtime is not None and self._thread is not None:
            self._thread.wait_for(runtime.stop(drain_timeout_seconds=drain_timeout_seconds))
            self._thread.close()

    def spawn(
        self,
        job: JobDefinition[Any, R] | ConfiguredJob[Any, R],
        /,
        *args: Any,
        connection: object | None = None,
        **kwargs: Any,
    ) -> JobRef[R]:
        """Spawn a job; durable on return, or with the commit of ``connection``. See ``callboard.Runtime.spawn``."""
        thread, runtime = self._parts()
        return JobRef(thread, thread.wait_for(runtime.spawn(job, *args, connection=connection, **kwargs)))

    def spawn_many(
        self,
        job: JobDefinition[Any, R] | ConfiguredJob[Any, R],
        /,
        calls: Iterable[tuple[Any, ...] | Mapping[str, Any]],
        *,
        connection: object | None = None,
        **options: Any,
    ) -> list[JobRef[R]]:
        """Spawn a job for each call, all or none. See ``callboard.Runtime.spawn_many``."""
        thread, runtime = self._parts()
        refs = thread.wait_for(runtime.spawn_many(job, calls, connection=connection, **options))
        return [JobRef(thread, ref) for ref in refs]

    def get(self, job_id: UUID, job: JobDefinition[Any, R] | ConfiguredJob[Any, R] | None = None) -> JobRef[R]:
        """Return a reference to an existing job. See ``callboard.Runtime.get``."""
        thread, runtime = self._parts()
        return JobRef(thread, thread.wait_for(runtime.get(job_id, job)))

    def jobs(self, where: JobFilter | None = None, *, limit: int = 100, before: UUID | None = None) -> list[JobRecord]:
        """List jobs, newest first. See ``callboard.Runtime.jobs``."""
        thread, runtime = self._parts()
        return thread.wait_for(runtime.jobs(where, limit=limit, before=before))

    def summary(self) -> StoreSummary:
        """Count jobs by kind, queue and status; list queues' backlogs and nodes."""
        thread, runtime = self._parts()
        return thread.wait_for(runtime.summary())

    def cancel(self, job_ids: Sequence[UUID]) -> int:
        """Cancel unfinished jobs; returns how many this call cancelled."""
        thread, runtime = self._parts()
        return thread.wait_for(runtime.cancel(job_ids))

    def release(self, job_ids: Sequence[UUID]) -> int:
        """Queue held jobs; returns how many this call queued."""
        thread, runtime = self._parts()
        return thread.wait_for(runtime.release(job_ids))

    def pause_queue(self, queue: str) -> None:
        """Let nobody claim jobs of a queue. See ``callboard.Runtime.pause_queue``."""
        thread, runtime = self._parts()
        thread.wait_for(runtime.pause_queue(queue))

    def drain_queue(self, queue: str) -> None:
        """Let a queue take no new jobs, and work off those that it has."""
        thread, runtime = self._parts()
        thread.wait_for(runtime.drain_queue(queue))

    def resume_queue(self, queue: str) -> None:
        """End a queue's pause or drain."""
        thread, runtime = self._parts()
        thread.wait_for(runtime.resume_queue(queue))

    def queues(self) -> list[QueueControl]:
        """Return what is set on queues, by name."""
        thread, runtime = self._parts()
        return thread.wait_for(runtime.queues())

    def set_limit(self, limit: Limit) -> None:
        """Set a limit on what runs or waits, over all nodes."""
        thread, runtime = self._parts()
        thread.wait_for(runtime.set_limit(limit))

    def clear_limit(self, scope: LimitScope, name: str) -> bool:
        """Remove a limit; False if there was none."""
        thread, runtime = self._parts()
        return thread.wait_for(runtime.clear_limit(scope, name))

    def limits(self) -> list[Limit]:
        """Return the limits that are set, by scope and name."""
        thread, runtime = self._parts()
        return thread.wait_for(runtime.limits())

    def callbacks(self, state: CallbackState | None = None, *, limit: int = 100) -> list[CallbackRecord]:
        """List the callbacks of ended jobs, those of the newest jobs first."""
        thread, runtime = self._parts()
        return thread.wait_for(runtime.callbacks(state, limit=limit))

    def replay_callbacks(self, job_ids: Sequence[UUID]) -> int:
        """Deliver callbacks again that are delivered or dead; returns how many."""
        thread, runtime = self._parts()
        return thread.wait_for(runtime.replay_callbacks(job_ids))

    def run_now(self, job_ids: Sequence[UUID]) -> int:
        """Let pending jobs that wait for their time run at once; returns how many did wait."""
        thread, runtime = self._parts()
        return thread.wait_for(runtime.run_now(job_ids))

    @property
    def schedules(self) -> Schedules:
        """What is spawned again and again."""
        thread, runtime = self._parts()
        return Schedules(thread, runtime.schedules)

    def submit_batch(self, provider: str, requests: Requests, *, endpoint: str | None = None) -> BatchRef:
        """Submit requests to a provider as one batch. See ``callboard.Runtime.submit_batch``."""
        thread, runtime = self._parts()
        return BatchRef(thread, thread.wait_for(runtime.submit_batch(provider, requests, endpoint=endpoint)))

    def submit_batches(self, provider: str, requests: Requests, *, endpoint: str | None = None) -> list[BatchRef]:
        """Submit requests as several batches. See ``callboard.Runtime.submit_batches``."""
        thread, runtime = self._parts()
        refs = thread.wait_for(runtime.submit_batches(provider, requests, endpoint=endpoint))
        return [BatchRef(thread, ref) for ref in refs]

    def get_batch(self, batch_id: UUID) -> BatchRef:
        """Return a reference to an existing batch. See ``callboard.Runtime.get_batch``."""
        thread, runtime = self._parts()
        return BatchRef(thread, thread.wait_for(runtime.get_batch(batch_id)))

    def cancel_batch(self, batch_id: UUID) -> bool:
        """Cancel a batch. See ``callboard.BatchRef.cancel``."""
        thread, runtime = self._parts()
        return thread.wait_for(runtime.cancel_batch(batch_id))

    def batches(
        self,
        *,
        statuses: Collection[BatchStatus] = (),
        provider: str | None = None,
        limit: int = 100,
        before: UUID | None = None,
    ) -> list[BatchRecord]:
        """List batches, newest first. See ``callboard.Runtime.batches``."""
        thread, runtime = self._parts()
        listing = runtime.batches(statuses=statuses, provider=provider, limit=limit, before=before)
        return thread.wait_for(listing)

    def _parts(self) -> tuple[_LoopThread, asynchronous_runtime.Runtime]:
        if self._thread is None or self._runtime is None:
            raise RuntimeStopped("the runtime is not running: use it inside `with Runtime(...)`")
        return self._thread, self._runtime


async def _next(events: AsyncGenerator[JobEvent, None]) -> JobEvent | None:
    return await anext(events, None)


async def _close(events: AsyncGenerator[JobEvent, None]) -> None:
    await events.aclose()
