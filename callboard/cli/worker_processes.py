"""The parent of several worker processes: a supervisor, an endpoint, and no job."""

from __future__ import annotations

import asyncio
import faulthandler
import importlib.metadata
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from typing import Any, Final

from callboard import CallboardError, ConfigurationError, Settings
from callboard.actors.clock import SystemClock
from callboard.actors.executors.process import available_cores
from callboard.actors.loop_dispatcher import LoopDispatcher
from callboard.actors.messages import Terminated
from callboard.actors.periodic import Periodic
from callboard.actors.ref import EventRef
from callboard.actors.system import ActorSystem
from callboard.supervision.admin_server import AdminServer
from callboard.supervision.administration import Administration
from callboard.supervision.backoff import Backoff
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.endpoint import Endpoint, listen
from callboard.supervision.health import HealthRegistry
from callboard.supervision.metrics import PrometheusTelemetry
from callboard.supervision.processes.linked_process import LinkedProcess
from callboard.supervision.processes.place import ProcessPlace
from callboard.supervision.processes.preparation import prepare_all
from callboard.supervision.processes.process_actor import ProcessActor
from callboard.supervision.processes.spare import Spare
from callboard.supervision.processes.spare_actor import SpareActor
from callboard.supervision.supervisor import Supervisor
from callboard.supervision.supervisor_messages import CountChildren

from .errors import ExitCode, WorkerProcessFailed
from .serving import loop_factory, with_admin_socket
from .shutdown import ShutdownSignals
from .worker_program import (
    BEAT_INTERVAL_SECONDS,
    WorkerOptions,
    WorkerProgram,
    process_limits,
    worker_launch,
)

_log = logging.getLogger("callboard.cli")

BACKOFF: Final = Backoff(initial_seconds=0.02, max_seconds=2.0)
"""The first restart is as good as immediate."""
_REMEMBERED_NODES: Final = 20
_LAST_CHANCE_SECONDS: Final = 1.0
"""For processes that no actor has ended: they do not work yet, and SIGTERM is enough."""
_REAP_SECONDS: Final = 5.0
_STDERR: Final = 2
_ANY_ADDRESS: Final = ("", "0.0.0.0", "::")


class WorkerProcess(ProcessActor):
    """A worker that is a process."""


def serve_processes(settings: Settings, signals: ShutdownSignals, options: WorkerOptions) -> None:
    """Run ``settings.processes`` workers until a signal.

    Args:
        settings: of the workers, and of this process.
        signals: entered by the caller.
        options: what the workers are told besides.

    Raises:
        ConfigurationError: a port is taken, or there are not enough above the first one; nothing was started.
        WorkerProcessFailed: a worker did not start, or they crashed too often.
    """
    faulthandler.register(signal.SIGUSR1, file=_STDERR, all_threads=True)
    with ExitStack() as stack:
        sockets = [stack.enter_context(each) for each in listening_sockets(settings)]
        with asyncio.Runner(loop_factory=loop_factory(settings)) as runner:
            runner.run(_serve(with_admin_socket(settings), signals, options, sockets))


def listening_sockets(settings: Settings) -> list[socket.socket]:
    """Return the parent's socket and those of the processes, at the port of the settings and those above it.

    They are the parent's for as long as it lives, so that a place keeps its port from one process to the next.

    Raises:
        ConfigurationError: there are not so many ports, or one is taken.
    """
    port, processes = settings.metrics_port, settings.processes
    if port is None:
        return []
    if port and port + processes > 65535:
        raise ConfigurationError(
            f"--metrics-port {port}: got --processes {processes}, which need the ports up to {port + processes}; "
            f"expected at most {65535 - processes}, or 0 for free ones, or none"
        )
    with ExitStack() as opened:
        sockets = [
            opened.enter_context(listen(settings.metrics_host, port + offset if port else 0))
            for offset in range(processes + 1)
        ]
        opened.pop_all()  # none was refused: they stay open
    return sockets


async def _serve(
    settings: Settings, signals: ShutdownSignals, options: WorkerOptions, sockets: Sequence[socket.socket]
) -> None:
    await _Parent(settings, options, sockets).run(signals)


