"""Runs blocking and CPU-bound jobs in a bounded set of threads."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from enum import Enum, auto
from typing import Final

from callboard.actors.jobs.call import Call, Outcome, Raised

from .base import OnFinish, OnStart

_log = logging.getLogger(__name__)

LEFTOVERS_END_SECONDS: Final = 1.0
"""How long tasks that a coroutine job left behind may take to end."""


class _State(Enum):
    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()
    ABANDONED = auto()


class ThreadExecutor:
    """A pool of our own, as ``ThreadPoolExecutor`` cannot replace a thread that never comes back.

    Each thread has an event loop of its own, closed when the thread ends. A coroutine can be cancelled; a plain
    function can only be asked (``JobContext.cancelled``), because CPython has no safe way to end a thread. One that
    does not answer is abandoned: another thread takes its place, its result is dropped, its attempt token fences off
    its writes. Threads are daemons so that an abandoned one cannot keep the process alive.

    Args:
        max_threads: how many calls run at a time; more wait in order of arrival.
    """

    def __init__(self, max_threads: int) -> None:
        self._max_threads = max_threads
        self._changed = threading.Condition()
        self._waiting: deque[ThreadExecution] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._abandoned = 0
        self._closed = False
        self._numbers = itertools.count(1)

    def start(self, call: Call, on_start: OnStart, on_finish: OnFinish) -> ThreadExecution:
        """Run a call in the next free thread.

        Raises:
            RuntimeError: the executor is closed, or the system lets no thread start and there is none yet.
        """
        execution = ThreadExecution(self, call, on_start, on_finish)
        with self._changed:
            if self._closed:
                raise RuntimeError("the thread executor is closed: the runtime that owned it has stopped")
            self._waiting.append(execution)
            if self._idle < len(self._waiting) and len(self._threads) < self._max_threads:
                try:
                    self._add_thread()
                except RuntimeError:
                    if not self._threads:
                        self._waiting.remove(execution)
                        raise
                    _log.warning("no new thread can be started; the call waits for one of %d", len(self._threads))
            self._changed.notify()
        return execution

    @property
    def abandoned(self) -> int:
        """How many abandoned calls still run."""
        return self._abandoned

    @property
    def idle(self) -> int:
        """How many threads wait for a call."""
        return self._idle

    @property
    def busy(self) -> int:
        """How many threads run a call that is not abandoned."""
        return max(0, len(self._threads) - self._idle)

    def close(self, timeout_seconds: float) -> None:
        """Take no more calls; wait at most so long for the threads that are not abandoned.

        Calls that wait for a thread still run, so that each call taken gets its answer.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            threads = list(self._threads)
        deadline = time.monotonic() + timeout_seconds
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _add_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"callboard-job-{next(self._numbers)}", daemon=True)
        thread.start()  # it waits for the lock that we hold
        self._threads.add(thread)

    def _work(self) -> None:
        with asyncio.Runner() as runner:
            while (execution := self._next()) is not None:
                outcome = execution.run(runner)
                if not self._finish(execution):
                    break  # abandoned: another thread has taken our place
                execution.on_finish(outcome)
        with self._changed:
            self._threads.discard(threading.current_thread())

    def _next(self) -> ThreadExecution | None:
        with self._changed:
            self._idle += 1
            while not self._waiting and not self._closed:
                self._changed.wait()
            self._idle -= 1
            if not self._waiting:
                return None
            execution = self._waiting.popleft()
            execution.state = _State.RUNNING
            execution.thread = threading.current_thread()
            return execution

    def _finish(self, execution: ThreadExecution) -> bool:
        with self._changed:
            if execution.state is _State.ABANDONED:
                self._abandoned -= 1
                return False
            execution.state = _State.FINISHED
            return True

    def withdraw(self, execution: ThreadExecution) -> bool:
        """Take back a call that still waits for a thread."""
        with self._changed:
            if execution.state is not _State.WAITING:
                return False
            self._waiting.remove(execution)
            execution.state = _State.FINISHED
            return True

    def abandon(self, execution: ThreadExecution) -> bool:
        """Give up a running call and put another thread into its thread's place."""
        with self._changed:
            if execution.state is not _State.RUNNING or execution.thread is None:
                return False
            execution.state = _State.ABANDONED
            self._abandoned += 1
            self._threads.discard(execution.thread)
            if self._waiting:  # even while closing: who waits gets an answer
                with contextlib.suppress(RuntimeError):  # no thread can be started: the next one that gets free serves
                    self._add_thread()
        _log.warning(
            "a job of kind %s does not end when asked: its thread %s is abandoned, %d are now",
            execution.call.definition.kind,
            execution.thread.name,
            self._abandoned,
        )
        return True


class ThreadExecution:
    """One call, waiting for a thread or running in one."""

    def __init__(self, executor: ThreadExecutor, call: Call, on_start: OnStart, on_finish: OnFinish) -> None:
        self._executor = executor
        self._on_start = on_start
        self._task: asyncio.Task[Outcome] | None = None
        self._cancelled = False
        self._lock = threading.Lock()
        self.call = call
        self.on_finish = on_finish
        self.state = _State.WAITING
        self.thread: threading.Thread | None = None

    def cancel(self) -> None:
        """Withdraw the call if it waits, cancel it if it is a coroutine, otherwise leave it to look at its context."""
        if self._executor.withdraw(self):
            self.on_finish(Raised(asyncio.CancelledError()))
            return
        with self._lock:
            self._cancelled = True
            if self._task is not None:
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def abandon(self) -> bool:
        """Give the thread up. False if the call had ended."""
        return self._executor.abandon(self)

    def run(self, runner: asyncio.Runner) -> Outcome:
        """Run the call in this thread. Called by the executor."""
        self._on_start()
        try:
            if self.call.definition.is_coroutine:
                return runner.run(self._run_coroutine())
            return self.call.run_blocking()
        except BaseException as exception:  # noqa: BLE001 - a task that the function started may raise SystemExit out of
            return Raised(exception)  # the thread's loop, and must not end the thread without an answer

    async def _run_coroutine(self) -> Outcome:
        with self._lock:
            self._task = asyncio.current_task()
            if self._cancelled:
                return Raised(asyncio.CancelledError())
        try:
            return await self.call.run()
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
