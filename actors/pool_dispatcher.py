"""Actors on a bounded pool of threads, for handlers that block."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .dispatcher import Abandoned
from .errors import ConfigurationError
from .waits import refuse_on_dispatcher_loop, this_thread

if TYPE_CHECKING:
    from .cell import ActorCell
    from .turns import Turns


_logger = logging.getLogger(__name__)


class PoolDispatcher:
    """Runs actors on threads that it starts as they are needed.

    A thread that waits for another actor's answer does not count: another takes its place, so that waiting actors
    never hold up the rest. Nor does one whose actor was killed while its handler ran: Python cannot end a thread, so
    it is abandoned, and what the handler still does comes to nothing. ``max_stand_ins`` bounds both.

    Args:
        max_threads: most threads that run handlers at a time; default 16.
        max_stand_ins: most threads beyond these, in place of waiting and abandoned ones; default 64.
        throughput: most messages of one actor before its thread looks for another; default 32.

    Raises:
        ConfigurationError: a bound is too small.
    """

    def __init__(self, *, max_threads: int = 16, max_stand_ins: int = 64, throughput: int = 32) -> None:
        for name, value, least in (
            ("max_threads", max_threads, 1),
            ("max_stand_ins", max_stand_ins, 0),
            ("throughput", throughput, 1),
        ):
            if value < least:
                raise ConfigurationError(f"{name} {value!r}: expected {least} or more")
        self._max_threads = max_threads
        self._max_stand_ins = max_stand_ins
        self._throughput = throughput
        self._ready: deque[ActorCell] = deque()
        self._state = threading.Condition(threading.Lock())  # guards everything below, and _ready
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._waiting = 0
        self._running: dict[ActorCell, threading.Thread] = {}
        self._abandoned: set[threading.Thread] = set()
        self._closed = False

    @property
    def threads(self) -> int:
        """How many threads there are now."""
        with self._state:
            return len(self._threads)

    @property
    def abandoned_threads(self) -> int:
        """How many threads still run a handler whose actor was killed."""
        with self._state:
            return len(self._abandoned)

    def execute(self, cell: ActorCell) -> None:
        """Run ``cell`` soon, on one of the threads. Any thread."""
        with self._state:
            self._ready.append(cell)
            self._state.notify()
            self._grow_if_short()

    def _grow_if_short(self) -> None:
        stand_ins = min(self._waiting + len(self._abandoned), self._max_stand_ins)
        if len(self._ready) > self._idle and len(self._threads) < self._max_threads + stand_ins:
            thread = threading.Thread(target=self._work, name="callboard-pool", daemon=True)
            thread.start()  # it waits for the lock that is held here
            self._threads.add(thread)

    def _work(self) -> None:
        with asyncio.Runner() as runner:
            this_thread.runner = runner
            while (cell := self._next()) is not None:
                this_thread.cell = cell
                try:
                    cell.run(self._throughput)
                except Abandoned:
                    pass  # it is another thread's now
                finally:
                    this_thread.cell = None
                    self._has_run(cell)

    def _has_run(self, cell: ActorCell) -> None:
        thread = threading.current_thread()
        with self._state:
            self._abandoned.discard(thread)
            if self._running.get(cell) is thread:
                del self._running[cell]

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
            cell = self._ready.popleft()
            self._running[cell] = threading.current_thread()
            return cell

    def _is_surplus(self) -> bool:
        return len(self._threads) - self._waiting - len(self._abandoned) > self._max_threads

    def run_coroutine(self, cell: Turns, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a handler's coroutine to its end, on a loop of this thread."""
        gate = cell.gate
        assert gate is not None
        loop = this_thread.runner.get_loop()
        cell.task = task = loop.create_task(coroutine)
        if cell.killing:  # the kill may have looked for a task just before there was one
            task.cancel()
        gate.release()
        loop.run_until_complete(asyncio.wait((task,)))
        if not gate.acquire(False):
            if not task.cancelled() and task.exception() is not None:
                _logger.warning("an abandoned coroutine ended with an exception", exc_info=task.exception())
            raise Abandoned
        cell.take_outcome(task)

    def lend_turn(self) -> None:
        """Do nothing: a task that waits for a pool's actor runs in another thread, or inside one of the actors."""

    def run_now(self, _cell: ActorCell, _message: Any, /) -> bool:
        """Return False: a pool's actors run on its threads only, each in its turn."""
        return False

    def make_gate(self) -> threading.Lock:
        """Return a taken lock; it is free only while a handler runs."""
        gate = threading.Lock()
        gate.acquire()
        return gate

    def interrupt(self, cell: ActorCell) -> None:
        """Cancel the handler's task on its thread's loop, or take the actor away from the thread of its handler."""
        task = cell.task
        if task is None and cell.gate is not None and cell.gate.acquire(False):
            task = cell.task  # it may have begun since
            cell.give_up_task()
            self._take_away(cell)
        if task is not None:
            task.get_loop().call_soon_threadsafe(task.cancel)

    def abandon(self, cell: ActorCell) -> None:
        """Take the actor away from the thread of its coroutine; ordinary handlers were abandoned at the kill."""
        if cell.task is not None and cell.gate is not None and cell.gate.acquire(False):
            cell.give_up_task()
            self._take_away(cell)

    def _take_away(self, cell: ActorCell) -> None:
        """Abandon the thread that runs a handler or hook; its gate was taken."""
        with self._state:
            thread = self._running.pop(cell, None)
            if thread is not None:  # else the handler has just returned, to find the gate taken
                self._abandoned.add(thread)
        self.execute(cell)

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
        """End the threads and wait for them, but not for abandoned ones. Twice is fine."""
        refuse_on_dispatcher_loop("closing a dispatcher")
        with self._state:
            self._closed = True
            self._state.notify_all()
            threads = self._threads - self._abandoned
        for thread in threads:
            thread.join()
