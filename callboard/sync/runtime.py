"""The runtime, for code without an event loop."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from callboard import runtime as asynchronous
from callboard.actors.batches.provider import BatchProvider
from callboard.actors.batches.state import BatchStatus
from callboard.actors.batches.types import BatchRecord
from callboard.actors.callbacks.attempts import CallbackState
from callboard.actors.callbacks.types import CallbackRecord
from callboard.actors.errors import ConfigurationError, RuntimeStopped
from callboard.actors.jobs.definition import ConfiguredJob, JobDefinition, JobRegistry, default_registry
from callboard.actors.jobs.limits import Limit, LimitScope
from callboard.actors.jobs.types import JobFilter, JobRecord, QueueControl, StoreSummary
from callboard.actors.settings import Settings
from callboard.batch_desk import Requests

from .batch_ref import BatchRef
from .job_ref import JobRef
from .loop_thread import LoopThread
from .schedules import Schedules

R = TypeVar("R")


class Runtime:
    """``callboard.Runtime`` for code without an event loop; a context manager. See there for every argument.

    Args:
        settings: default: read from the environment.
        work: whether this process runs jobs too (default).
        registry: the jobs that this process can run.
        providers: who runs LLM batches, by name, beside ``anthropic`` and ``openai``.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        work: bool = True,
        registry: JobRegistry = default_registry,
        providers: Mapping[str, BatchProvider] | None = None,
    ) -> None:
        self._make: Callable[[], asynchronous.Runtime] = lambda: asynchronous.Runtime(
            settings, work=work, registry=registry, providers=providers
        )
        self._thread: LoopThread | None = None
        self._runtime: asynchronous.Runtime | None = None

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
        self._thread = LoopThread()
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

    def _parts(self) -> tuple[LoopThread, asynchronous.Runtime]:
        if self._thread is None or self._runtime is None:
            raise RuntimeStopped("the runtime is not running: use it inside `with Runtime(...)`")
        return self._thread, self._runtime
