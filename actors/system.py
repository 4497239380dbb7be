"""A system: the dispatchers, the registry and the top-level actors that begin and end together."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, runtime_checkable

from .actor import EventActor
from .cell import ActorCell
from .class_entry import ClassEntry
from .clock import Clock, SystemClock
from .dead_letters import DeadLetters
from .errors import ActorError, ConfigurationError
from .loop_dispatcher import LoopDispatcher
from .pool_dispatcher import PoolDispatcher
from .registry import Registry
from .statistics import Statistics
from .tree_lock import tree_lock
from .waits import refuse_on_dispatcher_loop

if TYPE_CHECKING:
    from .dispatcher import Dispatcher
    from .future import EventFuture
    from .mailbox import MailboxSpec
    from .messages import Started
    from .ref import EventRef

A = TypeVar("A", bound=EventActor)


class Scheduled(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """See to it that it does not come. Twice is fine."""


@runtime_checkable
class SchedulingClock(Protocol):
    """A clock that also calls back: actors' timers then follow it instead of the event loop. For tests."""

    def call_later(self, delay_seconds: float, callback: Callable[[], object]) -> Scheduled:
        """Call ``callback`` after ``delay_seconds`` of this clock."""


class ActorSystem:
    """Spawns actors and ends them. Its actors stay out of Pykka's global registry.

    Args:
        name: shown in messages.
        loop_dispatcher: runs actors whose class says ``dispatcher = "loop"``; default: one of the system's own, with
            its own thread, made when the first such actor is spawned.
        pool_dispatcher: the same for ``dispatcher = "pool"``.
        clock: what actors may ask for the time. If it has ``call_later``, their timers follow it too.
        ask_timeout_seconds: how long an answer is waited for where the caller says nothing; default 30.

    Raises:
        ConfigurationError: the timeout is not positive.
    """

    def __init__(
        self,
        name: str = "callboard",
        *,
        loop_dispatcher: LoopDispatcher | None = None,
        pool_dispatcher: PoolDispatcher | None = None,
        clock: Clock | None = None,
        ask_timeout_seconds: float = 30,
    ) -> None:
        if not ask_timeout_seconds > 0:
            raise ConfigurationError(f"ask_timeout_seconds {ask_timeout_seconds!r}: expected more than 0")
        self.name = name
        self.clock: Clock = clock or SystemClock()
        self._scheduling_clock = self.clock if isinstance(self.clock, SchedulingClock) else None
        self.ask_timeout_seconds = float(ask_timeout_seconds)
        self.registry = Registry()
        self.dead_letters = DeadLetters()
        self.statistics = Statistics(self.registry, self.dead_letters)
        self.roots: dict[EventRef[Any], None] = {}
        self.pipes: set[asyncio.Future[Any]] = set()
        """Coroutines under way for ``ActorContext.pipe_to_self``. Loop thread only."""
        self.closed = False
        self._lock = threading.Lock()
        self._loop_dispatcher = loop_dispatcher
        self._pool_dispatcher = pool_dispatcher
        self._owned: list[Dispatcher] = []
        self._classes: dict[type[EventActor], ClassEntry] = {}

    def __str__(self) -> str:
        return f"actor system {self.name!r}"

    # Spawning

    def spawn(self, actor_class: type[A], *args: Any, name: str | None = None, **kwargs: Any) -> EventRef[A]:
        """Start a top-level actor. Any thread. ``on_start`` runs later, in the dispatcher's thread.

        Args:
            actor_class: a subclass of ``EventActor``.
            *args: for its constructor.
            name: unique among the system's live actors; None (default) gives none.
            **kwargs: for its constructor.

        Raises:
            ActorError: the name is taken.
            pykka.ActorDeadError: the system is closed.
            Exception: what the constructor raised.
        """
        return self.spawn_child(None, actor_class, args, kwargs, name)

    def spawn_child(
        self,
        parent: ActorCell | None,
        actor_class: type[A],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None,
        start_reply: EventFuture[Started] | None = None,
        mailbox: MailboxSpec | None = None,
    ) -> EventRef[A]:
        """Start an actor below ``parent``. For ``ActorContext``."""
        actor = actor_class(*args, **kwargs)
        try:
            cell = actor._cell
        except AttributeError:
            raise TypeError(
                f"{actor_class.__qualname__} is not ready to start: expected an EventActor whose constructor calls "
                "super().__init__()"
            ) from None
        if mailbox is not None:
            cell.bound(mailbox)
        ref = cast("EventRef[A]", cell.ref)
        cell.start(self, parent, name, start_reply)
        return ref

    def class_entry(self, actor_class: type[EventActor]) -> ClassEntry:
        """Return what the system knows of a class. For the kernel.

        Raises:
            ConfigurationError: the class names a dispatcher that does not exist.
        """
        entry = self._classes.get(actor_class)
        if entry is None:
            entry = ClassEntry(
                actor_class,
                self.dispatcher_for(actor_class),
                self.statistics.of(actor_class),
                self.registry.living(actor_class),
            )
            self._classes[actor_class] = entry  # whoever else makes one now, makes it of the same parts
        return entry

    def dispatcher_for(self, actor_class: type[EventActor]) -> Dispatcher:
        """Return the dispatcher that a class names.

        Raises:
            ConfigurationError: it names none that exists.
        """
        if actor_class.dispatcher == "loop":
            return self._loop_dispatcher or self.loop_dispatcher
        if actor_class.dispatcher == "pool":
            return self._pool_dispatcher or self.pool_dispatcher
        raise ConfigurationError(
            f"{actor_class.__qualname__}.dispatcher is {actor_class.dispatcher!r}: expected 'loop' or 'pool'"
        )

    @property
    def loop_dispatcher(self) -> LoopDispatcher:
        """The dispatcher of actors on the event loop; made now if nobody needed it before."""
        with self._lock:
            if self._loop_dispatcher is None:
                self._loop_dispatcher = LoopDispatcher()
                self._owned.append(self._loop_dispatcher)
            return self._loop_dispatcher

    @property
    def pool_dispatcher(self) -> PoolDispatcher:
        """The dispatcher of actors on threads; made now if nobody needed it before."""
        with self._lock:
            if self._pool_dispatcher is None:
                self._pool_dispatcher = PoolDispatcher()
                self._owned.append(self._pool_dispatcher)
            return self._pool_dispatcher

    @property
    def abandoned(self) -> int:
        """How many threads and coroutines still run code of actors that were killed."""
        with self._lock:
            pool, loop = self._pool_dispatcher, self._loop_dispatcher
        return (pool.abandoned_threads if pool else 0) + (loop.abandoned_tasks if loop else 0)

    # Time and the event loop

    def schedule(self, delay_seconds: float, callback: Callable[[], object]) -> Scheduled:
        """Call ``callback`` after ``delay_seconds``, on the event loop or as an injected clock says. Any thread."""
        if self._scheduling_clock is not None:
            return self._scheduling_clock.call_later(delay_seconds, callback)
        return self.loop_dispatcher.call_later(delay_seconds, callback)

    def call_on_loop(self, callback: Callable[..., object], *args: Any) -> None:
        """Call on the event loop: now if this is its thread, else soon. Any thread."""
        self.loop_dispatcher.call(callback, *args)

    # The end

    def shutdown_all(self) -> None:
        """Ask all top-level actors, and so all actors, to stop. Any thread; does not wait."""
        for ref in reversed(self._snapshot_roots()):
            ref.shutdown()

    async def aclose(self, *, grace_seconds: float = 10) -> None:
        """Stop all actors, the youngest top-level one first and children before parents, then the system's threads.

        Actors stop after their current message; what else waits in their mailboxes goes to dead letters. What they
        awaited beside their mailboxes is cancelled, and has ended when this returns.
        Twice is fine.

        Args:
            grace_seconds: after so long, those that have not stopped are killed; default 10.

        Raises:
            ActorError: some did not end even so; the message names them.
        """
        await self._stop_actors(grace_seconds)
        await self._end_pipes(grace_seconds)
        if self._owned:
            await asyncio.to_thread(self._close_dispatchers)

    def close(self, *, grace_seconds: float = 10) -> None:
        """As ``aclose``, for threads.

        Raises:
            WouldDeadlock: called on the event loop that runs the actors; use ``aclose`` there.
            ActorError: as ``aclose``.
        """
        refuse_on_dispatcher_loop(f"closing {self}")
        asyncio.run(self._stop_actors(grace_seconds))
        self._close_dispatchers()

    def _snapshot_roots(self) -> list[EventRef[Any]]:
        with tree_lock:
            return list(self.roots)

    async def _stop_actors(self, grace_seconds: float) -> None:
        with tree_lock:
            self.closed = True
        if await self._stop_roots(grace_seconds):
            return
        for ref in reversed(self._snapshot_roots()):
            ref.kill()
        if not await self._stop_roots(grace_seconds):
            survivors = ", ".join(str(ref) for ref in self._snapshot_roots())
            raise ActorError(f"{self} could not end {survivors}: an ordinary handler does not return")

    async def _stop_roots(self, grace_seconds: float) -> bool:
        try:
            async with asyncio.timeout(grace_seconds):
                while roots := self._snapshot_roots():
                    for ref in reversed(roots):
                        ref.shutdown()
                        await ref.termination()
        except TimeoutError:
            return False
        return True

    async def _end_pipes(self, grace_seconds: float) -> None:
        # On the system's own loop thread they end with that loop.
        loop = asyncio.get_running_loop()
        pipes = [pipe for pipe in tuple(self.pipes) if pipe.get_loop() is loop]
        if pipes:
            await asyncio.wait(pipes, timeout=grace_seconds)

    def _close_dispatchers(self) -> None:
        for dispatcher in self._owned:
            dispatcher.close()


_default: ActorSystem | None = None
_default_lock = threading.Lock()


def default_system() -> ActorSystem:
    """Return the system in which ``EventActor.start()`` runs actors.

    Made when first used, or used again after it was closed; closed at the interpreter's exit.
    """
    global _default  # noqa: PLW0603 - the one global that Pykka's start() implies
    with _default_lock:
        if _default is None or _default.closed:
            _default = ActorSystem("default")
            atexit.register(_default.close)
        return _default
