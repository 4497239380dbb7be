"""Running a runtime as a process: start, announce, wait for a signal, stop."""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import logging
import signal
from collections.abc import Callable
from typing import Any, Final

from callboard import ConfigurationError, Runtime, Settings
from callboard.actors.jobs.definition import default_registry
from callboard.garbage import settle_collector
from callboard.incarnation import Incarnation
from callboard.supervision import admin_sockets

from .errors import SupervisorGaveUp
from .modules import queues_of_jobs
from .shutdown import StopRequests

_log = logging.getLogger("callboard.cli")

_STDERR: Final = 2


def serve(
    settings: Settings,
    requests: StopRequests,
    *,
    work: bool,
    announce: Callable[[Runtime], None],
    incarnation: Incarnation | None = None,
) -> None:
    """Run a runtime until it is to stop.

    Args:
        settings: of the runtime.
        requests: what tells that it is to stop.
        work: whether it runs jobs.
        announce: called once it runs.
        incarnation: what a parent process has decided; default: there is none.

    Raises:
        CallboardError: it could not start.
        SupervisorGaveUp: it ended itself.
    """
    faulthandler.register(signal.SIGUSR1, file=_STDERR, all_threads=True)  # shows where a hung process hangs
    settle_collector()
    settings = with_admin_socket(settings)
    with asyncio.Runner(loop_factory=loop_factory(settings)) as runner:
        runner.run(_serve(settings, requests, work=work, announce=announce, incarnation=incarnation))


def announce_worker(runtime: Runtime) -> None:
    """Log what a worker is and does."""
    queues = ", ".join(f"{name}={slots}" for name, slots in runtime.settings.queues.items())
    metrics = "no metrics" if runtime.metrics_url is None else f"{runtime.metrics_url}/metrics"
    _log.info(
        "worker %s runs; queues: %s; kinds: %s; %s", runtime.node, queues, ", ".join(default_registry.kinds()), metrics
    )
    for queue in sorted(queues_of_jobs() - runtime.settings.queues.keys()):
        _log.info("no --queue %s: jobs that go there are left to other workers", queue)


def loop_factory(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop: uvloop's if the settings say so, else None, which is asyncio's own.

    Raises:
        ConfigurationError: uvloop is wanted and not installed.
    """
    if not settings.use_uvloop:
        return None
    try:
        uvloop: Any = importlib.import_module("uvloop")
    except ImportError as error:
        raise ConfigurationError(
            "CALLBOARD_USE_UVLOOP is set, but uvloop is not installed: pip install 'callboard[uvloop]', or unset it"
        ) from error
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def with_admin_socket(settings: Settings) -> Settings:
    """Unless a setting says otherwise, have an admin socket where ``callboard actor`` looks for it."""
    if "admin_socket_directory" in settings.model_fields_set:
        return settings
    directory = admin_sockets.default_directories()[0]
    try:
        admin_sockets.prepare(directory)
    except ConfigurationError as error:  # nobody asked for it: no reason not to work
        _log.warning("`callboard actor` cannot reach this process: %s", error)
        return settings
    return settings.model_copy(update={"admin_socket_directory": directory})


async def _serve(
    settings: Settings,
    requests: StopRequests,
    *,
    work: bool,
    announce: Callable[[Runtime], None],
    incarnation: Incarnation | None,
) -> None:
    stop = asyncio.create_task(requests.wait_stop())
    runtime = Runtime(settings, work=work, incarnation=incarnation)
    if not await _started(runtime, stop):
        return
    announce(runtime)
    gave_up = asyncio.create_task(runtime.wait_given_up())
    await asyncio.wait({stop, gave_up}, return_when=asyncio.FIRST_COMPLETED)
    if gave_up.done():
        await runtime.stop(drain_timeout_seconds=0)  # nothing is left that could write what a job becomes
        raise SupervisorGaveUp(
            "the root supervisor gave up: parts of this worker crashed too often, see the log above; start it again"
        )
    _log.info("stopping: running jobs have %.0f s to end%s", settings.drain_timeout_seconds, requests.advice)
    requests.on_second(lambda: _hurry(runtime, requests))
    await runtime.stop()
    gave_up.cancel()
    _log.info("stopped")


async def _started(runtime: Runtime, stop: asyncio.Task[None]) -> bool:
    """Start the runtime; False if a signal came first."""
    starting = asyncio.create_task(runtime.start())
    await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
        return True
    starting.cancel()
    await asyncio.wait({starting})
    return False


def _hurry(runtime: Runtime, requests: StopRequests) -> None:
    _log.warning("%s: jobs that still run are told to end, and go back to their queues uncounted", requests.hurried)
    runtime.stop_waiting_for_jobs()
