"""Runs ``async def`` jobs as tasks on the runtime's own event loop."""

from __future__ import annotations

import asyncio
import logging

from callboard.actors.jobs.call import Call, Outcome, Raised

from .base import OnFinish, OnStart

_log = logging.getLogger(__name__)


class EventLoopExecutor:
    """One task for each call.

    A task that ignores its cancellation cannot be ended from outside (asyncio has no stronger means). It is abandoned:
    counted, logged, and fenced off by its attempt token.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._abandoned: set[asyncio.Task[None]] = set()

    def start(self, call: Call, on_start: OnStart, on_finish: OnFinish) -> EventLoopExecution:
        """Run a call now. On the loop's thread only."""
        execution = EventLoopExecution(self, on_finish, call.definition.kind)
        on_start()  # first: an eager task may have ended when `create_task` returns, and nobody is left to hear of it
        execution.task = self._loop.create_task(call.run(execution.finish))
        return execution

    @property
    def abandoned(self) -> int:
        """How many abandoned tasks still run."""
        return len(self._abandoned)

    def close(self, timeout_seconds: float) -> None:
        """Nothing to wait for: tasks end with the loop."""

    def keep_abandoned(self, task: asyncio.Task[None]) -> None:
        """Hold on to a task that nobody waits for: the loop's own references are weak."""
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)


class EventLoopExecution:
    """A task, and whom to tell about its end.

    The task itself tells that it ends: a callback of its own for each task would cost another round through the loop.
    Only a task that is asked to end gets one, as it may be cancelled before its first step.
    """

    __slots__ = ("_executor", "_kind", "_on_finish", "task")

    task: asyncio.Task[None]

    def __init__(self, executor: EventLoopExecutor, on_finish: OnFinish, kind: str) -> None:
        self._executor = executor
        self._kind = kind
        self._on_finish: OnFinish | None = on_finish

    def cancel(self) -> None:
        """Cancel the task."""
        self.task.add_done_callback(self._cancelled_unborn)
        self.task.cancel()

    def abandon(self) -> bool:
        """Stop waiting for the task. False if it had ended, or was abandoned before."""
        if self._on_finish is None or self.task.done():
            return False
        self._on_finish = None
        self._executor.keep_abandoned(self.task)
        _log.warning("a job of kind %s ignores its cancellation and still runs on the event loop", self._kind)
        return True

    def finish(self, outcome: Outcome) -> None:
        """Tell how the call ended, unless it was abandoned."""
        on_finish, self._on_finish = self._on_finish, None
        if on_finish is not None:
            on_finish(outcome)

    def _cancelled_unborn(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self.finish(Raised(asyncio.CancelledError()))
