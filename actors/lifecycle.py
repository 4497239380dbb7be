"""An actor's life around its messages: start, family, end, and who is told of the end.

Everything here happens in the dispatcher's thread while it holds the mailbox's scheduled bit, except where a
docstring says "any thread". A handler or hook that returned a coroutine leaves the mailbox scheduled, so nothing else
runs until ``coroutine_ended``.
"""

from __future__ import annotations

import logging
import threading
import uuid
from asyncio import CancelledError
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Literal

from pykka import ActorDeadError, ActorRegistry
from pykka.messages import _ActorStop

from .control import Ignore, Stop
from .dispatcher import Abandoned
from .errors import MailboxFull
from .future import EventFuture
from .mailbox import Dropping, is_control
from .messages import ERROR, KILLED, NORMAL, SHUTDOWN, ChildEnded, Request, Started, Terminated
from .ref import EventRef
from .statistics import STOP_REASONS
from .tree_lock import tree_lock
from .turns import ENDED, ENDING, RUNNING, STARTING, Turns
from .waits import waiting_for_room

if TYPE_CHECKING:
    from .actor import EventActor
    from .cell import ActorCell
    from .context import ActorContext
    from .dead_letters import DeadLetterReason
    from .system import ActorSystem

_logger = logging.getLogger(__name__)

EndHook = Literal["on_stop", "on_failure"] | None
Watcher = Callable[[Terminated], object]


