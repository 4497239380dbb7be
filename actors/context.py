"""What an actor can ask of the kernel: children, death watch, timers, stash, pipes. Made when first used."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .control import check_reason
from .errors import ActorError, StashOverflow
from .messages import SHUTDOWN, Down, Exit, Fail, Piped, Succeeded, TimerFired

if TYPE_CHECKING:
    from .actor import EventActor
    from .cell import ActorCell
    from .future import EventFuture
    from .mailbox import MailboxSpec
    from .messages import Started, Terminated
    from .ref import EventRef
    from .system import ActorSystem, Scheduled

A = TypeVar("A", bound="EventActor")
T = TypeVar("T")


def _itself(value: Any) -> Any:
    return value


class ActorContext:
    """An actor's side of the kernel. Only for the actor itself, inside its handlers and hooks."""

    __slots__ = ("_cell", "_pipes", "_stash", "_succeeded", "_timers", "_watched", "children", "children_to_end")

    def __init__(self, cell: ActorCell) -> None:
        self._cell = cell
        self.children: dict[EventRef[Any], None] = {}
        self.children_to_end: list[EventRef[Any]] = []
        self._watched: set[EventRef[Any]] = set()
        self._timers: dict[object, tuple[TimerFired, Scheduled, float | None]] = {}
        self._stash: deque[Any] = deque()
        self._pipes: set[asyncio.Future[Any]] = set()
        self._succeeded = False

    @property
    def system(self) -> ActorSystem:
        """The system that the actor lives in."""
        assert self._cell.system is not None
        return self._cell.system

    # Children

    def spawn(self, actor_class: type[A], *args: Any, name: str | None = None, **kwargs: Any) -> EventRef[A]:
        """Start a child. When this actor stops, however, its children stop first, youngest first.

        Args:
            actor_class: the child's class.
            *args: for its constructor.
            name: unique among the system's live actors; None (default) gives none.
            **kwargs: for its constructor.

        Raises:
            ActorError: the name is taken.
            pykka.ActorDeadError: this actor is stopping.
            Exception: what the constructor raised.
        """
        return self.system.spawn_child(self._cell, actor_class, args, kwargs, name)

    def adopt(self, actor: A) -> EventRef[A]:
        """Start an actor that has been constructed, and never started, as a child without a name.

        Raises:
            pykka.ActorDeadError: this actor is stopping.
        """
        cell = actor.actor_inbox
        cell.start(self.system, self._cell, None)
        return cell.ref

    def spawn_and_link(
        self,
        started: EventFuture[Started],
        actor_class: type[A],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        name: str | None,
        mailbox: MailboxSpec | None = None,
    ) -> EventRef[A]:
        """Start a child and watch it in mailbox order, with no gap between the two (OTP's ``start_link``).

        Args:
            started: is set once the child's ``on_start`` has returned; or, if it has not, once the child is gone.
            actor_class: the child's class.
            args: for its constructor.
            kwargs: for its constructor.
            name: unique among the system's live actors; None gives none.
            mailbox: its bounds; None (default): those that its class says.

        Raises:
            ActorError, pykka.ActorDeadError, Exception: as ``spawn``.
        """
        ref = self.system.spawn_child(self._cell, actor_class, args, dict(kwargs), name, started, mailbox)
        self.watch(ref, in_order=True)
        return ref

    def report_success(self) -> None:
        """Tell the parent, a supervisor, that this actor does its work: the next restart's delay is a short one again.

        Once in each incarnation; later calls cost next to nothing. Akka's ``BackoffSupervisor.Reset``.
        """
        if not self._succeeded:
            self._succeeded = True
            if self._cell.parent is not None:
                self._cell.parent.post_control(Succeeded(self._cell.ref))

    # The end

    def exit(self, reason: str = SHUTDOWN, exception: BaseException | None = None) -> None:
        """Stop after the current message, even if this actor traps shutdowns.

        Args:
            reason: what watchers learn; default ``shutdown``.
            exception: what they learn beside it.

        Raises:
            ValueError: ``reason`` is empty, or is one that means a crash.
        """
        check_reason(reason)
        self._cell.post_system(Exit(reason, exception))

    def youngest_child_to_end(self) -> EventRef[Any] | None:
        """Return the youngest child that has not ended; None if all have. For the kernel, after ``begin_end``."""
        while self.children_to_end:
            if self.children_to_end[-1] in self.children:
                return self.children_to_end[-1]
            self.children_to_end.pop()
        return None

    # Death watch

    def watch(self, ref: EventRef[Any], *, in_order: bool = False) -> None:
        """Receive ``Terminated`` once when ``ref`` has ended; at once if it has.

        Args:
            ref: whom to watch.
            in_order: whether it comes behind the messages that wait then, past the mailbox's bound, as Erlang's
                ``'DOWN'`` does; default: ahead of them.
        """
        if ref not in self._watched:
            self._watched.add(ref)
            ref.actor_inbox.watch(self._cell, self._post_down if in_order else self._cell.post_system, ref)

    def _post_down(self, terminated: Terminated) -> None:
        self._cell.post_control(Down(terminated))

    def unwatch(self, ref: EventRef[Any]) -> None:
        """Receive no ``Terminated`` of ``ref``, not even one that is on its way."""
        self._watched.discard(ref)
        ref.actor_inbox.unwatch(self._cell)

    def forget_watched(self, ref: EventRef[Any]) -> bool:
        """Tell whether ``ref`` was watched; it no longer is. For the kernel."""
        if ref not in self._watched:
            return False
        self._watched.remove(ref)
        return True

    # Messages to itself

    def tell_self(self, message: Any) -> None:
        """Receive ``message`` as the newest in the mailbox, past its bound."""
        self._cell.post_control(Piped(_itself, message))

    # Timers

    def start_timer(self, key: object, delay_seconds: float, message: Any, *, repeat: bool = False) -> None:
        """Receive ``message`` after ``delay_seconds``, as the newest in the mailbox and past its bound.

        A timer of the same key is cancelled first. Once cancelled, restarted or outlived by the actor, a timer
        delivers nothing, even if its message was in the mailbox already.

        Args:
            key: any hashable.
            delay_seconds: from now; a repeating timer counts again from each delivery, so its messages never pile up.
            message: any object.
            repeat: whether to go on.

        Raises:
            ValueError: the delay is negative.
        """
        if delay_seconds < 0:
            raise ValueError(f"timer {key!r}: a delay of {delay_seconds} s; expected 0 or more")
        self.cancel_timer(key)
        fired = TimerFired(key, message)
        self._set_timer(fired, delay_seconds, delay_seconds if repeat else None)

    def cancel_timer(self, key: object) -> bool:
        """Cancel a timer; tell whether there was one."""
        timer = self._timers.pop(key, None)
        if timer is None:
            return False
        timer[1].cancel()
        return True

    def _set_timer(self, fired: TimerFired, delay_seconds: float, interval_seconds: float | None) -> None:
        scheduled = self.system.schedule(delay_seconds, lambda: self._cell.post_control(fired))
        self._timers[fired.key] = fired, scheduled, interval_seconds

    def timer_fired(self, fired: TimerFired) -> bool:
        """Tell whether a timer's message still counts; start its next interval if it repeats. For the kernel."""
        timer = self._timers.get(fired.key)
        if timer is None or timer[0] is not fired:
            return False
        if timer[2] is None:
            del self._timers[fired.key]
        else:
            self._set_timer(fired, timer[2], timer[2])
        return True

    # Stash

    def stash(self) -> None:
        """Put the message that is being handled aside, its sender's wait for an answer included.

        Raises:
            StashOverflow: the stash has as many as the class's ``mailbox.stash_capacity``.
            ActorError: no message is being handled, or it was stashed already.
        """
        capacity = self._cell.spec.stash_capacity
        if len(self._stash) >= capacity:
            raise StashOverflow(
                f"the stash of {self._cell} has its {capacity} messages: unstash earlier, or raise stash_capacity"
            )
        item = self._cell.take_current()
        if item is None:
            raise ActorError(f"{self._cell} handles no message that it could stash; call stash() once, in on_receive")
        self._stash.append(item)

    def unstash_all(self) -> None:
        """Put the stashed messages back, in their order, ahead of those that wait."""
        if self._stash:
            stashed, self._stash = self._stash, deque()
            self._cell.make_queue().extendleft(reversed(stashed))

    def return_stash(self) -> None:
        """Treat what is stashed like what waits in the mailbox of a stopped actor. For the kernel."""
        for item in self._stash:
            self._cell.undeliverable(item)
        self._stash.clear()

    # Pipes

    def pipe_to_self(
        self,
        awaitable: Awaitable[T],
        on_success: Callable[[T], Any] = _itself,
        on_failure: Callable[[BaseException], Any] | None = None,
    ) -> None:
        """Await something beside the mailbox and receive its outcome as a message, past the mailbox's bound.

        It is awaited on the system's event loop. When the actor ends first, a coroutine is cancelled; a future or
        task that was passed in is only no longer waited for.

        Args:
            awaitable: a coroutine, a future, a task.
            on_success: makes the message from the result, in the actor's turn; default: the result itself.
            on_failure: makes the message from the exception; None (default) lets the actor fail with it.
        """
        self.system.call_on_loop(self._pipe, awaitable, on_success, on_failure)

    def _pipe(
        self,
        awaitable: Awaitable[Any],
        on_success: Callable[[Any], Any],
        on_failure: Callable[[BaseException], Any] | None,
    ) -> None:
        pipe = asyncio.ensure_future(awaitable)
        owned = pipe is not awaitable
        if owned:
            self._pipes.add(pipe)
            self.system.pipes.add(pipe)

        def ended(pipe: asyncio.Future[Any]) -> None:
            self._pipes.discard(pipe)
            self.system.pipes.discard(pipe)
            error = asyncio.CancelledError() if pipe.cancelled() else pipe.exception()
            self._piped(pipe, error, on_success, on_failure)

        pipe.add_done_callback(ended)
        if owned and self._cell.closed:
            pipe.cancel()

    def _piped(
        self,
        pipe: asyncio.Future[Any],
        error: BaseException | None,
        on_success: Callable[[Any], Any],
        on_failure: Callable[[BaseException], Any] | None,
    ) -> None:
        if error is None:
            value = pipe.result()
            if not self._cell.post_control(Piped(on_success, value)):
                self._cell.dead_letter(value, "stopped")
        elif on_failure is None:
            self._cell.post_system(Fail(error))
        elif not self._cell.post_control(Piped(on_failure, error)) and not pipe.cancelled():
            self._cell.dead_letter(error, "stopped")

    def begin_end(self) -> None:
        """Cancel all timers and the awaiting of all pipes; from now on no child comes. For the kernel."""
        # A list, because finding the last key of a dict that is emptied from its end costs more with each one.
        self.children_to_end = list(self.children)
        for _, scheduled, _ in tuple(self._timers.values()):
            scheduled.cancel()
        self._timers.clear()
        if self._pipes:
            self.system.call_on_loop(self._cancel_pipes)

    def _cancel_pipes(self) -> None:
        for pipe in tuple(self._pipes):
            pipe.cancel()
