"""How the world reaches an actor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

import pykka
from pykka import ActorDeadError
from pykka.messages import _ActorStop

from .control import check_reason
from .errors import MailboxFull, WouldDeadlock
from .future import EventFuture
from .messages import SHUTDOWN, Request, Resume, Shutdown, Suspend, Terminated

if TYPE_CHECKING:
    import threading

    from .actor import EventActor
    from .cell import ActorCell

A = TypeVar("A", bound="EventActor")


class EventRef(pykka.ActorRef[A]):
    """A reference to an actor, to be passed around freely. Every method may be called from any thread.

    ``tell``, ``ask``, ``stop`` and ``proxy`` are Pykka's. The others are the kernel's own.
    """

    __slots__ = ("_cell",)

    def __init__(self, cell: ActorCell) -> None:
        # Not calling Pykka's constructor: its fields are properties here, computed when somebody asks.
        self._cell = cell

    @property
    def actor_class(self) -> type[A]:  # type: ignore[override]
        """The class of the actor."""
        return cast("type[A]", self._cell.actor_class)

    @property
    def actor_urn(self) -> str:  # type: ignore[override]
        """The actor's URN."""
        return self._cell.urn

    @property
    def actor_inbox(self) -> ActorCell:  # type: ignore[override]
        """The actor's mailbox."""
        return self._cell

    @property
    def actor_stopped(self) -> threading.Event:  # type: ignore[override]
        """An event that is set when the actor begins to stop."""
        return self._cell.stopped_event

    @property
    def name(self) -> str | None:
        """The name under which the actor was spawned."""
        return self._cell.name

    @property
    def mailbox_depth(self) -> int:
        """How many user messages wait."""
        return self._cell.depth

    @property
    def handling_since(self) -> float | None:
        """When the message that is being handled was begun, by the system's monotonic clock.

        None while no message is handled. Handlers that are no coroutines can only be seen on a pool of threads.
        """
        return self._cell.handling_since

    def _actor_weakref(self) -> A | None:  # type: ignore[override]
        # What pykka.ActorProxy calls to look at the actor's attributes.
        return cast("A | None", self._cell.actor)

    def is_alive(self) -> bool:
        """Whether the actor takes messages: until it begins to stop."""
        return not self._cell.closed

    # Messages

    def tell(self, message: Any) -> None:
        """Send a message; do not wait.

        Raises:
            pykka.ActorDeadError: the actor has stopped.
            MailboxFull: its bounded mailbox is full and refuses.
            WouldDeadlock: its mailbox is full, its policy is to block, and this thread must not.
        """
        if not self._cell.post(message):
            raise ActorDeadError(f"{self} not found")

    def send(self, message: Any) -> None:
        """Send a message; never raise: what cannot be delivered goes to the system's dead letters, counted.

        A full mailbox whose policy is to block still blocks; where it must not, the message is a dead letter.
        """
        try:
            if self._cell.post(message):
                return
        except (MailboxFull, WouldDeadlock):
            self._cell.dead_letter(message, "mailbox_full")
        else:
            self._cell.dead_letter(message, "stopped")

    def deliver(self, message: Any) -> None:
        """Send a message like ``send``, and have it handled before this returns where that is possible.

        It is if this is the loop's thread, outside of any actor's turn, and the actor is idle. For a task that has
        nothing left to do but to tell its actor so: neither takes another round through the loop.
        """
        if not self._cell.dispatcher.run_now(self._cell, message):
            self.send(message)

    @overload
    def ask(self, message: Any, *, block: Literal[False], timeout: float | None = None) -> EventFuture[Any]: ...

    @overload
    def ask(self, message: Any, *, block: Literal[True], timeout: float | None = None) -> Any: ...

    @overload
    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any | EventFuture[Any]: ...

    def ask(self, message: Any, *, block: bool = True, timeout: float | None = None) -> Any | EventFuture[Any]:
        """Send a message and wait for the answer, or with ``block=False`` return a future to ``get()`` or ``await``.

        Args:
            message: any object.
            block: whether to wait here. Never on an event loop that runs actors: that raises ``WouldDeadlock``.
            timeout: seconds to wait; None (default) takes the system's ``ask_timeout_seconds``.

        Raises:
            pykka.Timeout: no answer came in time.
            pykka.ActorDeadError: the actor had stopped, or stopped before it handled the message.
            MailboxFull: its bounded mailbox is full and refuses.
            WouldDeadlock: the wait could never end. Raised at once.
            Exception: what the handler raised.
        """
        future: EventFuture[Any] = EventFuture(self._cell)
        try:
            if not self._cell.post(Request(message, future)):
                future.fail(ActorDeadError(f"{self} not found"))
        except (MailboxFull, WouldDeadlock) as refused:
            future.fail(refused)
        return future.get(timeout=timeout) if block else future

    # End

    @overload
    def stop(self, *, block: Literal[True], timeout: float | None = None) -> bool: ...

    @overload
    def stop(self, *, block: Literal[False], timeout: float | None = None) -> EventFuture[bool]: ...

    @overload
    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | EventFuture[bool]: ...

    def stop(self, *, block: bool = True, timeout: float | None = None) -> bool | EventFuture[bool]:
        """Ask the actor to stop when it has handled what is in its mailbox now.

        Returns:
            True when it has stopped, False if it had before; with ``block=False`` (which never waits) a future of that.

        Raises:
            pykka.Timeout: it has not stopped in time (default: the system's ``ask_timeout_seconds``).
            WouldDeadlock: the wait could never end. Raised at once.
        """
        stopped: EventFuture[bool] = EventFuture(self._cell)
        answer: EventFuture[Any] = EventFuture()
        if self._cell.post_control(Request(_ActorStop(), answer)):
            # The only answer to a stop request is None, and whatever way the actor ends, it comes.
            answer.add_done_callback(lambda: stopped.set(True))
        else:
            stopped.set(False)
        return stopped.get(timeout=timeout) if block else stopped

    def shutdown(self, reason: str = SHUTDOWN) -> None:
        """Ask the actor to stop after its current message, whatever waits in its mailbox. Does not wait.

        Its watchers get ``Terminated`` with ``reason``. One that traps shutdowns, as supervisors do, first handles
        what waits.

        Raises:
            ValueError: ``reason`` is empty, or is one that means a crash.
        """
        check_reason(reason)
        self._cell.post_system(Shutdown(reason))

    def kill(self) -> None:
        """End the actor without its hooks, and its children with it. Never waits or raises.

        A running ``async`` handler is cancelled. An ordinary handler cannot be interrupted: on a loop the actor ends
        when it returns; on a pool it ends now, and what the handler still does comes to nothing.
        """
        self._cell.kill()

    def abandon(self) -> None:
        """Give up an actor that was killed and whose coroutine swallowed the cancellation: it ends now. Does not wait.

        What the coroutine still does comes to nothing; until it ends it is counted, in
        ``LoopDispatcher.abandoned_tasks`` or by its thread in ``PoolDispatcher.abandoned_threads``. Children that the
        actor waits for are given up with it. An actor that was not killed is left as it is.
        """
        self._cell.abandon()

    def suspend(self) -> None:
        """Let the actor handle no user message until ``resume`` was called as often as ``suspend``."""
        self._cell.post_system(Suspend())

    def resume(self) -> None:
        """Undo one ``suspend``."""
        self._cell.post_system(Resume())

    def termination(self) -> EventFuture[Terminated]:
        """Return a future of the actor's end: set once its hooks have run and its children are gone."""
        ended: EventFuture[Terminated] = EventFuture()
        self._cell.watch(ended, ended.set, self)
        return ended
