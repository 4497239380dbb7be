"""What stays of a supervised process from one to the next: its place."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from callboard.actors.errors import ActorError, ConfigurationError, ProcessExited
from callboard.actors.exit_status import describe_exit

from .control import Hurry, Notice
from .linked_process import Launch, LinkedProcess
from .telemetry import ExitCause, NoProcessTelemetry, ProcessTelemetry

_log = logging.getLogger(__name__)

_SUPERVISORS_MARGIN_SECONDS: Final = 5.0


class Program(Protocol):
    """What is run in a place, one process after the other."""

    def launch(self) -> Launch:
        """Return how to start the next process."""

    def reaped(self, launch: Launch) -> None:
        """A process that was started so is dead, for certain, and nothing of it is left."""


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """How long a process may take, and how much it may use.

    Attributes:
        start_timeout_seconds: from its start until it says that it is ready; then it is killed. Default 60.
        stop_timeout_seconds: from SIGTERM until its end; then it is killed. Default 35.
        silence_limit_seconds: how long its event loop may give no sign of life; then it is killed. Default (None): no
            limit, for programs that do not beat.
        memory_limit_bytes: resident memory beyond which it is replaced by another one. Default (None): no limit.
        look_interval_seconds: how often silence and memory are looked at. Default 1.

    Raises:
        ConfigurationError: a value is not more than 0.
    """

    start_timeout_seconds: float = 60.0
    stop_timeout_seconds: float = 35.0
    silence_limit_seconds: float | None = None
    memory_limit_bytes: int | None = None
    look_interval_seconds: float = 1.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigurationError(f"process limit {name} {value!r}: expected a number of more than 0")

    @property
    def shutdown_seconds(self) -> float:
        """What the child specification of a process should say: the process's own limit comes first."""
        return self.stop_timeout_seconds + _SUPERVISORS_MARGIN_SECONDS


class ProcessPlace:
    """The processes of one supervised child: the one that works, and those that still end.

    To be used on the event loop of the actors.

    Args:
        name: of the place, in the log and in metrics.
        program: what is run.
        limits: of each process.
        telemetry: measurements; default: none.

    Attributes:
        ending: whether the end was asked for: nothing is started any more.
        failure: how the last process that failed has failed; None if none has.
        failed_at: when (the loop's time).
    """

    def __init__(
        self, name: str, program: Program, limits: ProcessLimits, telemetry: ProcessTelemetry | None = None
    ) -> None:
        self.name = name
        self.limits = limits
        self.telemetry: ProcessTelemetry = telemetry or NoProcessTelemetry()
        self.ending = False
        self.failure: ProcessExited | None = None
        self.failed_at = 0.0
        self._program = program
        self._processes: dict[LinkedProcess, Launch] = {}

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

    async def start(self) -> LinkedProcess:
        """Start a process, and wait until it is ready.

        Raises:
            ProcessExited: it cannot be started, ended before it was ready, or was killed because it took too long.
            ActorError: the end was asked for.
        """
        if self.ending:
            raise ActorError(f"{self} is to end: nothing is started in its place")
        launch = self._program.launch()
        try:
            process = LinkedProcess(launch)
        except OSError as error:
            raise self._note(ProcessExited(f"{self} cannot be started: {error}", exit_code=None)) from error
        self._processes[process] = launch
        process.exited.add_done_callback(partial(self._reaped, process))
        self.telemetry.process_started(self.name)
        timeout = self.limits.start_timeout_seconds
        await asyncio.wait((process.ready, process.exited), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if process.ready.done() and not process.exited.done():
            return process
        if not process.exited.done():
            process.kill(f"it was not ready within {timeout:g} s")
        returncode = await asyncio.shield(process.exited)
        raise self.failed(process, returncode, "before it was ready")

    def failed(self, process: LinkedProcess, returncode: int, when: str = "") -> ProcessExited:
        """Note and return how a process has failed."""
        reason = f"killed: {process.killed_for}" if process.killed_for else describe_exit(returncode)
        said = f": {process.last_message}" if process.last_message else ""
        failure = ProcessExited(
            f"{self} (pid {process.pid}) {' '.join(filter(None, (reason, when)))}{said}",
            exit_code=returncode if returncode >= 0 else None,
            signal_number=-returncode if returncode < 0 else None,
            last_message=process.last_message,
        )
        return self._note(failure)

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
        for process in self.processes:
            if not process.retired:
                process.kill(reason)

    async def wait_reaped(self) -> None:
        """Return when no process is left, replaced ones aside."""
        while left := [process.exited for process in self.processes if not process.retired]:
            await asyncio.wait(left)

    def _reaped(self, process: LinkedProcess, exited: asyncio.Future[int]) -> None:
        returncode = exited.result()
        if process.killed_for:
            _log.error("%s (pid %d) was killed: %s", self, process.pid, process.killed_for)
        self._program.reaped(self._processes.pop(process))
        self.telemetry.process_exited(self.name, exit_cause(process, returncode))


def exit_cause(process: LinkedProcess, returncode: int) -> ExitCause:
    """Return the metric's word for the end of a process."""
    if process.killed_for:
        return "killed"
    if process.asked_to_end and returncode in (0, -signal.SIGTERM):
        return "asked"
    if returncode == 0:
        return "normal"
    return "error" if returncode > 0 else "signal"
