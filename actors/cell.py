"""What handles an actor's messages, between its mailbox and the user's class."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, assert_never

from pykka import ActorDeadError, ActorRegistry
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop

from .control import Stop
from .dispatcher import Abandoned
from .lifecycle import Lifecycle
from .messages import (
    ERROR,
    KILLED,
    NORMAL,
    SHUTDOWN,
    ChildEnded,
    Down,
    Exit,
    Fail,
    Kill,
    Piped,
    Request,
    Resume,
    Shutdown,
    Suspend,
    SystemMessage,
    Terminated,
    TimerFired,
)
from .statistics import FASTEST_BUCKET_SECONDS
from .turns import ENDED, ENDING, NEW, RUNNING

if TYPE_CHECKING:
    from .future import EventFuture

_logger = logging.getLogger(__name__)

_SPECIAL = frozenset({_ActorStop, ProxyCall, ProxyGetAttr, ProxySetAttr, TimerFired, Piped, Down})
_UNCOMMON = _SPECIAL | {Request}


class ActorCell(Lifecycle):
    """One actor as its dispatcher sees it."""

    __slots__ = ()

    def kill(self) -> None:
        """End the actor without its hooks; cancel a running async handler. Any thread."""
        self.killing = True
        self.post_system(Kill(), first=True)
        if self.system is not None:
            self.dispatcher.interrupt(self)

    def abandon(self) -> None:
        """Give up a coroutine that swallowed a kill, here and in what this actor waits for to end. Any thread."""
        if self.system is None or not self.killing:
            return
        context = self.context
        if context is not None:
            for child in tuple(context.children_to_end):
                child.abandon()
        self.dispatcher.abandon(self)

    # Messages

    def run(self, throughput: int) -> int:
        """Handle all system messages and up to ``throughput`` user messages; return about how many."""
        if self._phase == NEW and not self._begin():
            return 1
        assert self.system is not None
        monotonic = self.system.clock.monotonic
        handled, slow = 0, None
        began = last = monotonic()
        may_go_on = True
        while may_go_on:
            if self.system_queue:
                may_go_on = self._receive_system(self.system_queue.popleft())
            elif self._halted or not self.queue or handled >= throughput:
                if not self._ends:
                    self._pause()
                    break
                self._ends = False
                self._begin_end(SHUTDOWN, None, hook="on_stop")
                may_go_on = self.task is None and self._phase != ENDED
            else:
                item = self.queue.popleft() if self._room is None else self.take(self.queue)
                if type(item) in _UNCOMMON or self.gate is not None:
                    may_go_on = self._receive(item)
                else:
                    may_go_on = self._receive_plain(item)
                if self.task is not None:
                    self.handling_since = last
                    break
                now = monotonic()
                if now - last >= FASTEST_BUCKET_SECONDS:
                    slow = slow or []
                    slow.append(now - last)
                handled += 1
                last = now
        if handled:
            self._count_handled(handled, last - began, slow)
        return handled + 1

    def handle_now(self, message: Any) -> bool:
        """Handle a user message that comes past the mailbox; False, and nothing done, unless the actor is idle."""
        if self._phase != RUNNING or self._halted or type(message) in _UNCOMMON or not self._scheduled.acquire(False):
            return False
        assert self.system is not None
        monotonic = self.system.clock.monotonic
        began = monotonic()
        self._receive_plain(message)
        if self.task is not None:
            self.handling_since = began
            return True
        seconds = monotonic() - began
        self._count_handled(1, seconds, [seconds] if seconds >= FASTEST_BUCKET_SECONDS else None)
        if self._ends and not self.system_queue:  # this was its last message
            self._ends = False
            self._begin_end(SHUTDOWN, None, hook="on_stop")
        if self.task is None and self._phase != ENDED:
            self.run(0)  # what came meanwhile
        return True

    def _receive_plain(self, message: Any) -> bool:
        """Do as ``_receive`` does, with a message that needs nothing of what that looks at: most of them."""
        self._current = message
        try:
            result = self.actor.on_receive(message)
        except BaseException as error:  # noqa: BLE001 - ends the actor
            self._handled(None, error)
        else:
            if type(result) is CoroutineType:
                self._await(result, self._handled)
        return self.task is None and self._phase != ENDED

    def _receive(self, item: Any) -> bool:
        """Handle one user message; tell whether the next may be handled now."""
        self._current = item
        message = item.message if type(item) is Request else item
        try:
            if type(message) in _SPECIAL:
                result = self._receive_special(message)
            elif self.gate is None:
                result = self.actor.on_receive(message)
            else:
                result = self._call(self.actor.on_receive, message)
        except Abandoned:
            return False
        except BaseException as error:  # noqa: BLE001 - goes to the caller or ends the actor
            self._handled(None, error)
        else:
            if type(result) is CoroutineType:
                self._await(result, self._handled)
            elif type(item) is Request:
                self._handled(result, None)
        return self.task is None and self._phase != ENDED

    def _handled(self, result: Any, error: BaseException | None) -> None:
        """Answer the current message, or fail."""
        item, self._current = self._current, None
        reply_to = item.reply_to if type(item) is Request else None
        if error is not None:
            self._handler_raised(error, reply_to)
        elif reply_to is not None and type(item.message) is not _ActorStop:
            reply_to.set(result)

    def _handler_raised(self, error: BaseException, reply_to: EventFuture[Any] | None) -> None:
        if isinstance(error, Exception) and not isinstance(error, Stop) and reply_to is not None:
            _logger.info("Exception returned from %s to caller:", self, exc_info=error)
            reply_to.fail(error)
            with self._entry.counters.lock:
                self._entry.counters.failed_asks += 1
            if not isinstance(error, self.actor.reply_errors):
                self._fail(error)
            return
        if reply_to is not None:
            reply_to.fail(ActorDeadError(f"{self} stopped while handling the message: {error!r}"))
        if self._is_kill(error):
            return  # the Kill in the system queue does the rest
        if isinstance(error, Stop):
            self._begin_end(error.reason, None, hook="on_stop")
        elif isinstance(error, (Exception, CancelledError)) or self._is_contained(error):
            self._fail(error)
        else:
            self._stop_everything(error)

    def _receive_special(self, message: Any) -> Any:
        """Handle what is not for ``on_receive``, or not as it is."""
        if type(message) is _ActorStop:
            if type(self._current) is Request:
                self._answer_at_end(self._current.reply_to)
            if not self.actor.traps_shutdown:
                self._begin_end(NORMAL, None, hook="on_stop")
                return None
            self._current = Shutdown(NORMAL)
        elif type(message) is TimerFired:
            if self.context is None or not self.context.timer_fired(message):
                return None
            self._current = message.message
        elif type(message) is Piped:
            self._current = message.make_message(message.value)
        elif type(message) is Down:
            if self.context is None or not self.context.forget_watched(message.terminated.ref):
                return None
            self._current = message.terminated
        else:
            return self._call(self.actor._handle_receive, message)
        return self._call(self.actor.on_receive, self._current)

    def _call(self, handler: Callable[[Any], Any], message: Any) -> Any:
        """Call a handler; while it runs on a pool's thread, a kill may abandon the thread.

        Raises:
            Abandoned: that happened.
        """
        if self.gate is None:
            return handler(message)
        assert self.system is not None
        self.handling_since = self.system.clock.monotonic()
        try:
            result = self._call_through_gate(handler, message)
        except Abandoned:
            raise
        except BaseException:
            self.handling_since = None
            raise
        self.handling_since = None
        return result

    def _answer_at_end(self, reply_to: EventFuture[Any]) -> None:
        if self._stop_requests is None:
            self._stop_requests = []
        self._stop_requests.append(reply_to)

    def take_current(self) -> Any:
        """Return the message that is being handled, no longer to be answered by its handler; None if there is none."""
        item, self._current = self._current, None
        return item

    def end_after_message(self) -> None:
        """Let the actor end after the current message, like ``shutdown``, but without a message to itself.

        Only from within its own handlers and hooks.
        """
        self._ends = self._halted = True

    # System messages

    def _receive_system(self, message: SystemMessage) -> bool:
        """Handle one system message; tell whether the next may be handled now."""
        match message:
            case Terminated():
                return self._receive_terminated(message)
            case ChildEnded():
                self._child_ended()
            case Shutdown():
                self._receive_shutdown(message)
            case Exit(reason, exception):
                self._begin_end(reason, exception, hook="on_stop")
            case Kill():
                self._receive_kill()
            case Fail(exception):
                self._fail(exception)
            case Suspend():
                self._suspend(1)
            case Resume():
                self._suspend(-1)
            case _:
                assert_never(message)
        return self.task is None and self._phase != ENDED

    def _suspend(self, change: int) -> None:
        self._suspended = max(0, self._suspended + change)
        self._halted = self._suspended > 0 or self._phase != RUNNING or self._ends

    def _receive_shutdown(self, message: Shutdown) -> None:
        if self._phase == RUNNING and self.actor.traps_shutdown:
            self._suspend(-self._suspended)  # or it would never come to it
            self.post_control(message)
        else:
            self._begin_end(message.reason, None, hook="on_stop")

    def _child_ended(self) -> None:
        if self._phase == ENDING:
            self._end_next_child()

    def _receive_terminated(self, message: Terminated) -> bool:
        if self._phase != RUNNING or self.context is None or not self.context.forget_watched(message.ref):
            return True
        self._current = None
        try:
            result = self._call(self.actor.on_receive, message)
        except Abandoned:
            return False
        except BaseException as error:  # noqa: BLE001 - ends the actor
            self._handled(None, error)
        else:
            self._await_or(result, self._handled, done=False)
        return self.task is None

    def _receive_kill(self) -> None:
        if self._phase == ENDING:
            self._end_reason, self._end_error, self._end_hook = KILLED, None, None
            self._kill_children()
            self._end_next_child()  # there is none if the thread of a hook was abandoned
            return
        item = self.take_current()
        if type(item) is Request:  # its handler's thread was abandoned
            item.reply_to.fail(ActorDeadError(f"{self} was killed while handling the message"))
        self._begin_end(KILLED, None, hook=None)

    # Failures

    def _stop_everything(self, error: BaseException) -> None:
        """Do as Pykka does on SystemExit and its like, but without waiting: this thread may be the others' too."""
        _logger.debug("%r in %s. Stopping all actors.", error, self)
        system, in_pykka_registry = self.system, self.in_pykka_registry
        assert system is not None
        self._begin_end(ERROR, error, hook="on_stop")
        if in_pykka_registry:
            ActorRegistry.stop_all(block=False)
        system.shutdown_all()