class Lifecycle(Turns):
    """A mailbox whose actor starts, may have a family, and ends. ``ActorCell`` adds the handling of messages."""

    __slots__ = (
        "_current",
        "_end_error",
        "_end_hook",
        "_end_reason",
        "_ends",
        "_start_reply",
        "_stop_requests",
        "_stopped_event",
        "_suspended",
        "_urn",
        "_watchers",
        "actor",
        "context",
        "in_pykka_registry",
        "name",
        "ref",
        "waits_for",
    )

    ref: EventRef[Any]
    _end_reason: str
    _end_error: BaseException | None
    _end_hook: EndHook

    def __init__(self, actor: EventActor) -> None:
        super().__init__(actor.__class__, actor.mailbox)
        self.actor: Any = actor  # given up at the end, so that nothing keeps a dead actor in memory
        self.context: ActorContext | None = None
        self.name: str | None = None
        self.waits_for: EventFuture[Any] | None = None
        self.in_pykka_registry = False
        self._ends = False
        self._suspended = 0
        self._current: Any = None
        self._start_reply: EventFuture[Started] | None = None
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

    def start(
        self,
        system: ActorSystem,
        parent: ActorCell | None,
        name: str | None,
        start_reply: EventFuture[Started] | None = None,
    ) -> None:
        """Enter the actor into its system and hand it to its dispatcher. Once; any thread.

        ``start_reply`` is set once ``on_start`` has returned; or, if it has not, once the actor is gone.

        Raises:
            ActorError: the name is taken.
            ActorDeadError: the parent, or the system, has stopped.
        """
        self._entry = entry = system.class_entry(self.actor_class)
        self.dispatcher = entry.dispatcher
        self._execute = entry.execute
        self.gate = entry.dispatcher.make_gate()
        self.name = name
        self.parent = parent
        self._start_reply = start_reply
        with tree_lock:
            adopted = not (system if parent is None else parent).closed
            if adopted:
                ref = self.ref
                if name is not None:
                    system.registry.add_name(name, ref)
                entry.living[ref] = None
                entry.counters.started += 1
                self.system = system
                self._siblings()[ref] = None
                if self._urn is not None:
                    system.registry.add_urn(self._urn, ref)
        if not adopted:
            raise ActorDeadError(
                f"{parent or system} has stopped: it can have no new child {self.actor_class.__name__}"
            )
        if entry.has_on_start or start_reply is not None:
            self._execute(self)
        else:  # nothing to do before the first message, which may have been there since its constructor
            self._phase = RUNNING
            self._pause()

    def _siblings(self) -> dict[EventRef[Any], None]:
        if self.parent is not None:
            assert self.parent.context is not None
            return self.parent.context.children
        assert self.system is not None
        return self.system.roots

    def _begin(self) -> bool:
        """Call ``on_start``; tell whether messages may be handled now."""
        self._phase = STARTING
        self._halted = True
        if self.killing:
            self._phase, self._halted = RUNNING, False
            return True
        try:
            result = self._call_through_gate(self.actor.on_start)
        except Abandoned:
            raise
        except BaseException as error:  # noqa: BLE001 - recorded: it ends the actor, and its watchers learn it
            self._started(None, error)
        else:
            self._await_or(result, self._started)
        return self.task is None and self._phase != ENDED

    def _started(self, result: Any, error: BaseException | None) -> None:
        if error is None or self._is_kill(error):
            self._phase, self._halted = RUNNING, self._suspended > 0 or self._ends
            if error is None and self._start_reply is not None:
                self._start_reply.set(Started(result))
                self._start_reply = None
        elif isinstance(error, Ignore):
            self._begin_end(NORMAL, error, hook=None)
        elif isinstance(error, Stop):
            self._begin_end(error.reason, error, hook=None)
        else:
            self._log_failure(error)
            self._begin_end(ERROR, error, hook=None)

    def _is_kill(self, error: BaseException) -> bool:
        return self.killing and isinstance(error, CancelledError)

    def _is_contained(self, error: BaseException) -> bool:
        """Tell whether this is only the actor's own failure: a supervised actor may not end the process (1.2.3)."""
        return self.parent is not None and not isinstance(error, KeyboardInterrupt)

    # End

    def _fail(self, error: BaseException) -> None:
        if self._phase >= ENDING:
            return
        self._log_failure(error)
        self._begin_end(ERROR, error, hook="on_failure")

    def _log_failure(self, error: BaseException) -> None:
        if isinstance(error, self.actor_class.expected_failures):
            _logger.debug("%s ends by an expected failure: %r", self, error)
        else:
            _logger.error("Unhandled exception in %s:", self, exc_info=error)

    def _begin_end(self, reason: str, error: BaseException | None, *, hook: EndHook) -> None:
        """Close the mailbox, then end the children, then call the hook, then be gone."""
        if self._phase >= ENDING:
            return
        self._phase, self._halted = ENDING, True
        self._end_reason, self._end_error, self._end_hook = reason, error, hook
        system = self.system
        assert system is not None
        with tree_lock:  # so that no child can be adopted after the children were told to end
            self.closed = True
            if self._stopped_event is not None:
                self._stopped_event.set()
            del self._entry.living[self.ref]
            if self.name is not None or self._urn is not None:
                system.registry.remove_names(self.name, self._urn)
        self.release_senders()
        if self.in_pykka_registry:
            ActorRegistry.unregister(self.ref)
        _logger.debug("Stopped %s", self)
        if self.context is not None:
            self.context.begin_end()
            if reason == KILLED:
                self._kill_children()
            self._end_next_child()
        else:
            self._call_end_hook()

    def _kill_children(self) -> None:
        if self.context is not None:
            for child in reversed(self.context.children_to_end):
                child.kill()

    def _end_next_child(self) -> None:
        """End the youngest child, or go on to the hook if none is left. Comes back with each ``ChildEnded``."""
        if self.context is not None:
            youngest = self.context.youngest_child_to_end()
            if youngest is not None:
                youngest.shutdown()
                return
        self._call_end_hook()

    def _call_end_hook(self) -> None:
        if self._end_hook is None or (self._end_hook == "on_stop" and not self._entry.has_on_stop):
            self._finish()
            return
        error = self._end_error
        try:
            if self._end_hook == "on_stop":
                result = self._call_through_gate(self.actor.on_stop)
            else:
                traceback = error and error.__traceback__
                result = self._call_through_gate(self.actor.on_failure, type(error), error, traceback)
        except Abandoned:
            raise
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
        reason, entry, parent = self._end_reason, self._entry, self.parent
        if self.context is not None:
            self.context.return_stash()
        if self.queue:
            self.drain()
        if entry.has_on_gone:
            self._call_on_gone()
        with tree_lock:
            self._phase = ENDED  # from now on whoever begins to watch is told at once: not before ``on_gone``
            entry.counters.stopped[reason if reason in STOP_REASONS else SHUTDOWN] += 1
            watchers, self._watchers = self._watchers, None
            del self._siblings()[self.ref]
            # A parent that closes later counts its children later, too, and does not wait for this one.
            awaited = parent is not None and parent.closed
        if watchers or self._start_reply is not None:
            self._tell_end(watchers or {}, Terminated(self.ref, reason, self._end_error))
        for reply_to in self._stop_requests or ():  # whoever has waited for the stop finds the watchers told
            reply_to.set(None)
        if parent is not None and awaited:
            parent.post_system(ChildEnded())
        # A dead actor's memory goes with the last reference to it: nothing here may close a circle.
        self.actor = self.context = self._stop_requests = self._current = None
        del self.ref

    def _call_on_gone(self) -> None:
        try:
            self.actor.on_gone()
        except Exception:  # the actor is gone whatever this hook does, and others wait to hear of it
            _logger.exception("on_gone of %s raised:", self)

    def _tell_end(self, watchers: dict[object, Watcher], end: Terminated) -> None:
        for watcher in watchers.values():
            watcher(end)
        if self._start_reply is not None:
            error = end.exception or ActorDeadError(f"{self} ended ({end.reason}) before it had started")
            self._start_reply.set(Started(exception=error))
            self._start_reply = None

    # Watchers

    def watch(self, key: object, watcher: Watcher, ref: EventRef[Any]) -> None:
        """Call ``watcher`` once when the actor has ended; at once if it has. A second call for a key does nothing.

        Any thread; ``watcher`` is called in the thread in which the actor ends.
        """
        with tree_lock:
            if self._phase != ENDED:
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
        counters = self._entry.counters
        with counters.lock:
            counters.dropped += 1
        if type(item) is Request:
            item.reply_to.fail(MailboxFull(f"the mailbox of {self} is full and its policy is {policy}"))
        else:
            self.system.dead_letters.record(self, item, policy)

    def waiting_for_room(self) -> AbstractContextManager[None]:
        """Enter while a sender waits for room in this mailbox."""
        return waiting_for_room(self)
