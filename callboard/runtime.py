"""The front door: what a runtime is made of, how it starts, and how it stops."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import pykka

from callboard.actors.batches.ports import BatchStore
from callboard.actors.batches.provider import BatchProvider
from callboard.actors.batches.providers import Providers
from callboard.actors.clock import Clock, SystemClock
from callboard.actors.errors import ConfigurationError, RuntimeStopped
from callboard.actors.executors.job_finder import refuse_while_importing
from callboard.actors.jobs.definition import JobRegistry, default_registry
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.spawning import Spawning
from callboard.actors.loop_dispatcher import LoopDispatcher
from callboard.actors.ref import EventRef
from callboard.actors.result_watcher import LookUp
from callboard.actors.settings import Settings
from callboard.actors.statistics import SystemStatistics
from callboard.actors.system import ActorSystem
from callboard.persistence import stores
from callboard.persistence.stores import StoreParts
from callboard.supervision.health import HealthRegistry
from callboard.supervision.leadership import CurrentLeadership
from callboard.supervision.metrics import PrometheusTelemetry
from callboard.supervision.supervisor_messages import CountChildren, TerminateChild

from . import tree
from .batch_client import BatchClient
from .batch_desk import BatchDesk
from .client import JobClient
from .exposure import Exposure
from .incarnation import Incarnation
from .vital_signs import VitalSigns
from .worker import Worker

_log = logging.getLogger(__name__)

_NO_STATISTICS = SystemStatistics({}, {})


class Runtime(JobClient, BatchClient):
    """Callboard in one process; an async context manager that runs on the event loop where it is entered.

    ::

        async with Runtime(Settings(database_url="postgresql://...")) as runtime:
            ref = await runtime.spawn(summarize, 42)
            print(await ref.result(timeout=30))

    Args:
        settings: default: read from the environment (``CALLBOARD_...``).
        work: whether this process runs jobs too (default). A process that only spawns says ``work=False``.
        registry: the jobs that this process can run; default: everything decorated with ``@job`` and imported.
        parts: the store; default PostgreSQL at ``settings.database_url``. ``callboard.testing`` passes the memory one.
        clock: the time.
        incarnation: what a parent process has decided for this one; default: nothing, as there is none.
        providers: who runs LLM batches, by name, beside (or in the place of) ``anthropic`` and ``openai``.

    Attributes:
        settings: as given.
        node: this process's name in history and listings.
        telemetry: its measurements; ``telemetry.registry`` is what ``/metrics`` shows.
        health: what the probes ask.

    Raises:
        ConfigurationError: there is no database URL.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        work: bool = True,
        registry: JobRegistry = default_registry,
        parts: StoreParts | None = None,
        clock: Clock | None = None,
        incarnation: Incarnation | None = None,
        providers: Mapping[str, BatchProvider] | None = None,
    ) -> None:
        self.settings = settings or Settings()
        if parts is None and self.settings.database_url is None:
            raise ConfigurationError(
                "no database: CALLBOARD_DATABASE_URL is not set, and neither is Settings(database_url=...). Set one of "
                "them to a PostgreSQL URL, or try `callboard dev`, which starts a private server"
            )
        self._work = work
        self._registry = registry
        self._clock = clock or SystemClock()
        self._incarnation = incarnation or Incarnation(self.settings.node())
        self.node = self._incarnation.node
        self.health = HealthRegistry(self._clock, hang_limit_seconds=self.settings.hang_limit_seconds)
        self._leadership = CurrentLeadership()
        self.telemetry = PrometheusTelemetry(
            version=importlib.metadata.version("callboard"),
            statistics=self._statistics,
            jobs_running=self._jobs_running,
            readiness_state=self.health.readiness_state,
            leads=self._leadership.leads,
        )
        self._parts = parts or stores.postgres(self.settings, self.telemetry)
        super().__init__(
            self._parts.store,
            Spawning(
                uuid7.many,
                payload_limit_bytes=self.settings.payload_limit_bytes,
                callback_trusted_hosts=self.settings.callback_trusted_hosts,
            ),
            self.telemetry,
            actor=f"{'node' if work else 'client'}:{self.node}",
            poll_interval_seconds=self.settings.poll_interval_seconds,
        )
        self._providers = Providers(providers or {}, request_timeout_seconds=self.settings.llm_request_timeout_seconds)
        self._system: ActorSystem | None = None
        self._worker: Worker | None = None
        self._exposure = Exposure(self.settings, self._incarnation, self.telemetry, self.health, self._clock)
        self._root_watch: asyncio.Task[None] | None = None
        self._given_up = asyncio.Event()
        self._started = False
        self._stopping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Runtime:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # Starting

    async def start(self) -> None:
        """Connect, check the schema, start the supervised parts.

        Raises:
            StoreUnavailable, ServerTooOld, SchemaMissing, SchemaMismatch: the database is not usable; nothing runs.
            ConfigurationError: the metrics port is taken, there can be no admin socket in its folder, the runtime was
                started before, or a module starts it that a job's child process imports.
        """
        refuse_while_importing()
        if self._started:
            raise ConfigurationError("this runtime was started before; make a new Runtime to start again")
        self._started = True
        try:
            await self._parts.store.open()
            self.health.store_checked()
            await self._start_parts()
        except BaseException:
            await self.stop(drain_timeout_seconds=0)
            raise
        self.health.startup_finished()

    async def _start_parts(self) -> None:
        self._system = system = ActorSystem(
            loop_dispatcher=LoopDispatcher.attach(asyncio.get_running_loop()),
            clock=self._clock,
            ask_timeout_seconds=self.settings.ask_timeout_seconds,
        )
        if self._work:
            self._worker = self._make_worker(system)
            await self._worker.start()
        await self._exposure.start(system)
        self._running = True
        await self._supervise(system)

    def _make_worker(self, system: ActorSystem) -> Worker:
        for queue, slots in self.settings.queues.items():
            self.telemetry.set_job_slots(queue, slots)
        return Worker(
            self.settings,
            self._parts,
            system,
            registry=self._registry,
            spawning=self._spawning,
            waiters=self._waiters,
            telemetry=self.telemetry,
            clock=self._clock,
            node=self.node,
            ended_nodes=self._incarnation.ended_nodes,
            batch_desk=BatchDesk(
                self._parts.store.batches,
                self._parts.store.llm_requests,
                self._providers,
                self.settings,
                actor=self._actor,
            ),
        )

    async def _supervise(self, system: ActorSystem) -> None:
        serves_metrics = self.settings.metrics_port is not None
        signs = VitalSigns(self.node, self._parts, self.health, self.telemetry, self._worker)
        spec = tree.root(
            tree.Parts(
                node=self.node,
                settings=self.settings,
                store=self._parts,
                waiters=self._waiters,
                worker=self._worker,
                beat=signs.beat,
                check_store=signs.check_store if self._work or serves_metrics else None,
                on_hint=self._on_hint,
                providers=self._providers,
                leadership=self._leadership,
                telemetry=self.telemetry,
                clock=self._clock,
            )
        )
        root = system.spawn(spec.actor_class, *spec.args, name=spec.name, **spec.kwargs)
        self._root_watch = asyncio.get_running_loop().create_task(self._watch_root(root))
        try:
            await root.ask(CountChildren(), block=False)  # answered once every child has started
        except pykka.ActorDeadError as error:
            ended = await root.termination()
            raise ended.exception or error from error

    @property
    def batch_store(self) -> BatchStore:
        """The batches of a started runtime. Raises ``RuntimeStopped``."""
        return self.store.batches

    @property
    def _batch_desk(self) -> BatchDesk:
        store = self.store
        return BatchDesk(store.batches, store.llm_requests, self._providers, self.settings, actor=self._actor)

    async def _watch_root(self, root: EventRef[Any]) -> None:
        ended = await root.termination()
        if self._system is not None:  # nobody asked it to
            reason = str(ended.exception or ended.reason)
            _log.critical("the root supervisor ended (%s): this process does no more work, restart it", reason)
            self.health.gave_up(reason)
            self._refuse(f"the root supervisor gave up ({reason}); the job itself is not touched")
            self._given_up.set()

    @property
    def metrics_url(self) -> str | None:
        """Where ``/metrics`` and the probes are served, without a path; None where they are not."""
        return self._exposure.metrics_url

    @property
    def admin_socket(self) -> Path | None:
        """The socket that ``callboard actor`` uses, while it is served; None where it is not."""
        return self._exposure.admin_socket

    def take_over(self, nodes: Sequence[str]) -> None:
        """Take back at once what ran in processes that are dead for certain: see ``Incarnation.ended_nodes``."""
        if self._worker is not None:
            self._worker.take_over(nodes)

    async def stop_serving(self) -> None:
        """Stop serving ``/metrics`` and the probes; for a process whose successor serves them from now on."""
        await self._exposure.stop_metrics()

    # Stopping

    async def stop(self, *, drain_timeout_seconds: float | None = None) -> None:
        """Stop in order: claim no more, let jobs end, write everything, close everything.

        A second call, also one beside the first, waits for the first one's end.

        Args:
            drain_timeout_seconds: how long running jobs may take; what has not ended by then goes back to its queue
                without a counted attempt. Default: ``settings.drain_timeout_seconds``.
        """
        if self._stopping is None:
            timeout = self.settings.drain_timeout_seconds if drain_timeout_seconds is None else drain_timeout_seconds
            self._stopping = asyncio.ensure_future(self._stop(timeout))
        await asyncio.shield(self._stopping)

    async def _stop(self, drain_timeout_seconds: float) -> None:
        self.health.draining()
        system, self._system = self._system, None
        worker = None if system is None else self._worker  # which hears of cancelled jobs, and of hurry, until drained
        if worker is not None:
            worker.running.close()  # at once: handing over may take the leader some seconds
        async with AsyncExitStack() as stack:  # the last one first, each whatever became of the others
            stack.push_async_callback(self._parts.store.close)
            stack.push_async_callback(self._providers.close)
            stack.push_async_callback(self._exposure.stop_admin)
            stack.push_async_callback(self.stop_serving)
            if worker is not None:
                stack.push_async_callback(worker.stop)
            if system is not None:
                stack.push_async_callback(self._end_actors, system)
            stack.callback(self._refuse, "the runtime stopped while somebody waited; the job itself is not touched")
            if worker is not None:
                stack.push_async_callback(self._end_jobs, worker, drain_timeout_seconds)
            if system is not None:
                stack.push_async_callback(self._hand_over, system)

    async def _hand_over(self, system: ActorSystem) -> None:
        """Let another node lead at once: jobs may take their time to end."""
        root = system.registry.get("root")
        if root is not None:
            try:
                await root.ask(TerminateChild("leader"), block=False)
            except pykka.ActorDeadError:
                _log.debug("the root ended first, and the leader with it")

    async def _end_jobs(self, worker: Worker, drain_timeout_seconds: float) -> None:
        if self._given_up.is_set():
            await worker.abandon_jobs()
        else:
            await worker.drain(drain_timeout_seconds)
        self._worker = None

    async def _end_actors(self, system: ActorSystem) -> None:
        try:
            root = system.registry.get("root")
            if root is not None:
                root.shutdown()
                await root.termination()
        finally:
            await system.aclose()
            if self._root_watch is not None:
                await self._root_watch

    def _refuse(self, reason: str) -> None:
        """Refuse everything from now on, and end every wait."""
        self._running = False
        self._waiters.fail(RuntimeStopped(reason))

    def stop_waiting_for_jobs(self) -> None:
        """Cut a stop's draining short: what runs is told to end and goes back to its queue."""
        if self._worker is not None:
            self._worker.put_back_now()

    async def wait_given_up(self) -> None:
        """Return when the root supervisor has given up: too many restarts in too short a time. End the process then."""
        await self._given_up.wait()

    # What the parts tell each other

    def _on_hint(self, topic: str, detail: str) -> None:
        match topic:
            case "runnable":
                self._spawned(detail)
            case "cancelled":
                self._were_cancelled((UUID(detail),))
            case "freed":
                self._look()
            case "callback":
                self._deliver_callbacks()
            case "ended":
                self._look_up_results()
            case "controls":
                self._parts.store.controls.invalidate()
                self._look()
            case "listening":
                self._parts.store.controls.invalidate()
                self._look_up_results()
                self._look()
        self.pulse.beat()

    def _spawned(self, queue: str) -> None:
        if queue in self.settings.queues:
            self._look()

    def _deliver_callbacks(self) -> None:
        if self._worker is not None:
            self._worker.deliver_callbacks()

    def _look(self) -> None:
        if self._worker is not None:
            self._worker.look()

    def _wait_begins(self) -> None:
        self._look_up_results()

    def _look_up_results(self) -> None:
        watcher = None if self._system is None else self._system.registry.get("result_watcher")
        if watcher is not None:
            watcher.send(LookUp())

    def _were_cancelled(self, job_ids: Sequence[UUID]) -> None:
        if self._worker is not None:
            for job_id in job_ids:
                self._worker.job_cancelled(job_id)

    # What a scrape asks, in the scraper's thread

    def _statistics(self) -> SystemStatistics:
        system = self._system
        return _NO_STATISTICS if system is None else system.statistics.snapshot()

    def _jobs_running(self) -> Mapping[str, int]:
        return {} if self._worker is None else self._worker.running.by_kind()
