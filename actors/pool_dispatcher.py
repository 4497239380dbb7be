"""Actors on a bounded pool of threads, for handlers that block."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .errors import ConfigurationError
from .waits import refuse_on_dispatcher_loop, this_thread

if TYPE_CHECKING:
    from .cell import ActorCell


class PoolDispatcher:
    """Runs actors on threads that it starts as they are needed.

    A thread that waits for another actor's answer does not count: another takes its place, so that waiting actors
    never hold up the rest, until ``max_waiting_threads`` wait.

    Args:
        max_threads: most threads that run handlers at a time; default 16.
        max_waiting_threads: most threads beyond these, standing in for ones that wait; default 64.
        throughput: most messages of one actor before its thread looks for another; default 32.

    Raises:
        ConfigurationError: a bound is too small.
    """

    def __init__(self, *, max_threads: int = 16, max_waiting_threads: int = 64, throughput: int = 32) -> None:
        for name, value, least in (
            ("max_threads", max_threads, 1),
            ("max_waiting_threads", max_waiting_threads, 0),
            ("throughput", throughput, 1),
        ):
            if value < least:
                raise ConfigurationError(f"{name} {value!r}: expected {least} or more")
        self._max_threads = max_threads
        self._max_waiting_threads = max_waiting_threads
        self._throughput = throughput
        self._ready: deque[ActorCell] = deque()
        self._state = threading.Condition(threading.Lock())  # guards everything below, and _ready
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._waiting = 0
        self._closed = False

    @property
    def threads(self) -> int:
        """How many threads there are now."""
        with self._state:
            return len(self._threads)

    def execute(self, cell: ActorCell) -> None:
        """Run ``cell`` soon, on one of the threads. Any thread."""
        with self._state:
            self._ready.append(cell)
            self._state.notify()
            self._grow_if_short()

    def _grow_if_short(self) -> None:
        stand_ins = min(self._waiting, self._max_waiting_threads)
        if len(self._ready) > self._idle and len(self._threads) < self._max_threads + stand_ins:
            thread = threading.Thread(target=self._work, name="callboard-pool", daemon=True)
            self._threads.add(thread)
            thread.start()

    def _work(self) -> None:
        with asyncio.Runner() as runner:
            this_thread.runner = runner
            while (cell := self._next()) is not None:
                this_thread.cell = cell
                try:
                    cell.run(self._throughput)
                finally:
                    this_thread.cell = None

    def _next(self) -> ActorCell | None:
        """Return the next actor to run; None if this thread is to end."""
        with self._state:
            while not self._ready or self._is_surplus():
                if self._closed or self._is_surplus():
                    self._threads.discard(threading.current_thread())
                    self._state.notify_all()
                    return None
                self._idle += 1
                self._state.wait()
                self._idle -= 1
            return self._ready.popleft()

    def _is_surplus(self) -> bool:
        return len(self._threads) - self._waiting > self._max_threads

    def run_coroutine(self, cell: ActorCell, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a handler's coroutine to its end, on a loop of this thread."""
        loop = this_thread.runner.get_loop()
        cell.task = task = loop.create_task(coroutine)
        if cell.killing:  # the kill may have looked for a task just before there was one
            task.cancel()
        loop.run_until_complete(asyncio.wait((task,)))
        cell.take_outcome(task)

    def cancel_coroutine(self, cell: ActorCell) -> None:
        """Cancel the handler's task on its thread's loop."""
        task = cell.task
        if task is not None:
            task.get_loop().call_soon_threadsafe(task.cancel)

    @contextmanager
    def blocking(self) -> Iterator[None]:
        """Let another thread take this one's place while it waits."""
        with self._state:
            self._waiting += 1
            self._grow_if_short()
        try:
            yield
        finally:
            with self._state:
                self._waiting -= 1

    def close(self) -> None:
        """End the threads and wait for them. Twice is fine."""
        refuse_on_dispatcher_loop("closing a dispatcher")
        with self._state:
            self._closed = True
            self._state.notify_all()
            threads = list(self._threads)
        for thread in threads:
            thread.join()
