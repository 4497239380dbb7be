"""The answer to an ``ask``: a ``pykka.Future`` to wait for in a thread, or to await without blocking a loop."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pykka

from .waits import blocking_on, refuse_to_await_oneself

if TYPE_CHECKING:
    from pykka._types import OptExcInfo

    from .cell import ActorCell

T = TypeVar("T")
J = TypeVar("J")
M = TypeVar("M")
R = TypeVar("R")

_PENDING, _VALUE, _ERROR, _HOOK = range(4)


class EventFuture(pykka.Future[T]):
    """A value that is there now or later.

    ``get()`` waits in a thread; ``await`` waits in any event loop without blocking it. A wait without a timeout for
    an actor's answer ends after the system's ``ask_timeout_seconds`` with ``pykka.Timeout``.

    Attributes:
        responder: the actor that owes the value, if it is an answer.
    """

    __slots__ = ("_callbacks", "_lock", "_result", "_sources", "_state", "responder")

    def __init__(self, responder: ActorCell | None = None) -> None:
        # Not calling Pykka's constructor: its two fields are superseded, and a future is made for each ask.
        self._lock = threading.Lock()
        self._state = _PENDING
        self._result: Any = None
        self._callbacks: list[Callable[[], object]] | None = None
        self._sources: tuple[pykka.Future[Any], ...] = ()
        self.responder = responder

    @property
    def is_done(self) -> bool:
        """Whether the value, or an exception in its place, is there."""
        return self._state == _VALUE or self._state == _ERROR

    def get(self, *, timeout: float | None = None) -> Any:
        """Return the value; wait for it up to ``timeout`` seconds.

        Raises:
            pykka.Timeout: no value came in time.
            WouldDeadlock: this thread must not wait: it runs a dispatcher's event loop, or a cycle of waits would
                close. Raised at once.
            Exception: what was set in place of a value.
        """
        if self._state == _PENDING:
            self._wait(timeout)
        if self._state == _HOOK:
            self._call_hook(timeout)
        if self._state == _VALUE:
            return self._result
        return _raise(*self._result)

    def set(self, value: T | None = None) -> None:
        """Set the value.

        Raises:
            queue.Full: there is one already.
        """
        if not self._settle(_VALUE, value):
            raise queue.Full

    def set_exception(self, exc_info: OptExcInfo | None = None) -> None:
        """Set an exception in place of a value; by default the one that is being handled.

        Raises:
            queue.Full: there is a value already.
        """
        if not self._settle(_ERROR, sys.exc_info() if exc_info is None else exc_info):
            raise queue.Full

    def fail(self, exception: BaseException) -> bool:
        """Set an exception unless there is a value already; tell whether it was set."""
        return self._settle(_ERROR, (type(exception), exception, exception.__traceback__))

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once the value is there, in the thread that sets it; at once if it is there now."""
        with self._lock:
            if self._state == _PENDING:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        callback()

    def _forget(self, callback: Callable[[], object]) -> None:
        """Undo ``add_done_callback``, for whoever no longer waits."""
        with self._lock:
            if self._callbacks is not None:
                self._callbacks.remove(callback)

    def _settle(self, state: int, result: Any) -> bool:
        with self._lock:
            if self._state != _PENDING:
                return False
            self._result = result
            self._state = state
            callbacks, self._callbacks = self._callbacks, None
        if callbacks is not None:
            for callback in callbacks:
                callback()
        return True

    def _wait(self, timeout: float | None) -> None:
        if timeout is None and self.responder is not None:
            timeout = self.responder.ask_timeout_seconds
        if timeout is not None and timeout <= 0:
            raise pykka.Timeout(f"{timeout} seconds")
        with blocking_on(self):
            arrived = threading.Lock()
            arrived.acquire()
            self.add_done_callback(arrived.release)
            if not arrived.acquire(timeout=-1 if timeout is None else timeout):
                self._forget(arrived.release)
                raise pykka.Timeout(f"{timeout} seconds")

    # Hooks: values that are computed when asked for (map, filter, join, reduce)

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """Let ``func(timeout)`` compute the value when it is first asked for.

        Raises:
            queue.Full: there is a value already.
        """
        if not self._settle(_HOOK, func):
            raise queue.Full

    def _call_hook(self, timeout: float | None) -> None:
        with self._lock:
            if self._state == _HOOK:
                self._result = self._result(timeout)
                self._state = _VALUE

    def _derived_from(self, *sources: pykka.Future[Any]) -> EventFuture[T]:
        self._sources = sources
        return self

    def filter(self: EventFuture[Iterable[J]], func: Callable[[J], bool]) -> EventFuture[Iterable[J]]:
        """As ``pykka.Future.filter``; the result can be awaited."""
        return cast("EventFuture[Iterable[J]]", super().filter(func))._derived_from(self)

    def join(self: EventFuture[Any], *futures: pykka.Future[Any]) -> EventFuture[Iterable[Any]]:
        """As ``pykka.Future.join``; the result can be awaited."""
        return cast("EventFuture[Iterable[Any]]", super().join(*futures))._derived_from(self, *futures)

    def map(self, func: Callable[[T], M]) -> EventFuture[M]:
        """As ``pykka.Future.map``; the result can be awaited."""
        return cast("EventFuture[M]", super().map(func))._derived_from(self)

    def reduce(self: EventFuture[Iterable[J]], func: Callable[[R, J], R], *args: R) -> EventFuture[R]:
        """As ``pykka.Future.reduce``; the result can be awaited."""
        return cast("EventFuture[R]", super().reduce(func, *args))._derived_from(self)

    # Awaiting

    def __await__(self) -> Generator[Any, None, T]:
        if self._state == _PENDING or self._state == _HOOK:
            yield from self._until_computable(asyncio.get_running_loop())
        return cast("T", self.get(timeout=0))

    __iter__ = __await__

    def _until_computable(self, loop: asyncio.AbstractEventLoop) -> Generator[Any, None, None]:
        """Wait until ``get`` has nothing to wait for."""
        if self._state == _PENDING:
            yield from self._arrival(loop)
        if self._state != _HOOK:
            return
        for source in self._sources:
            if isinstance(source, EventFuture):
                yield from source._until_computable(loop)
            else:
                yield from _in_helper_thread(loop, source)
        if not self._sources:  # somebody's own hook, which may block
            yield from _in_helper_thread(loop, self)

    def _arrival(self, loop: asyncio.AbstractEventLoop) -> Generator[Any, None, None]:
        if self.responder is not None and self.responder.system is not None:
            self.responder.dispatcher.lend_turn()
            refuse_to_await_oneself(self.responder)
            if self._state != _PENDING:
                yield  # as a loop's other work must have its turn between two asks
                return
        arrived = loop.create_future()
        wake = partial(_wake, threading.get_ident(), loop, arrived)
        self.add_done_callback(wake)
        timeout = None if self.responder is None else self.responder.ask_timeout_seconds
        timer = None if timeout is None else loop.call_later(timeout, _expire, arrived, timeout)
        try:
            yield from arrived
        except BaseException:
            self._forget(wake)
            raise
        finally:
            if timer is not None:
                timer.cancel()


def _raise(exc_type: type[BaseException], exc_value: BaseException | None, traceback: TracebackType | None) -> Any:
    exception = exc_value if exc_value is not None else exc_type()
    raise exception if exception.__traceback__ is traceback else exception.with_traceback(traceback)


def _wake(thread: int, loop: asyncio.AbstractEventLoop, arrived: asyncio.Future[None]) -> None:
    if threading.get_ident() == thread:
        _finish(arrived)
        return
    try:
        loop.call_soon_threadsafe(_finish, arrived)
    except RuntimeError:
        if not loop.is_closed():  # a closed loop has nobody left who awaits
            raise


def _finish(arrived: asyncio.Future[None]) -> None:
    if not arrived.done():
        arrived.set_result(None)


def _expire(arrived: asyncio.Future[None], timeout: float) -> None:
    if not arrived.done():
        arrived.set_exception(pykka.Timeout(f"{timeout} seconds"))


def _in_helper_thread(loop: asyncio.AbstractEventLoop, future: pykka.Future[Any]) -> Generator[Any, None, Any]:
    return loop.run_in_executor(None, future.get).__await__()
