"""Runs blocking jobs in a bounded set of threads."""

from __future__ import annotations

import asyncio
import logging

from callboard.actors.jobs.call import Call, Outcome, Raised

from .base import OnFinish, OnStart
from .code_run import CodeRun
from .pool import Pool, PooledExecution

_log = logging.getLogger(__name__)


class ThreadExecutor(Pool["ThreadExecution"]):
    """A pool of our own, as ``ThreadPoolExecutor`` cannot replace a thread that never comes back.

    Each thread has an event loop of its own, closed when the thread ends. A coroutine can be cancelled; a plain
    function can only be asked (``JobContext.cancelled``), because CPython has no safe way to end a thread. One that
    does not answer is abandoned: another thread takes its place, its result is dropped, its attempt token fences off
    its writes.

    Args:
        max_threads: how many calls run at a time; more wait in order of arrival.
    """

    def __init__(self, max_threads: int) -> None:
        super().__init__(max_threads, name="callboard-job")

    def start(self, call: Call, on_start: OnStart, on_finish: OnFinish) -> ThreadExecution:
        """Run a call in the next free thread.

        Raises:
            RuntimeError: the executor is closed, or the system lets no thread start and there is none yet.
        """
        return self._put(ThreadExecution(self, call, on_start, on_finish))

    def abandon(self, execution: ThreadExecution) -> bool:
        """Give up a running call and put another thread into its thread's place."""
        if not self._abandon(execution, replace_thread=True):
            return False
        _log.warning(
            "a job of kind %s does not end when asked: its thread %s is abandoned, %d are now",
            execution.call.definition.kind,
            "" if execution.thread is None else execution.thread.name,
            self._abandoned,
        )
        return True

    def _serve(self) -> None:
        with asyncio.Runner() as runner:
            while (execution := self._next()) is not None:
                outcome = execution.run(runner)
                if not self._finish(execution, outcome):
                    break  # abandoned: another thread has taken our place


class ThreadExecution(PooledExecution):
    """One call, waiting for a thread or running in one."""

    def __init__(self, executor: ThreadExecutor, call: Call, on_start: OnStart, on_finish: OnFinish) -> None:
        super().__init__(call, on_start, on_finish)
        self._executor = executor
        self._code = CodeRun(call)

    def cancel(self) -> None:
        """Withdraw the call if it waits, cancel it if it is a coroutine, otherwise leave it to look at its context."""
        if self._executor.withdraw(self):
            self.on_finish(Raised(asyncio.CancelledError()))
        else:
            self._code.cancel()

    def abandon(self) -> bool:
        """Give the thread up. False if the call had ended."""
        return self._executor.abandon(self)

    def run(self, runner: asyncio.Runner) -> Outcome:
        """Run the call in this thread. Called by the executor."""
        self.on_start()
        return self._code.run(runner)
