"""One call in one child process, followed from the worker until it ends, whichever way."""

from __future__ import annotations

import json
import logging
import time
from typing import Final

from callboard.actors.errors import MemoryLimitExceeded, ProcessDied
from callboard.actors.exit_status import describe_exit
from callboard.actors.jobs.call import Call, Judged, Outcome, Raised, Returned
from callboard.actors.jobs.definition import importable_module

from .base import OnStart
from .job_process import JobProcess
from .process_limits import ProcessEnd
from .process_messages import Finished, Logged, Message, Reported, Run, Started
from .process_output import log_record

_log = logging.getLogger(__name__)

MEMORY_LOOK_SECONDS: Final = 0.05
"""How often the memory of a process is looked at whose job has a limit."""
LOOK_SECONDS: Final = 1.0
"""How often a process is looked at that says nothing: whether it lives, and whether it should have begun."""
LAST_WORDS_SECONDS: Final = 1.0
"""A process that hangs up is ending; so long it may take until its own reason counts, and not our kill."""


class ProcessRun:
    """Follows one call.

    Args:
        process: idle.
        call: what to run.
        on_start: called when the function begins.
        start_timeout_seconds: how long the process may take until then.
    """

    def __init__(self, process: JobProcess, call: Call, on_start: OnStart, start_timeout_seconds: float) -> None:
        self._process = process
        self._call = call
        self._on_start = on_start
        self._start_timeout_seconds = start_timeout_seconds
        self._begun = False

    def follow(self) -> tuple[Outcome, ProcessEnd | None]:
        """Run the call. Returns how it ended, and how the process did, if it cannot be used any more."""
        try:
            return self._follow(), None
        except MemoryLimitExceeded as error:
            return Raised(error.with_traceback(None)), "memory_limit"
        except TimeoutError as error:
            return Raised(ProcessDied(str(error))), "not_ready"
        except EOFError:
            return Raised(self._death()), "crashed"
        except Exception as error:  # noqa: BLE001 - a defect of ours: the thread goes on, the process does not
            _log.exception("job %s cannot be followed in its process", self._call.claimed.id)
            return Raised(error), "crashed"

    def _follow(self) -> Outcome:
        kind, limit_bytes = self._call.definition.kind, self._call.definition.memory_limit_bytes
        if kind in self._process.kinds:
            self._begin()
        self._send()
        begin_by = time.monotonic() + self._start_timeout_seconds
        while True:
            message = self._process.receive(LOOK_SECONDS if limit_bytes is None else MEMORY_LOOK_SECONDS)
            if isinstance(message, Finished):
                return self._outcome(message)
            if message is not None:
                self._hear(message)
            if limit_bytes is not None:
                self._check_memory(limit_bytes)
            if not self._begun and time.monotonic() > begin_by:
                raise TimeoutError(
                    f"the process of job {kind} did not begin within {self._start_timeout_seconds:g} s "
                    f"(CALLBOARD_JOB_PROCESS_START_TIMEOUT_SECONDS), in which it has to start and to import "
                    f"{importable_module(self._call.definition.function)}; it was killed"
                )

    def _send(self) -> None:
        call, function = self._call, self._call.definition.function
        try:
            self._process.send(
                Run(importable_module(function), function.__qualname__, call.claimed, call.result_limit_bytes)
            )
        except OSError as error:
            raise EOFError from error

    def _begin(self) -> None:
        self._begun = True
        self._on_start()

    def _hear(self, message: Message) -> None:
        match message:
            case Started():
                self._process.kinds.add(self._call.definition.kind)
                self._begin()
            case Reported(report):
                self._call.context.progress(**json.loads(report))
            case Logged():
                log_record(message, self._process.source, self._call.claimed)
            case _:
                raise ValueError(f"a job process does not say {type(message).__name__}")

    def _outcome(self, finished: Finished) -> Outcome:
        context = self._call.context
        context.saw_cancelled = context.saw_cancelled or finished.saw_cancelled
        return Returned(finished.result) if finished.judgement is None else Judged(finished.judgement)

    def _check_memory(self, limit_bytes: int) -> None:
        used_bytes = self._process.memory_bytes
        if used_bytes > limit_bytes:
            raise MemoryLimitExceeded(
                f"job {self._call.definition.kind} took {used_bytes:,} bytes of memory, more than its "
                f"memory_limit_bytes={limit_bytes:,}; its process was killed. Give it more, or work in smaller pieces"
            )

    def _death(self) -> ProcessDied:
        """Say what a process died of that has hung up in the middle of a call."""
        by_itself = self._process.wait_ended(LAST_WORDS_SECONDS)
        end = (
            describe_exit(self._process.reap()) if by_itself else "closed its connection to the worker, and was killed,"
        )
        last_lines = self._process.last_error_lines
        last_words = "\n".join(["; its last lines on stderr:", *last_lines]) if last_lines else ""
        kind = self._call.definition.kind
        return ProcessDied(f"the process of job {kind} {end} in the middle of the attempt{last_words}")
