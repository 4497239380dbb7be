"""One of several worker processes: started by ``callboard worker --processes N``, and by nobody else.

It first prepares itself: it imports what it and its jobs need. Then it waits for its part, which comes at once if it
was started for a place, and when another process has died if it is the spare. Until then SIGTERM ends it.

From then on it obeys its parent: SIGTERM asks it to drain, once or often; to hurry, or that another process has taken
its place, it is told over the control pipe. SIGINT is the parent's affair.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final

from callboard import CallboardError, ConfigurationError, Runtime, Settings, StoreUnavailable
from callboard.actors.child_process import resident_memory_bytes
from callboard.actors.ports import NoTelemetry
from callboard.garbage import settle_collector
from callboard.incarnation import Incarnation
from callboard.persistence import stores
from callboard.supervision.processes.parent_link import ParentLink

from .assignment import Assignment, Preparation
from .errors import ExitCode, exit_code, masked
from .logs import ProcessMark, configure_logging
from .modules import import_modules, require_jobs
from .serving import announce_worker, serve
from .shutdown import StopRequests
from .worker_program import beat_interval_seconds, stop_timeout_seconds

_log = logging.getLogger("callboard.cli")

_STORE_INTERVAL_SECONDS: Final = 0.5


class ParentOrders(StopRequests):
    """What the parent wants, while a runtime works for it."""

    def __init__(self, link: ParentLink, assignment: Assignment, settings: Settings) -> None:
        super().__init__()
        self._link = link
        self._assignment = assignment
        self._settings = settings
        self._runtime: Runtime | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def obey(self) -> None:
        """Take orders from now on."""
        signal.signal(signal.SIGTERM, lambda *_: self.request_stop())
        self._link.listen(
            on_retire=self._retire,
            on_hurry=self.request_hurry,
            on_notice=self._notice,
            orphan_limit_seconds=stop_timeout_seconds(self._settings),
        )

    def runtime_started(self, runtime: Runtime) -> None:
        """Tell the parent, and begin to beat."""
        self._runtime = runtime
        announce_worker(runtime)
        self._keep(self._beat())
        self._link.ready()

    async def _beat(self) -> None:
        interval = beat_interval_seconds(self._settings)
        while True:
            self._link.beat()
            await asyncio.sleep(interval)

    def _retire(self) -> None:
        runtime = self._runtime
        if runtime is not None and self._loop is not None:
            # The successor listens on the same socket: it should get all scrapes.
            self._loop.call_soon_threadsafe(lambda: self._keep(runtime.stop_serving()))
        self.request_stop()

    def _notice(self, document: Mapping[str, Any]) -> None:
        runtime = self._runtime
        if runtime is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(runtime.take_over, document["ended_nodes"])

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def main() -> None:
    """Prepare, and work as the parent says; end with the exit code of ``callboard worker``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = ParentLink()
    preparation = Preparation.of(link.greeting)
    mark = ProcessMark(preparation.number)
    configure_logging(preparation.log_level, preparation.log_format, process=mark)
    try:
        sockets = [_listening(descriptor) for descriptor in preparation.listening]
        prepare(preparation)
        assignment = _wait_assignment(link, preparation)
        mark.number = assignment.number
        _work(link, assignment, sockets)
    except CallboardError as error:
        if preparation.verbose:
            sys.stderr.write(masked("".join(traceback.format_exception(error))))
        link.failed(masked(" ".join(str(error).split())))
        sys.exit(exit_code(error))
    except Exception as error:
        link.failed(masked(f"{type(error).__name__}: {error}"))
        raise


def prepare(preparation: Preparation) -> None:
    """Import all that the work needs, and leave it out of the garbage collector's rounds.

    Raises:
        ConfigurationError: a module does not import, there is no job, or the memory limit is too low.
    """
    import_modules(preparation.modules)
    require_jobs(preparation.modules)
    check_memory(preparation.memory_limit_bytes)
    settle_collector()


def _wait_assignment(link: ParentLink, preparation: Preparation) -> Assignment:
    document = link.wait_assignment(beat_interval_seconds=preparation.beat_interval_seconds)
    if document is None:
        _log.error("the parent process is dead: this one, which waited for a part, ends")
        sys.exit(ExitCode.SOFTWARE)
    return Assignment.of(document)


def _work(link: ParentLink, assignment: Assignment, sockets: Sequence[socket.socket]) -> None:
    settings = Settings(**assignment.settings)
    listening = _keep_own(sockets, assignment.listening)
    if assignment.restarted:
        asyncio.run(wait_for_store(settings))
    orders = ParentOrders(link, assignment, settings)
    orders.obey()
    incarnation = Incarnation(assignment.node, assignment.ended_nodes, listening)
    serve(settings, orders, work=True, announce=orders.runtime_started, incarnation=incarnation)


def _listening(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    listening = socket.socket(fileno=descriptor)
    listening.setblocking(False)
    return listening


def _keep_own(sockets: Sequence[socket.socket], descriptor: int | None) -> socket.socket | None:
    """Close the sockets of other places."""
    own = None
    for each in sockets:
        if each.fileno() == descriptor:
            own = each
        else:
            each.close()
    return own


def check_memory(limit_bytes: int | None) -> None:
    """Refuse a limit that this process exceeds before it works: it would be replaced again and again.

    Raises:
        ConfigurationError: it does.
    """
    used_bytes = resident_memory_bytes(os.getpid())
    if limit_bytes is not None and used_bytes > limit_bytes:
        raise ConfigurationError(
            f"--memory-limit {limit_bytes} bytes: a process that runs no job yet uses {used_bytes} "
            f"({used_bytes / 2**20:.0f} MiB) already; give more"
        )


async def wait_for_store(settings: Settings, *, interval_seconds: float = _STORE_INTERVAL_SECONDS) -> None:
    """Return when the database answers: its outage is no crash of this process, and must not end the others.

    The parent's start timeout bounds the waiting, and SIGTERM still has its default action here.
    """
    store = stores.postgres(settings, NoTelemetry()).store
    try:
        while True:
            try:
                await store.open()
            except StoreUnavailable as error:
                _log.warning("waiting for the database: %s", error)
                await asyncio.sleep(interval_seconds)
            else:
                return
    finally:
        await store.close()


if __name__ == "__main__":
    main()
    sys.exit(ExitCode.OK)