class _Parent:
    """Starts the processes, and waits for a signal, or for them to fail."""

    def __init__(self, settings: Settings, options: WorkerOptions, sockets: Sequence[socket.socket]) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._health = HealthRegistry(self._clock, hang_limit_seconds=settings.hang_limit_seconds, uses_store=False)
        self._system = ActorSystem(
            loop_dispatcher=LoopDispatcher.attach(asyncio.get_running_loop()),
            clock=self._clock,
            # A child has started when its process is ready; the process has its own, shorter limit for that.
            ask_timeout_seconds=settings.process_start_timeout_seconds + settings.ask_timeout_seconds,
        )
        self._telemetry = PrometheusTelemetry(
            version=importlib.metadata.version("callboard"),
            statistics=self._system.statistics.snapshot,
            readiness_state=self._health.readiness_state,
        )
        self._sockets = sockets
        self._spare = self._make_spare(options)
        self._places = self._make_places(options)

    def _make_places(self, options: WorkerOptions) -> list[ProcessPlace]:
        settings = self._settings
        ended_nodes: deque[str] = deque(maxlen=_REMEMBERED_NODES)
        programs = (
            WorkerProgram(
                number,
                settings,
                options,
                listening=self._sockets[number] if self._sockets else None,
                ended_nodes=ended_nodes,
                on_ended=self._node_ended,
            )
            for number in range(1, settings.processes + 1)
        )
        limits = process_limits(settings)
        return [
            ProcessPlace(str(number), each, limits, self._telemetry, self._spare)
            for number, each in enumerate(programs, 1)
        ]

    def _make_spare(self, options: WorkerOptions) -> Spare | None:
        if not self._settings.process_spare:
            return None
        launch = partial(worker_launch, self._settings, options, number=None, sockets=self._sockets[1:])
        return Spare(launch, process_limits(self._settings), self._telemetry)

    def _node_ended(self, node: str) -> None:
        """Tell those that work, at once: the next process of that place may take a while to start."""
        for place in self._places:
            if not place.ending:
                place.tell({"ended_nodes": [node]})

    def _specs(self) -> list[ChildSpec]:
        heart = ChildSpec("heart", Periodic, (self._beat,), {"interval_seconds": BEAT_INTERVAL_SECONDS})
        processes = [
            ChildSpec(f"process-{place.name}", WorkerProcess, (place,), shutdown_seconds=place.limits.shutdown_seconds)
            for place in self._places
        ]
        spare = [] if self._spare is None else [ChildSpec("spare", SpareActor, (self._spare, self._places))]
        return [heart, *processes, *spare]

    async def _beat(self) -> None:
        self._health.beat()
        for place in self._places:
            if place.works:
                self._health.part_working(str(place))
            else:
                self._health.part_failing(str(place), "it does not run, or is being started")

    async def run(self, signals: ShutdownSignals) -> None:
        """Run until a signal.

        Raises:
            WorkerProcessFailed: as ``serve_processes``.
        """
        signals.at_last(self._kill_at_once)
        stop = asyncio.create_task(signals.wait_stop())
        async with AsyncExitStack() as stack:
            if self._sockets:
                endpoint = Endpoint(
                    self._telemetry.registry,
                    self._health,
                    documents={"/targets": self._targets},
                    host=self._settings.metrics_host,
                    listening=self._sockets[0].dup(),
                )
                endpoint.start()
                stack.push_async_callback(asyncio.to_thread, endpoint.stop)
            stack.push_async_callback(self._end_rest)
            await self._serve_admin(stack)
            preparing = asyncio.create_task(prepare_all(self._places, at_a_time=available_cores()))
            stack.push_async_callback(_cancel, preparing)
            root = self._system.spawn(
                Supervisor,
                self._specs(),
                name="root",
                intensity=self._settings.max_process_restarts,
                period_seconds=self._settings.process_restart_period_seconds,
                backoff=BACKOFF,
                telemetry=self._telemetry,
            )
            await self._run(root, stop, signals)

    async def _run(self, root: EventRef[Supervisor], stop: asyncio.Task[None], signals: ShutdownSignals) -> None:
        ended = asyncio.ensure_future(_end_of(root))
        # Answered once every process is ready; each has its own limit for that.
        patience = self._settings.processes * self._system.ask_timeout_seconds
        started = asyncio.ensure_future(_answer(root.ask(CountChildren(), block=False, timeout=patience)))
        await asyncio.wait({stop, ended, started}, return_when=asyncio.FIRST_COMPLETED)
        if started.done() and started.exception() is None:
            self._announce()
            await asyncio.wait({stop, ended}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.done():
            end = await ended  # the question was refused because of it
            raise self._failure(end, was_ready=started.exception() is None)
        self._health.draining()
        _log.info(
            "stopping %d processes: jobs have %.0f s to end%s",
            len(self._places),
            self._settings.drain_timeout_seconds,
            signals.advice,
        )
        # All at once, so that it takes one drain timeout and not one each. The supervisor first: it must not restart
        # those that end before it comes to them.
        root.shutdown()
        self._begin_end()
        signals.on_second(partial(self._hurry, signals))
        await asyncio.gather(ended, started, return_exceptions=True)
        _log.info("stopped")

    def _announce(self) -> None:
        self._health.startup_finished()
        _log.info("%d worker processes run; %s", len(self._places), self._where())

    def _where(self) -> str:
        if not self._sockets:
            return "no metrics"
        urls = [f"http://{each}/metrics" for each in self._addresses()]
        return f"supervisor: {urls[0]}; processes: {', '.join(urls[1:])}; list of these: /targets on the first"

    def _addresses(self) -> list[str]:
        host = self._settings.metrics_host
        host = socket.gethostname() if host in _ANY_ADDRESS else host
        shown = f"[{host}]" if ":" in host else host
        return [f"{shown}:{each.getsockname()[1]}" for each in self._sockets]

    def _targets(self) -> list[Mapping[str, Any]]:
        """Return the processes' endpoints as Prometheus' HTTP service discovery wants them."""
        return [
            {"targets": [address], "labels": {"callboard_process": place.name}}
            for place, address in zip(self._places, self._addresses()[1:], strict=True)
        ]

    async def _serve_admin(self, stack: AsyncExitStack) -> None:
        if self._settings.admin_socket_directory is None:
            return
        process = {
            "node": f"{socket.gethostname()}:{os.getpid()}",
            "started_at": self._clock.now().isoformat(timespec="milliseconds"),
            "metrics_url": f"http://{self._addresses()[0]}" if self._sockets else None,
        }
        admin = AdminServer(self._settings.admin_socket_directory, Administration(self._system, process).answer)
        await admin.start()
        stack.push_async_callback(admin.stop)

    # The end

    def _failure(self, end: Terminated, *, was_ready: bool) -> CallboardError:
        last = max(self._places, key=lambda place: place.failed_at).failure
        reason = str(last if last is not None else end.exception or end.reason)
        if was_ready:
            return WorkerProcessFailed(f"worker processes crashed too often, the last one so: {reason}")
        known = {int(each): each for each in ExitCode if each is not ExitCode.OK}
        code = known.get((last and last.exit_code) or ExitCode.FAILED, ExitCode.FAILED)
        return WorkerProcessFailed(f"a worker process did not start: {reason}", code=code)

    def _hurry(self, signals: ShutdownSignals) -> None:
        _log.warning("%s: all processes are told to hurry", signals.hurried)
        for place in self._places:
            place.hurry()

    def _kill_at_once(self) -> None:
        """In a signal handler: no locks, no log."""
        for process in self._processes():
            process.kill_from_signal_handler()

    def _begin_end(self) -> None:
        if self._spare is not None:
            self._spare.begin_end()
        for place in self._places:
            place.begin_end()

    async def _end_rest(self) -> None:
        self._begin_end()
        await self._system.aclose()
        await self._wait_exits(_LAST_CHANCE_SECONDS)
        for process in self._processes():
            process.kill("its parent ends")
        await self._wait_exits(_REAP_SECONDS)

    async def _wait_exits(self, timeout_seconds: float) -> None:
        exits = [process.exited for process in self._processes()]
        if exits:
            await asyncio.wait(exits, timeout=timeout_seconds)

    def _processes(self) -> list[LinkedProcess]:
        """Return all that have not been reaped, the spare included."""
        spare = None if self._spare is None else self._spare.process
        return [each for place in self._places for each in place.processes] + ([] if spare is None else [spare])


async def _end_of(root: EventRef[Supervisor]) -> Terminated:
    return await root.termination()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def _answer(future: Any) -> None:
    await future
