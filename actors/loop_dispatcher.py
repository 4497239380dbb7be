"""Actors on one asyncio event loop, in one thread."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from .waits import dispatcher_loops, refuse_on_dispatcher_loop

if TYPE_CHECKING:
    from .cell import ActorCell
    from .turns import Turns

_logger = logging.getLogger(__name__)


class DelayedCall:
    """A call on a loop that is due later and can be cancelled from any thread."""

    __slots__ = ("_callback", "_dispatcher", "_handle")

    def __init__(self, dispatcher: LoopDispatcher, callback: Callable[[], object]) -> None:
        self._dispatcher = dispatcher
        self._callback: Callable[[], object] | None = callback
        self._handle: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        """Begin to count. On the loop."""
        if self._callback is not None:
            self._handle = loop.call_at(when, self._callback)

    def cancel(self) -> None:
        """See to it that the call does not come. Any thread; twice is fine."""
        self._callback = None
        self._dispatcher.call(self._cancel)

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class LoopDispatcher:
    """Runs actors on one event loop: its own, in a thread of its own, or with ``attach`` one that exists already.

    Handlers run one after the other, so none may block; ``async def`` handlers interleave at their awaits. After each
    slice of messages the loop's other work gets its turn.

    Args:
        throughput: most messages of one actor before the next actor gets its turn; default 32.
        slice_messages: about how many messages are handled before the loop's other work gets its turn; default 256.
    """

    def __init__(self, *, throughput: int = 32, slice_messages: int = 256) -> None:
        thread = threading.Thread(target=self._serve, name="callboard-loop", daemon=True)
        self._prepare(asyncio.new_event_loop(), thread, throughput, slice_messages)
        thread.start()

    @classmethod
    def attach(
        cls, loop: asyncio.AbstractEventLoop | None = None, *, throughput: int = 32, slice_messages: int = 256
    ) -> LoopDispatcher:
        """Run actors on an existing loop; by default the one that is running here.

        Raises:
            RuntimeError: no loop was given and none is running.
        """
        dispatcher = cls.__new__(cls)
        if loop is None:
            loop = asyncio.get_running_loop()
        dispatcher._prepare(loop, None, throughput, slice_messages)
        return dispatcher

    def _prepare(
        self, loop: asyncio.AbstractEventLoop, thread: threading.Thread | None, throughput: int, slice_messages: int
    ) -> None:
        self._loop = loop
        self._thread = thread
        self._thread_id: int | None = None  # known once the loop has run something of ours
        self._running = False
        self._context = contextvars.copy_context()
        self._throughput = throughput
        self._slice_messages = slice_messages
        self._ready: deque[ActorCell] = deque()
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._armed = threading.Lock()  # taken while a call of _run is due: wake-ups are coalesced
        dispatcher_loops.add(loop)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""
        return self._loop

    def execute(self, cell: ActorCell) -> None:
        """Run ``cell`` soon. Any thread; a wake-up is paid only when the dispatcher is idle."""
        self._ready.append(cell)
        if self._armed.acquire(False):
            try:
                if threading.get_ident() == self._thread_id:
                    self._loop.call_soon(self._run)
                else:
                    self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                if not self._loop.is_closed():
                    raise
                self._close_mailboxes()

    def _close_mailboxes(self) -> None:
        """Treat actors whose loop was closed under them as stopped, so that nobody waits for their answers."""
        while self._ready:
            try:
                cell = self._ready.popleft()
            except IndexError:  # another thread has found out, too
                break
            cell.closed = True
            cell.release_senders()
            cell.drain()
        self._armed.release()

    def call(self, callback: Callable[..., object], *args: Any) -> None:
        """Call on the loop: now if this is its thread, else soon. Any thread."""
        if threading.get_ident() == self._thread_id:
            callback(*args)
        else:
            self._loop.call_soon_threadsafe(callback, *args)

    def call_later(self, delay_seconds: float, callback: Callable[[], object]) -> DelayedCall:
        """Call on the loop after ``delay_seconds``. Any thread."""
        delayed = DelayedCall(self, callback)
        self.call(delayed.start, self._loop, self._loop.time() + delay_seconds)
        return delayed

    def lend_turn(self) -> None:
        """Run a slice now, if this is the loop's thread: for a task that can only wait until actors have run.

        It saves the task a round through the loop. The task must give the loop its turn afterwards.
        """
        if threading.get_ident() == self._thread_id:
            self._run_slice()

    def run_now(self, cell: ActorCell, message: Any, /) -> bool:
        """Have an idle actor handle a message at once, if this is the loop's thread and no actor has its turn."""
        if self._running or threading.get_ident() != self._thread_id:
            return False
        self._running = True
        try:
            return self._context.copy().run(cell.handle_now, message)
        finally:
            self._running = False

    def _run(self) -> None:
        self._thread_id = threading.get_ident()
        try:
            self._run_slice()
        finally:
            if self._ready:
                self._loop.call_soon(self._run)
            else:
                self._armed.release()
                # Whoever appended between the look and the release found it armed and did not wake us.
                if self._ready and self._armed.acquire(False):
                    self._loop.call_soon(self._run)

    def _run_slice(self) -> None:
        if self._running:  # an eager task of a handler lends its turn while the handler still has it
            return
        self._running = True
        try:
            # Whoever's task or callback this is, its context variables are not the actors', nor theirs its.
            self._context.copy().run(self._run_ready)
        finally:
            self._running = False

    def _run_ready(self) -> None:
        ready, throughput, budget = self._ready, self._throughput, self._slice_messages
        while ready and budget > 0:
            budget -= ready.popleft().run(throughput)

    def run_coroutine(self, cell: Turns, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Start a task for a handler's coroutine."""
        cell.task = task = self._loop.create_task(coroutine)
        task.add_done_callback(cell.coroutine_ended)

    def make_gate(self) -> None:
        """Return None: the loop's thread is never abandoned."""
        return

    def interrupt(self, cell: ActorCell) -> None:
        """Cancel the handler's task, on the loop."""
        if not self._loop.is_closed():
            # Never at once: the actor may be about to start the task, further up this very stack.
            self._loop.call_soon_threadsafe(cell.cancel_task)

    def abandon(self, cell: ActorCell) -> None:
        """Go on without the actor's coroutine, which swallowed its cancellation. Any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._abandon, cell)

    def _abandon(self, cell: Turns) -> None:
        task = cell.abandon_task()
        if task is not None:
            self._abandoned.add(task)
            task.add_done_callback(self._abandoned_ended)

    def _abandoned_ended(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _logger.warning("an abandoned coroutine ended with an exception", exc_info=task.exception())

    @property
    def abandoned_tasks(self) -> int:
        """How many coroutines still run whose actors were given up."""
        return len(self._abandoned)

    def blocking(self) -> AbstractContextManager[None]:
        """Do nothing: waits on this thread are refused before they begin."""
        return nullcontext()

    def close(self) -> None:
        """End the thread, if it is the dispatcher's own; wait for it."""
        if self._thread is not None and not self._loop.is_closed():
            refuse_on_dispatcher_loop("closing a dispatcher")
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._thread_id = threading.get_ident()
        try:
            self._loop.run_forever()
        finally:
            self._cancel_leftovers()

    def _cancel_leftovers(self) -> None:
        leftovers = asyncio.all_tasks(self._loop)
        for task in leftovers:
            task.cancel()
        if leftovers:
            self._loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
