"""A bounded set of threads that take calls in order of arrival: what the executors of threads and processes share."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from enum import Enum, auto
from typing import Generic, TypeVar

from callboard.actors.jobs.call import Call, Outcome

from .base import OnFinish, OnStart

_log = logging.getLogger(__name__)

E = TypeVar("E", bound="PooledExecution")


class State(Enum):
    """Where a call is."""

    WAITING = auto()
    RUNNING = auto()
    FINISHED = auto()
    ABANDONED = auto()


class PooledExecution:
    """One call, waiting for a thread or taken by one. Its state changes under the pool's lock."""

    def __init__(self, call: Call, on_start: OnStart, on_finish: OnFinish) -> None:
        self.call = call
        self.on_start = on_start
        self.on_finish = on_finish
        self.state = State.WAITING
        self.thread: threading.Thread | None = None


class Pool(ABC, Generic[E]):
    """Threads that are started when calls wait for one, up to a bound, and live until the pool is closed.

    Threads are daemons so that code which does not end cannot keep the process alive.

    Args:
        max_threads: how many calls run at a time; more wait.
        name: of the threads, before their number.
    """

    def __init__(self, max_threads: int, *, name: str) -> None:
        self._max_threads = max_threads
        self._name = name
        self._changed = threading.Condition()
        self._waiting: deque[E] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._abandoned = 0
        self._closed = False
        self._numbers = itertools.count(1)

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
        """How many threads have a call that is not abandoned."""
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

    def withdraw(self, execution: E) -> bool:
        """Take back a call that still waits for a thread."""
        with self._changed:
            if execution.state is not State.WAITING:
                return False
            self._waiting.remove(execution)
            execution.state = State.FINISHED
            return True

    @abstractmethod
    def _serve(self) -> None:
        """Take and run calls until ``_closing``: the body of a thread."""

    def _put(self, execution: E) -> E:
        """Let a call wait for its turn.

        Raises:
            RuntimeError: the pool is closed, or the system lets no thread start and there is none yet.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError("the executor is closed: the runtime that owned it has stopped")
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

    def _add_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}-{next(self._numbers)}", daemon=True)
        thread.start()  # it waits for the lock that we hold
        self._threads.add(thread)

    def _work(self) -> None:
        try:
            self._serve()
        finally:
            with self._changed:
                self._threads.discard(threading.current_thread())

    def _next(self, timeout_seconds: float | None = None) -> E | None:
        """Take the next call. None: the time is over, or nothing waits and nothing will, see ``_closing``."""
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout_seconds)
            self._idle -= 1
            if not self._waiting:
                return None
            execution = self._waiting.popleft()
            execution.state = State.RUNNING
            execution.thread = threading.current_thread()
            return execution

    @property
    def _closing(self) -> bool:
        with self._changed:
            return self._closed and not self._waiting

    def _finish(self, execution: E, outcome: Outcome) -> bool:
        """Tell how a call ended. False if it was abandoned: nobody is told."""
        with self._changed:
            if execution.state is State.ABANDONED:
                self._abandoned -= 1
                return False
            execution.state = State.FINISHED
        execution.on_finish(outcome)
        return True

    def _abandon(self, execution: E, *, replace_thread: bool) -> bool:
        """Give up a running call; its thread too, which another one replaces if calls wait. False: it does not run."""
        with self._changed:
            if execution.state is not State.RUNNING or execution.thread is None:
                return False
            execution.state = State.ABANDONED
            self._abandoned += 1
            if replace_thread:
                self._threads.discard(execution.thread)
                if self._waiting:  # even while closing: who waits gets an answer
                    with contextlib.suppress(RuntimeError):  # no thread can be started: the next that gets free serves
                        self._add_thread()
            return True
