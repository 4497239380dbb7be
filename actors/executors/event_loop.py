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
        self._abandoned: set[asyncio.Task[Outcome]] = set()

    def start(self, call: Call, on_start: OnStart, on_finish: OnFinish) -> EventLoopExecution:
        """Run a call now. On the loop's thread only."""
        task = self._loop.create_task(call.run())
        on_start()
        return EventLoopExecution(self, task, on_finish, call.definition.kind)

    @property
    def abandoned(self) -> int:
        """How many abandoned tasks still run."""
        return len(self._abandoned)

    def close(self, timeout_seconds: float) -> None:
        """Nothing to wait for: tasks end with the loop."""

    def keep_abandoned(self, task: asyncio.Task[Outcome]) -> None:
        """Hold on to a task that nobody waits for: the loop's own references are weak."""
        self._abandoned.add(task)
        task.add_done_callback(self._abandoned.discard)


class EventLoopExecution:
    """A task, and whom to tell about its end."""

    __slots__ = ("_executor", "_kind", "_on_finish", "_task")

    def __init__(
        self, executor: EventLoopExecutor, task: asyncio.Task[Outcome], on_finish: OnFinish, kind: str
    ) -> None:
        self._executor = executor
        self._kind = kind
        self._task = task
        self._on_finish: OnFinish | None = on_finish
        task.add_done_callback(self._done)

    def cancel(self) -> None:
        """Cancel the task."""
        self._task.cancel()

    def abandon(self) -> bool:
        """Stop waiting for the task. False if it had ended, or was abandoned before."""
        if self._task.done() or self._on_finish is None:
            return False
        self._on_finish = None
        self._executor.keep_abandoned(self._task)
        _log.warning("a job of kind %s ignores its cancellation and still runs on the event loop", self._kind)
        return True

    def _done(self, task: asyncio.Task[Outcome]) -> None:
        if self._on_finish is None:
            return
        # A task that is cancelled before its first step never enters `Call.run`.
        if task.cancelled():
            outcome: Outcome = Raised(asyncio.CancelledError())
        else:
            # GeneratorExit leaves `Call.run`; the job ends by it like by any other.
            exception = task.exception()
            outcome = task.result() if exception is None else Raised(exception)
        self._on_finish(outcome)
