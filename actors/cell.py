"""One actor's life: from its start through its messages to its end. What runs between a mailbox and the user's class.

Everything here happens in the dispatcher's thread while it holds the mailbox's scheduled bit, except where a
docstring says "any thread". A handler or hook that returned a coroutine leaves the mailbox scheduled, so nothing else
runs until ``coroutine_ended``.
"""

from __future__ import annotations

import logging
import threading
import uuid
from asyncio import CancelledError, Task
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Literal, assert_never

from pykka import ActorDeadError, ActorRegistry
from pykka.messages import ProxyCall, ProxyGetAttr, ProxySetAttr, _ActorStop

from .errors import MailboxFull
from .future import EventFuture
from .mailbox import Dropping, Mailbox, is_control
from .messages import (
    ERROR,
    KILLED,
    NORMAL,
    SHUTDOWN,
    ChildEnded,
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
from .ref import EventRef
from .statistics import STOP_REASONS, ClassCounters
from .waits import waiting_for_room

if TYPE_CHECKING:
    from .actor import EventActor
    from .context import ActorContext
    from .dead_letters import DeadLetterReason
    from .system import ActorSystem

_logger = logging.getLogger(__name__)

_NEW, _STARTING, _RUNNING, _ENDING, _ENDED = range(5)

_SPECIAL = frozenset({_ActorStop, ProxyCall, ProxyGetAttr, ProxySetAttr, TimerFired, Piped})

EndHook = Literal["on_stop", "on_failure"] | None
Watcher = Callable[[Terminated], object]
Continuation = Callable[[Any, BaseException | None], None]

# Guards who is whose child and who watches whom, across all systems. Never held while user code runs.
tree_lock = threading.Lock()


class ActorCell(Mailbox):
    """The mailbox, life cycle and family of one actor."""

    __slots__ = (
        "_counters",
        "_current",
        "_end_error",
        "_end_hook",
        "_end_reason",
        "_halted",
        "_phase",
        "_stop_requests",
        "_stopped_event",
        "_suspended",
        "_then",
        "_urn",
        "_watchers",
        "actor",
        "actor_class",
        "context",
        "in_pykka_registry",
        "killing",
        "name",
        "parent",
        "ref",
        "system",
        "task",
        "waits_for",
    )

    _counters: ClassCounters
    _end_reason: str
    _end_error: BaseException | None
    _end_hook: EndHook

    def __init__(self, actor: EventActor) -> None:
        super().__init__(actor.mailbox)
        self.actor: Any = actor  # given up at the end, so that nothing keeps a dead actor in memory
        self.actor_class = actor.__class__
        self.ref: EventRef[Any] = EventRef(self)
        self.system: ActorSystem | None = None
        self.context: ActorContext | None = None
        self.parent: ActorCell | None = None
        self.name: str | None = None
        self.task: Task[Any] | None = None
        self.waits_for: EventFuture[Any] | None = None
        self.in_pykka_registry = False
        self._phase = _NEW
        self._halted = False
        self._suspended = 0
        self.killing = False
        self._current: Any = None
        self._then: Continuation | None = None
        self._stop_requests: list[EventFuture[Any]] | None = None
        self._stopped_event: threading.Event | None = None
        self._watchers: dict[object, Watcher] | None = None
        self._urn: str | None = None

    def __str__(self) -> str:
        return f"{self.actor_class.__name__} ({self.urn})"

    # Identity

    @property
    def urn(self) -> str:
        """The actor's URN, of a version 4 UUID. Made when first asked for. Any thread."""
        if self._urn is None:
            with tree_lock:
                if self._urn is None:
                    self._urn = uuid.uuid4().urn
                    if self.system is not None and not self.closed:
                        self.system.registry.add_urn(self._urn, self.ref)
        return self._urn

    @property
    def stopped_event(self) -> threading.Event:
        """An event that is set when the actor begins to stop. Made when first asked for. Any thread."""
        with tree_lock:
            if self._stopped_event is None:
                self._stopped_event = threading.Event()
                if self.closed:
                    self._stopped_event.set()
            return self._stopped_event

    @property
    def ask_timeout_seconds(self) -> float | None:
        """How long an answer is waited for where the caller says nothing."""
        return None if self.system is None else self.system.ask_timeout_seconds

    # Start

    def start(self, system: ActorSystem, parent: ActorCell | None, name: str | None) -> None:
        """Enter the actor into its system and hand it to its dispatcher. Once; any thread.

        Raises:
            ActorError: the name is taken.
            ActorDeadError: the parent, or the system, has stopped.
        """
        self.dispatcher = system.dispatcher_for(self.actor_class)
        self._counters = counters = system.statistics.of(self.actor_class)
        self.name = name
        self.parent = parent
        registry = system.registry
        registry.add(self.ref, self.actor_class, name)
        with tree_lock:
            self.system = system
            adopted = not (system if parent is None else parent).closed
            if adopted:
                self._siblings()[self.ref] = None
            if self._urn is not None:
                registry.add_urn(self._urn, self.ref)
        if not adopted:
            registry.remove(self.ref, self.actor_class, name, self._urn)
            raise ActorDeadError(
                f"{parent or system} has stopped: it can have no new child {self.actor_class.__name__}"
            )
        with counters.lock:
            counters.started += 1
        self.dispatcher.execute(self)

    def _siblings(self) -> dict[EventRef[Any], None]:
        if self.parent is not None:
            assert self.parent.context is not None
            return self.parent.context.children
        assert self.system is not None
        return self.system.roots

    def _begin(self) -> None:
        self._phase = _STARTING
        self._halted = True
        if self.killing:
            self._phase, self._halted = _RUNNING, False
            return
        try:
            result = self.actor.on_start()
        except BaseException as error:  # noqa: BLE001 - recorded: it ends the actor, and its watchers learn it
            self._started(None, error)
            return
        self._await_or(result, self._started)

    def _started(self, _: Any, error: BaseException | None) -> None:
        if error is None or self._is_kill(error):
            self._phase, self._halted = _RUNNING, self._suspended > 0
        else:
            self._log_failure(error)
            self._begin_end(ERROR, error, hook=None)

    # Messages

    def run(self, throughput: int) -> int:
        """Handle all system messages and up to ``throughput`` user messages; return about how many."""
        if self._phase == _NEW:
            self._begin()
            if self.task is not None or self._phase == _ENDED:
                return 1
        handled = 0
        while True:
            if self.system_queue:
                self._receive_system(self.system_queue.popleft())
                if self.task is not None or self._phase == _ENDED:
                    break
                continue
            if self._halted or not self.queue or handled >= throughput:
                self._pause()
                break
            handled += 1
            if not self._receive(self.take(self.queue)):
                break
        if handled:
            with self._counters.lock:
                self._counters.handled += handled
        return handled + 1

    def _pause(self) -> None:
        if self.queue and not self._halted:
            self.dispatcher.execute(self)
            return
        self._scheduled.release()
        # A sender that appended between the look and the release found the mailbox scheduled and left it to us.
        if (self.system_queue or (self.queue and not self._halted)) and self._scheduled.acquire(False):
            self.dispatcher.execute(self)

    def _receive(self, item: Any) -> bool:
        """Handle one user message; tell whether the next may be handled now."""
        self._current = item
        message = item.message if type(item) is Request else item
        try:
            result = self._receive_special(message) if type(message) in _SPECIAL else self.actor.on_receive(message)
        except BaseException as error:  # noqa: BLE001 - goes to the caller or ends the actor
            self._handled(None, error)
        else:
            if type(result) is CoroutineType:
                self._await(result, self._handled)
            elif type(item) is Request:
                self._handled(result, None)
        return self.task is None and self._phase != _ENDED

    def _handled(self, result: Any, error: BaseException | None) -> None:
        """Answer the current message, or fail."""
        item, self._current = self._current, None
        reply_to = item.reply_to if type(item) is Request else None
        if error is not None:
            self._handler_raised(error, reply_to)
        elif reply_to is not None and type(item.message) is not _ActorStop:
            reply_to.set(result)

    def _handler_raised(self, error: BaseException, reply_to: EventFuture[Any] | None) -> None:
        if isinstance(error, Exception) and reply_to is not None:
            _logger.info("Exception returned from %s to caller:", self, exc_info=error)
            reply_to.fail(error)
            with self._counters.lock:
                self._counters.failed_asks += 1
            if self.actor.ask_failure_is_crash:
                self._fail(error)
            return
        if reply_to is not None:
            reply_to.fail(ActorDeadError(f"{self} stopped while handling the message: {error!r}"))
        if self._is_kill(error):
            return  # the Kill in the system queue does the rest
        if isinstance(error, (Exception, CancelledError)):
            self._fail(error)
        else:
            self._stop_everything(error)

    def _receive_special(self, message: Any) -> Any:
        """Handle what is not for ``on_receive``, or not as it is."""
        if type(message) is TimerFired:
            context = self.context
            if context is None or not context.timer_fired(message):
                return None
            return self.actor.on_receive(message.message)
        if type(message) is Piped:
            return self.actor.on_receive(message.make_message(message.value))
        if type(message) is _ActorStop:
            if type(self._current) is Request:
                self._answer_at_end(self._current.reply_to)
            self._begin_end(NORMAL, None, hook="on_stop")
            return None
        return self.actor._handle_receive(message)

    def _answer_at_end(self, reply_to: EventFuture[Any]) -> None:
        if self._stop_requests is None:
            self._stop_requests = []
        self._stop_requests.append(reply_to)

    def take_current(self) -> Any:
        """Return the message that is being handled, no longer to be answered by its handler; None if there is none."""
        item, self._current = self._current, None
        return item

    # System messages

    def _receive_system(self, message: SystemMessage) -> None:
        match message:
            case Terminated():
                self._receive_terminated(message)
            case ChildEnded():
                self._child_ended()
            case Shutdown(reason):
                self._begin_end(reason, None, hook="on_stop")
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

    def _suspend(self, change: int) -> None:
        self._suspended = max(0, self._suspended + change)
        self._halted = self._suspended > 0 or self._phase != _RUNNING

    def _child_ended(self) -> None:
        if self._phase == _ENDING:
            self._end_next_child()

    def _receive_terminated(self, message: Terminated) -> None:
        if self._phase != _RUNNING or self.context is None or not self.context.forget_watched(message.ref):
            return
        try:
            result = self.actor.on_receive(message)
        except BaseException as error:  # noqa: BLE001 - ends the actor
            self._handled(None, error)
        else:
            self._await_or(result, self._handled, done=False)

    def _receive_kill(self) -> None:
        if self._phase == _RUNNING:
            self._begin_end(KILLED, None, hook=None)
        elif self._phase == _ENDING:
            self._end_hook = None
            self._kill_children()

    def kill(self) -> None:
        """End the actor without its hooks; cancel a running async handler. Any thread."""
        self.killing = True
        self.post_system(Kill())
        if self.system is not None:
            self.dispatcher.cancel_coroutine(self)

    def cancel_task(self) -> None:
        """Cancel the handler's or hook's task, if one runs. In the loop's thread."""
        if self.task is not None:
            self.task.cancel()

    def _is_kill(self, error: BaseException) -> bool:
        return self.killing and isinstance(error, CancelledError)

    # Coroutines

    def _await(self, coroutine: Coroutine[Any, Any, Any], then: Continuation) -> None:
        self._then = then
        self.dispatcher.run_coroutine(self, coroutine)

    def _await_or(self, result: Any, then: Continuation, *, done: bool = True) -> None:
        """Go on with ``then`` after a coroutine, or now (if ``done``) when the hook was an ordinary function."""
        if type(result) is CoroutineType:
            self._await(result, then)
        elif done:
            then(result, None)

    def coroutine_ended(self, task: Task[Any]) -> None:
        """Take the outcome of the coroutine that the mailbox was held for, and let the dispatcher go on with it."""
        self.take_outcome(task)
        if self.task is None and self._phase != _ENDED:
            self.dispatcher.execute(self)

    def take_outcome(self, task: Task[Any]) -> None:
        """Answer, fail or go on with a hook, as the ended coroutine demands."""
        then, self._then, self.task = self._then, None, None
        assert then is not None
        if task.cancelled():
            then(None, CancelledError())
        elif (error := task.exception()) is not None:
            then(None, error)
        else:
            then(task.result(), None)

    # End

    def _fail(self, error: BaseException) -> None:
        if self._phase >= _ENDING:
            return
        self._log_failure(error)
        self._begin_end(ERROR, error, hook="on_failure")

    def _log_failure(self, error: BaseException) -> None:
        _logger.error("Unhandled exception in %s:", self, exc_info=error)

    def _stop_everything(self, error: BaseException) -> None:
        """Do as Pykka does on SystemExit and its like, but without waiting: this thread may be the others' too."""
        _logger.debug("%r in %s. Stopping all actors.", error, self)
        system, in_pykka_registry = self.system, self.in_pykka_registry
        assert system is not None
        self._begin_end(ERROR, error, hook="on_stop")
        if in_pykka_registry:
            ActorRegistry.stop_all(block=False)
        system.shutdown_all()

    def _begin_end(self, reason: str, error: BaseException | None, *, hook: EndHook) -> None:
        """Close the mailbox, then end the children, then call the hook, then be gone."""
        if self._phase >= _ENDING:
            return
        self._phase, self._halted = _ENDING, True
        self._end_reason, self._end_error, self._end_hook = reason, error, hook
        system = self.system
        assert system is not None
        with tree_lock:  # so that no child can be adopted after the children were told to end
            self.close()
            if self._stopped_event is not None:
                self._stopped_event.set()
        system.registry.remove(self.ref, self.actor_class, self.name, self._urn)
        if self.in_pykka_registry:
            ActorRegistry.unregister(self.ref)
        _logger.debug("Stopped %s", self)
        if self.context is not None:
            self.context.end_timers_and_pipes()
            if reason == KILLED:
                self._kill_children()
        self._end_next_child()

    def _kill_children(self) -> None:
        if self.context is not None:
            with tree_lock:
                children = list(self.context.children)
            for child in reversed(children):
                child.kill()

    def _end_next_child(self) -> None:
        """End the youngest child, or go on to the hook if none is left. Comes back with each ``ChildEnded``."""
        if self.context is not None:
            with tree_lock:
                youngest = next(reversed(self.context.children), None)
            if youngest is not None:
                youngest.shutdown()
                return
        error = self._end_error
        try:
            if self._end_hook == "on_stop":
                result = self.actor.on_stop()
            elif self._end_hook == "on_failure":
                result = self.actor.on_failure(type(error), error, error and error.__traceback__)
            else:
                result = None
        except BaseException as hook_error:  # noqa: BLE001 - logged, and told to the watchers
            self._hook_ended(None, hook_error)
        else:
            self._await_or(result, self._hook_ended)

    def _hook_ended(self, _: Any, error: BaseException | None) -> None:
        if error is not None:
            if self._is_kill(error):
                self._end_reason, self._end_error = KILLED, None
            else:
                self._log_failure(error)
                self._end_reason, self._end_error = ERROR, self._end_error or error
        self._finish()

    def _finish(self) -> None:
        self._phase = _ENDED
        end = Terminated(self.ref, self._end_reason, self._end_error)
        if self.context is not None:
            self.context.return_stash()
        self.drain()
        with self._counters.lock:
            self._counters.stopped[end.reason if end.reason in STOP_REASONS else SHUTDOWN] += 1
        with tree_lock:
            watchers, self._watchers = self._watchers, None
            del self._siblings()[self.ref]
        for reply_to in self._stop_requests or ():
            reply_to.set(None)
        for watcher in (watchers or {}).values():
            watcher(end)
        if self.parent is not None:
            self.parent.post_system(ChildEnded())
        # A dead actor's memory goes with the last reference to it: nothing here may close a circle.
        self.actor = self.context = self._stop_requests = self._current = None
        del self.ref

    # Watchers

    def watch(self, key: object, watcher: Watcher, ref: EventRef[Any]) -> None:
        """Call ``watcher`` once when the actor has ended; at once if it has. A second call for a key does nothing.

        Any thread; ``watcher`` is called in the thread in which the actor ends.
        """
        with tree_lock:
            if self._phase != _ENDED:
                if self._watchers is None:
                    self._watchers = {}
                self._watchers.setdefault(key, watcher)
                return
        watcher(Terminated(ref, self._end_reason, self._end_error))

    def unwatch(self, key: object) -> None:
        """Undo ``watch``. Any thread."""
        with tree_lock:
            if self._watchers is not None:
                self._watchers.pop(key, None)

    # Undeliverable messages

    def undeliverable(self, item: Any) -> None:
        """Answer a request, or record a message, that was still in the mailbox when the actor ended. Any thread."""
        if type(item) is Request:
            if type(item.message) is _ActorStop:
                item.reply_to.set(None)
            else:
                item.reply_to.fail(ActorDeadError(f"{self} stopped before handling the message"))
        elif not is_control(item):
            assert self.system is not None
            self.system.dead_letters.record(self, item, "unhandled_at_stop")

    def dead_letter(self, message: Any, reason: DeadLetterReason) -> None:
        """Record a message that was refused. Any thread."""
        if self.system is not None:
            self.system.dead_letters.record(self, message, reason)

    def overflowed(self, item: Any, policy: Dropping) -> None:
        """Answer a request, or record a message, that the overflow policy dropped. Any thread."""
        assert self.system is not None
        with self._counters.lock:
            self._counters.dropped += 1
        if type(item) is Request:
            item.reply_to.fail(MailboxFull(f"the mailbox of {self} is full and its policy is {policy}"))
        else:
            self.system.dead_letters.record(self, item, policy)

    def waiting_for_room(self) -> AbstractContextManager[None]:
        """Enter while a sender waits for room in this mailbox."""
        return waiting_for_room(self)
