"""Runs jobs in child processes: the one kind of code that can be ended whatever it does."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import NamedTuple

from callboard.actors.errors import ProcessDied
from callboard.actors.exit_status import describe_exit
from callboard.actors.jobs.call import Call, Outcome, Raised
from callboard.actors.jobs.types import AttemptKey

from .base import OnFinish, OnStart
from .job_process import JobProcess
from .pool import Pool, PooledExecution, State
from .process_limits import ProcessEnd, ProcessLimits, has_room, is_worn_out
from .process_messages import Logged, Ready
from .process_output import log_record
from .process_run import LOOK_SECONDS, ProcessRun

_log = logging.getLogger(__name__)


class ProcessState(NamedTuple):
    """One process, seen from outside."""

    pid: int
    is_busy: bool
    memory_bytes: int
    """Resident."""


class ProcessExecutor(Pool["ProcessExecution"]):
    """A pool of warm child processes, one call at a time each; one thread here serves each of them.

    A process is started when a call needs one, and used again. It is replaced when it has died, was killed, has run
    ``limits.max_jobs`` jobs, or occupies more than ``limits.max_memory_bytes`` after one.

    A call that does not end when asked is killed with its process, and with the programs that it has started.
    Arguments, results and failures cross as JSON. A memory limit is about resident memory, looked at 20 times a second:
    ``RLIMIT_AS`` would count what NumPy, threads and allocators reserve and never use.

    Args:
        max_processes: how many calls run at a time; more wait in order of arrival.
        limits: when a process is replaced.
        on_end: told of each process that ended before the executor was closed, and why. Any thread.
    """

    def __init__(self, max_processes: int, limits: ProcessLimits, on_end: Callable[[ProcessEnd], None]) -> None:
        super().__init__(max_processes, name="callboard-process")
        self._limits = limits
        self._on_end = on_end
        self._processes: set[JobProcess] = set()

    def start(self, call: Call, on_start: OnStart, on_finish: OnFinish) -> ProcessExecution:
        """Run a call in the next free process.

        Raises:
            RuntimeError: the executor is closed, or the system lets no thread start and there is none yet.
        """
        return self._put(ProcessExecution(self, call, on_start, on_finish))

    def processes(self) -> list[ProcessState]:
        """Return what the processes do that live. Any thread."""
        with self._changed:
            processes = list(self._processes)
        return [ProcessState(process.pid, process.is_busy, process.memory_bytes) for process in processes]

    def abandon(self, execution: ProcessExecution) -> bool:
        """Kill the process of a running call. False if the call had ended."""
        if not self._abandon(execution, replace_thread=False):
            return False
        process = execution.process
        _log.warning(
            "a job of kind %s does not end when asked: its process %s is killed",
            execution.call.definition.kind,
            "(still starting)" if process is None else process.pid,
        )
        if process is not None:
            process.kill()
        return True

    # The thread of one process

    def _serve(self) -> None:
        process: JobProcess | None = None
        try:
            while not self._closing:
                process = process or self._start()  # before a call is taken: one that waits goes to a warm process
                execution = self._next(LOOK_SECONDS)
                if process is not None:
                    process = self._look(process)
                if execution is not None:
                    process = self._run(process, execution)
        finally:
            if process is not None:
                process.end()
                self._forget(process)

    def _look(self, process: JobProcess) -> JobProcess | None:
        """Hear what an idle process says. None if it has died, which must not cost the next job an attempt."""
        try:
            while (message := process.receive(0)) is not None:
                if isinstance(message, Logged):
                    log_record(message, process.source, None)
        except EOFError:
            self._end(process, "crashed")
            return None
        process.read_outputs()
        return process

    def _run(self, process: JobProcess | None, execution: ProcessExecution) -> JobProcess | None:
        """Run a call, and tell how it ended. Returns the process for the next one."""
        process = self._suitable(process, execution.call)
        if process is None:
            self._finish(execution, Raised(ProcessDied("no process could be started for the job: the log says why")))
            return None
        outcome, end = self._follow(process, execution)
        if end is not None:
            process.kill()
        if not self._finish(execution, outcome):
            end = "stopped"
        elif end is None and is_worn_out(process.jobs_run, process.memory_bytes, self._limits):
            end = "recycled"
        if end is None:
            return process
        self._end(process, end)
        return None

    def _suitable(self, process: JobProcess | None, call: Call) -> JobProcess | None:
        limit = call.definition.memory_limit_bytes
        if process is not None and limit is not None and not has_room(process.jobs_run, process.memory_bytes, limit):
            self._end(process, "recycled")
            process = None
        return process or self._start()

    def _follow(self, process: JobProcess, execution: ProcessExecution) -> tuple[Outcome, ProcessEnd | None]:
        call = execution.call
        with self._changed:  # from now on cancels and kills reach the process
            execution.process = process
            wanted = not execution.cancelled and execution.state is State.RUNNING
        if not wanted:
            return Raised(asyncio.CancelledError()), None
        process.begin(f"job {call.claimed.id} ({call.definition.kind})")
        try:
            return ProcessRun(process, call, execution.on_start, self._limits.start_timeout_seconds).follow()
        finally:
            process.finish()

    # Starting and ending processes

    def _start(self) -> JobProcess | None:
        """Start a process, and wait until it is ready. None, and a line in the log, if it does not get there."""
        try:
            process = JobProcess()
        except OSError as error:
            _log.error("a job process cannot be started: %s", error)
            return None
        with self._changed:
            self._processes.add(process)
        try:
            while not isinstance(message := process.receive(self._limits.start_timeout_seconds), Ready):
                if message is None:
                    _log.error(
                        "job process %d was not ready within %g s and is killed",
                        process.pid,
                        self._limits.start_timeout_seconds,
                    )
                    self._end(process, "not_ready")
                    return None
        except EOFError:
            self._end(process, "crashed")
            return None
        return process

    def _end(self, process: JobProcess, end: ProcessEnd) -> None:
        returncode = process.end() if end == "recycled" else process.reap()
        self._forget(process)
        if end == "crashed":
            _log.warning("job process %d %s", process.pid, describe_exit(returncode))
        self._on_end(end)

    def _forget(self, process: JobProcess) -> None:
        with self._changed:
            self._processes.discard(process)


class ProcessExecution(PooledExecution):
    """One call, waiting for a process or running in one."""

    def __init__(self, executor: ProcessExecutor, call: Call, on_start: OnStart, on_finish: OnFinish) -> None:
        super().__init__(call, on_start, on_finish)
        self._executor = executor
        self._attempt = AttemptKey(call.claimed.id, call.claimed.token)
        self.process: JobProcess | None = None
        self.cancelled = False

    def cancel(self) -> None:
        """Withdraw the call if it waits, otherwise tell the process: a coroutine is cancelled, a function may look."""
        if self._executor.withdraw(self):
            self.on_finish(Raised(asyncio.CancelledError()))
            return
        self.cancelled = True
        process = self.process
        if process is not None:
            process.cancel(self._attempt)

    def abandon(self) -> bool:
        """Kill the process. False if the call had ended."""
        return self._executor.abandon(self)


def available_cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return (len(affinity(0)) if affinity is not None else os.cpu_count()) or 1
