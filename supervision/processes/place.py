"""What stays of a supervised process from one to the next: its place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

from callboard.actors.errors import ActorError, ProcessExited

from .control import Hurry, Notice
from .linked_process import Launch, LinkedProcess
from .process_end import exit_cause, process_exited
from .process_limits import ProcessLimits
from .spare import Spare
from .telemetry import NoProcessTelemetry, ProcessTelemetry

_log = logging.getLogger(__name__)


class Program(Protocol):
    """What is run in a place, one process after the other."""

    def launch(self) -> Launch:
        """Return how to start and prepare a process."""

    def assignment(self) -> Mapping[str, Any]:
        """Return what the next process is to do, as JSON. It was started by ``launch``, or was the spare."""

    def reaped(self, assignment: Mapping[str, Any]) -> None:
        """A process that was told to do this is dead, for certain, and nothing of it is left."""


class ProcessPlace:
    """The processes of one supervised child: the one that works, and those that still end.

    To be used on the event loop of the actors.

    Args:
        name: of the place, in the log and in metrics.
        program: what is run.
        limits: of each process.
        telemetry: measurements; default: none.
        spare: where a prepared process may be; default: nowhere, each one is started anew.

    Attributes:
        ending: whether the end was asked for: nothing is started any more.
        failure: how the last process that failed has failed; None if none has.
        failed_at: when (the loop's time).
    """

    def __init__(
        self,
        name: str,
        program: Program,
        limits: ProcessLimits,
        telemetry: ProcessTelemetry | None = None,
        spare: Spare | None = None,
    ) -> None:
        self.name = name
        self.limits = limits
        self.telemetry: ProcessTelemetry = telemetry or NoProcessTelemetry()
        self.ending = False
        self.failure: ProcessExited | None = None
        self.failed_at = 0.0
        self._program = program
        self._spare = spare
        self._ahead: LinkedProcess | None = None
        self._processes: dict[LinkedProcess, Mapping[str, Any] | None] = {}  # and what each was told to do

    def __str__(self) -> str:
        return f"process {self.name}"

    @property
    def processes(self) -> tuple[LinkedProcess, ...]:
        """Those that have not been reaped, the oldest first."""
        return tuple(self._processes)

    @property
    def works(self) -> bool:
        """Whether a process works here now."""
        return any(process.ready.done() and not process.asked_to_end for process in self._processes)

    @property
    def starts(self) -> bool:
        """Whether a process is being started here."""
        return any(not process.ready.done() for process in self._processes)

    def prepare(self) -> LinkedProcess | None:
        """Start the first process ahead of its actor, so that it prepares itself; None if that is not to be.

        What goes wrong with it fails the start of the actor.
        """
        if self.ending or self._processes:
            return None
        try:
            self._ahead = self._launch()
        except OSError as error:
            _log.debug("%s cannot be prepared ahead: %s", self, error)  # its actor tries again, and reports
        return self._ahead

    async def start(self) -> LinkedProcess:
        """Have a process that works here: the prepared one, the spare, or a new one. Wait until it is ready.

        Raises:
            ProcessExited: it cannot be started, ended before it was ready, or was killed because it took too long.
            ActorError: the end was asked for.
        """
        if self.ending:
            raise ActorError(f"{self} is to end: nothing is started in its place")
        process = self._next()
        if process in self._processes:  # or it has ended already, while it prepared itself
            self._processes[process] = assignment = self._program.assignment()
            process.assign(assignment)
        self.telemetry.process_started(self.name)
        timeout = self.limits.start_timeout_seconds
        await asyncio.wait((process.ready, process.exited), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if process.ready.done():  # if it has ended since, its actor will hear of that
            return process
        if not process.exited.done():
            process.kill(f"it was not ready within {timeout:g} s")
        returncode = await asyncio.shield(process.exited)
        raise self.failed(process, returncode, "before it was ready")

    def _next(self) -> LinkedProcess:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            return ahead
        spare = None if self._spare is None else self._spare.take()
        if spare is not None:
            _log.info("%s: the spare process (pid %d) takes the place", self, spare.pid)
            self._welcome(spare)
            return spare
        try:
            return self._launch()
        except OSError as error:
            raise self._note(ProcessExited(f"{self} cannot be started: {error}", exit_code=None)) from error

    def _launch(self) -> LinkedProcess:
        process = LinkedProcess(self._program.launch())
        self._welcome(process)
        return process

    def _welcome(self, process: LinkedProcess) -> None:
        self._processes[process] = None
        process.exited.add_done_callback(partial(self._reaped, process))

    def failed(self, process: LinkedProcess, returncode: int, when: str = "") -> ProcessExited:
        """Note and return how a process has failed."""
        return self._note(process_exited(str(self), process, returncode, when))

    def _note(self, failure: ProcessExited) -> ProcessExited:
        self.failure, self.failed_at = failure, asyncio.get_running_loop().time()
        return failure

    def look(self) -> None:
        """Count the silence since the last look, and kill what is silent for too long.

        What is counted is looks, not time: a parent that was itself stopped finds that all have been silent meanwhile.
        """
        limit = self.limits.silence_limit_seconds
        for process in self.processes:
            process.silent_seconds += self.limits.look_interval_seconds
            if limit is not None and process.ready.done() and process.silent_seconds > limit:
                process.kill(f"its event loop has been silent for {process.silent_seconds:.1f} s")

    def begin_end(self) -> None:
        """Ask all processes to end in order, and start no other; their actor need not know yet."""
        self.ending = True
        self._terminate()

    def tell(self, document: Mapping[str, Any]) -> None:
        """Tell the process that works something that its program wants to know."""
        for process in self.processes:
            if process.ready.done():
                process.send(Notice(document))

    def hurry(self) -> None:
        """Tell the processes that end not to wait any longer."""
        for process in self.processes:
            process.send(Hurry())

    async def end_in_order(self) -> None:
        """Ask all processes to end; return when they are reaped. Those that take too long are killed."""
        self._terminate()
        while self._processes:
            await asyncio.wait(
                [process.exited for process in self._processes], timeout=self.limits.look_interval_seconds
            )
            self.look()

    def _terminate(self) -> None:
        for process in self.processes:
            process.terminate(self.limits.stop_timeout_seconds)

    def kill(self, reason: str) -> None:
        """Kill the process that works, or is to. Replaced ones go on to end in order."""
        self._ahead = None
        for process in self.processes:
            if not process.retired:
                process.kill(reason)

    async def wait_reaped(self) -> None:
        """Return when no process is left, but replaced ones, and one that was started ahead."""
        while left := [each.exited for each in self.processes if not (each.retired or each is self._ahead)]:
            await asyncio.wait(left)

    def _reaped(self, process: LinkedProcess, exited: asyncio.Future[int]) -> None:
        returncode = exited.result()
        if process.killed_for:
            _log.error("%s (pid %d) was killed: %s", self, process.pid, process.killed_for)
        assignment = self._processes.pop(process, None)
        if assignment is not None:
            self._program.reaped(assignment)
        self.telemetry.process_exited(self.name, exit_cause(process, returncode))
