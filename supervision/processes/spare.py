"""The spare process: it has prepared itself, and waits for a place to work in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from .linked_process import Launch, LinkedProcess
from .process_end import exit_cause
from .process_limits import ProcessLimits
from .telemetry import NoProcessTelemetry, ProcessTelemetry

SPARE_NAME: Final = "spare"
"""In the log and in metrics, where places have their numbers."""
_ENDS_WITHIN_SECONDS: Final = 2.0
"""It has nothing to finish."""
_LOOKS_WITHOUT_SIGN: Final = 3
"""One that has been silent for so many looks may live, but a new one is the safer choice."""


class Spare:
    """At most one process, in no place yet. To be used on the event loop of the actors.

    Args:
        launch: how to start and prepare one; it must fit each place.
        limits: of the process; ``start_timeout_seconds`` until it is prepared.
        telemetry: measurements; default: none.

    Attributes:
        process: the one that waits, or prepares itself; None: there is none.
        taken_at: when a place took one last (the loop's time).
        ending: whether the end was asked for: nothing is started any more.
    """

    def __init__(
        self, launch: Callable[[], Launch], limits: ProcessLimits, telemetry: ProcessTelemetry | None = None
    ) -> None:
        self.limits = limits
        self.telemetry: ProcessTelemetry = telemetry or NoProcessTelemetry()
        self.process: LinkedProcess | None = None
        self.taken_at = float("-inf")
        self.ending = False
        self._launch = launch

    def start(self) -> LinkedProcess:
        """Start a process; there is none so far.

        Raises:
            OSError: it cannot be started.
        """
        self.process = process = LinkedProcess(self._launch())
        process.exited.add_done_callback(partial(self._reaped, process))
        self.telemetry.process_started(SPARE_NAME)
        return process

    def _reaped(self, process: LinkedProcess, exited: asyncio.Future[int]) -> None:
        if process is self.process:  # of one that was taken, its place thinks
            self.process = None
            self.telemetry.process_exited(SPARE_NAME, exit_cause(process, exited.result()))

    def take(self) -> LinkedProcess | None:
        """Give the process away to a place, which tells it what to do; None if there is none that lives.

        One that still prepares itself is given, too: it is further than a new one.
        """
        process = self.process
        if process is None or process.exited.done() or process.asked_to_end or process.killed_for:
            return None
        if process.prepared.done() and process.silent_seconds > _LOOKS_WITHOUT_SIGN * self.limits.look_interval_seconds:
            return None
        self.process = None
        self.taken_at = asyncio.get_running_loop().time()
        self.telemetry.process_memory(SPARE_NAME, 0)
        process.silent_seconds = 0.0
        return process

    def look(self) -> None:
        """Measure, and kill what is not prepared in time, or is silent for too long: it could not take a place."""
        process, limits = self.process, self.limits
        if process is None:
            return
        self.telemetry.process_memory(SPARE_NAME, process.memory_bytes())
        process.silent_seconds += limits.look_interval_seconds
        if not process.prepared.done():
            # Silence, in looks, so that a parent that was stopped itself is not misled.
            if process.silent_seconds > limits.start_timeout_seconds:
                process.kill(f"it was not prepared within {limits.start_timeout_seconds:g} s")
        elif limits.silence_limit_seconds is not None and process.silent_seconds > limits.silence_limit_seconds:
            process.kill(f"it has been silent for {process.silent_seconds:.1f} s")

    def begin_end(self) -> None:
        """Ask the process to end, and start no other; the actor need not know yet."""
        self.ending = True
        if self.process is not None:
            self.process.terminate(_ENDS_WITHIN_SECONDS)

    async def end_in_order(self) -> None:
        """Ask the process to end; return when it is reaped. One that takes too long is killed."""
        while self.process is not None:
            self.process.terminate(_ENDS_WITHIN_SECONDS)
            await asyncio.wait([self.process.exited])

    def kill(self, reason: str) -> None:
        """Kill the process, if there is one."""
        if self.process is not None:
            self.process.kill(reason)
