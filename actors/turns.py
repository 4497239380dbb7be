"""An actor's turns: what its dispatcher lets it do, at once or in a coroutine that holds its mailbox meanwhile.

Everything here happens in the dispatcher's thread while it holds the mailbox's scheduled bit, except where a
docstring says "any thread".
"""

from __future__ import annotations

import threading
from asyncio import CancelledError, Task
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from .dispatcher import Abandoned
from .mailbox import Mailbox, MailboxSpec

if TYPE_CHECKING:
    from .actor import EventActor
    from .cell import ActorCell
    from .class_entry import ClassEntry
    from .dispatcher import Dispatcher
    from .system import ActorSystem

NEW, STARTING, RUNNING, ENDING, ENDED = range(5)

Continuation = Callable[[Any, BaseException | None], None]


class _ContainedExit(Exception):
    """Carries a ``SystemExit`` out of a supervised actor's task, past the event loop, which it would end."""

    def __init__(self, error: SystemExit) -> None:
        super().__init__(error)
        self.error = error


async def _contained(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except SystemExit as error:
        raise _ContainedExit(error) from error


class Turns(Mailbox):
    """A mailbox that a dispatcher runs. ``Lifecycle`` adds the actor's start and end."""

    __slots__ = (
        "_entry",
        "_halted",
        "_phase",
        "_then",
        "actor_class",
        "dispatcher",
        "gate",
        "handling_since",
        "killing",
        "parent",
        "system",
        "task",
    )

    dispatcher: Dispatcher
    _entry: ClassEntry

    def __init__(self, actor_class: type[EventActor], spec: MailboxSpec) -> None:
        super().__init__(spec)
        self.actor_class = actor_class
        self.system: ActorSystem | None = None
        self.parent: ActorCell | None = None
        self.task: Task[Any] | None = None
        self.gate: threading.Lock | None = None
        self.handling_since: float | None = None  # set while a message's coroutine, or a pool's handler, runs
        self.killing = False
        self._phase = NEW
        self._halted = False
        self._then: Continuation | None = None

    def _pause(self) -> None:
        """Give the mailbox back, or have it run again at once if something waits."""
        if self.queue and not self._halted:
            self._execute(self)
            return
        self._scheduled.release()
        # A sender that appended between the look and the release found the mailbox scheduled and left it to us.
        if (self.system_queue or (self.queue and not self._halted)) and self._scheduled.acquire(False):
            self._execute(self)

    def _call_through_gate(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a handler or hook; while it runs on a pool's thread, a kill may abandon the thread.

        Raises:
            Abandoned: that happened.
        """
        gate = self.gate
        if gate is None:
            return function(*args)
        gate.release()
        try:
            result = function(*args)
        except BaseException as error:
            if gate.acquire(False):
                raise
            raise Abandoned from error
        if gate.acquire(False):
            return result
        if type(result) is CoroutineType:
            result.close()
        raise Abandoned

    # Coroutines

    def _await(self, coroutine: Coroutine[Any, Any, Any], then: Continuation) -> None:
        self._then = then
        self.dispatcher.run_coroutine(self, coroutine if self.parent is None else _contained(coroutine))

    def _await_or(self, result: Any, then: Continuation, *, done: bool = True) -> None:
        """Go on with ``then`` after a coroutine, or now (if ``done``) when the hook was an ordinary function."""
        if type(result) is CoroutineType:
            self._await(result, then)
        elif done:
            then(result, None)

    def coroutine_ended(self, task: Task[Any]) -> None:
        """Take the outcome of the coroutine that the mailbox was held for, and let the dispatcher go on with it."""
        if self.handling_since is not None:
            assert self.system is not None
            seconds = self.system.clock.monotonic() - self.handling_since
            self.handling_since = None
            self._count_handled(1, seconds, [seconds])
        self.take_outcome(task)
        if self.task is None and self._phase != ENDED:
            self._execute(self)

    def _count_handled(self, count: int, seconds: float, slow: list[float] | None) -> None:
        counters = self._entry.counters
        if self.gate is None:  # on a loop, whose thread is the only one that counts
            counters.add_handled(count, seconds, slow)
        else:
            with counters.lock:
                counters.add_handled(count, seconds, slow)

    def take_outcome(self, task: Task[Any]) -> None:
        """Answer, fail or go on with a hook, as the ended coroutine demands."""
        if task.cancelled():
            self._outcome(None, CancelledError())
        elif (error := task.exception()) is not None:
            self._outcome(None, error.error if isinstance(error, _ContainedExit) else error)
        else:
            self._outcome(task.result(), None)

    def _outcome(self, result: Any, error: BaseException | None) -> None:
        then, self._then, self.task = self._then, None, None
        assert then is not None
        then(result, error)

    def cancel_task(self) -> None:
        """Cancel the handler's or hook's task, if one runs. In the loop's thread."""
        if self.task is not None:
            self.task.cancel()

    def abandon_task(self) -> Task[Any] | None:
        """Go on as if the task, which swallowed its cancellation, had ended; return it. In the loop's thread."""
        task = self.task
        if task is None or task.done() or not self.killing:
            return None
        task.remove_done_callback(self.coroutine_ended)
        self.handling_since = None
        self._outcome(None, CancelledError())
        if self._phase != ENDED:
            self._execute(self)
        return task

    def give_up_task(self) -> None:
        """Forget a task whose thread is taken away; the ``Kill`` in the system queue does the rest."""
        self.task = self._then = None
