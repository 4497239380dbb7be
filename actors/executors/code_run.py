"""One call on the thread that runs it, and its cancellation from another one."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Final

from callboard.actors.jobs.call import Call, Outcome, Raised

_log = logging.getLogger(__name__)

LEFTOVERS_END_SECONDS: Final = 1.0
"""How long tasks that a coroutine job left behind may take to end."""


class CodeRun:
    """Runs a call once.

    Args:
        call: what to run.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._task: asyncio.Task[Outcome] | None = None
        self._cancelled = False

    def cancel(self) -> None:
        """Cancel a coroutine where it waits, or before it begins. A plain function looks at its context. Any thread."""
        with self._lock:
            self._cancelled = True
            if self._task is not None:
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def run(self, runner: asyncio.Runner) -> Outcome:
        """Run the call in this thread, on ``runner``'s loop if it is a coroutine. Never raises."""
        try:
            if self._call.definition.is_coroutine:
                return runner.run(self._run_coroutine())
            return self._call.run_blocking()
        except BaseException as exception:  # noqa: BLE001 - a task that the function started may raise SystemExit out of
            return Raised(exception)  # the thread's loop, and must not end the thread without an answer

    async def _run_coroutine(self) -> Outcome:
        with self._lock:
            self._task = asyncio.current_task()
            if self._cancelled:
                return Raised(asyncio.CancelledError())
        try:
            ended: list[Outcome] = []
            await self._call.run(ended.append)
            return ended[0]
        finally:
            with self._lock:
                self._task = None
            await _end_leftover_tasks()


async def _end_leftover_tasks() -> None:
    """End what the function started and left behind: it must not run on under the next job."""
    leftovers = asyncio.all_tasks() - {asyncio.current_task()}
    for task in leftovers:
        task.cancel()
    if leftovers:
        _, stubborn = await asyncio.wait(leftovers, timeout=LEFTOVERS_END_SECONDS)
        for task in stubborn:
            _log.warning("a task that a job left behind ignores its cancellation: %r", task)
