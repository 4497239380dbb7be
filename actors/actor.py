"""The base class of every actor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

import pykka
from pykka.messages import _ActorStop

from .cell import ActorCell
from .context import ActorContext
from .errors import ActorError
from .future import EventFuture
from .mailbox import UNBOUNDED, MailboxSpec
from .ref import EventRef


class EventActor(pykka.Actor):
    """A ``pykka.Actor`` without a thread of its own: a dispatcher runs it when it has messages.

    Handlers (``on_receive`` and methods called through a proxy) and hooks (``on_start``, ``on_stop``, ``on_failure``)
    may be ``async def``. One message is handled at a time, an async handler's awaits included.

    An exception while handling a ``tell`` ends the actor; while handling an ``ask`` it goes to the caller.

    ``start()`` runs it in the default system and registers it with Pykka, as every Pykka actor;
    ``ActorSystem.spawn`` keeps it out of Pykka's global registry.
    """

    __slots__ = ("_actor_ref", "_cell")

    dispatcher: ClassVar[Literal["loop", "pool"]] = "loop"
    """Where it runs: on the system's event loop (handlers must not block), or on its pool of threads (they may)."""

    mailbox: ClassVar[MailboxSpec] = UNBOUNDED
    """Bounds of its mailbox and stash."""

    reply_errors: ClassVar[tuple[type[Exception], ...]] = (Exception,)
    """Exceptions that, while handling an ``ask``, go to the caller and nowhere else. Any other goes to the caller and
    also ends the actor, so that its supervisor sees it. Default: all go to the caller only, as in Pykka."""

    expected_failures: ClassVar[tuple[type[Exception], ...]] = ()
    """Failures that need no traceback in the log: nothing is wrong with the actor, and its supervisor knows what to do,
    as after an outage of the database (``Backoff.uncounted``). Default: none."""

    traps_shutdown: ClassVar[bool] = False
    """Whether ``shutdown`` is a message, received as ``Shutdown`` behind what waits in the mailbox, as for an Erlang
    process that traps exits. The actor then ends itself with ``context.exit``."""

    on_gone: ClassVar[Callable[[Any], None] | None] = None
    """A hook that is called at every end, killed included, before anybody hears of it: for what must be given back
    whatever happens. An ordinary method, short, called in the thread in which the actor ends. Default: none."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        # Not calling Pykka's constructor: the URN, the inbox and the stopped event are made when somebody asks.
        self._cell = cell = ActorCell(self)
        self._actor_ref = cell.ref = EventRef(cell)

    @property
    def actor_ref(self) -> EventRef[Self]:
        """The actor's own reference, to be given to others."""
        return self._actor_ref  # type: ignore[return-value]

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
    def context(self) -> ActorContext:
        """Children, death watch, timers, stash and pipes.

        Raises:
            ActorError: the actor has not been started.
        """
        cell = self._cell
        if cell.context is None:
            if cell.system is None:
                raise ActorError(
                    f"{self.__class__.__name__} has no context yet: expected a started actor; "
                    "use the context in on_start, not in the constructor"
                )
            cell.context = ActorContext(cell)
        return cell.context

    def stop(self) -> None:
        """Stop when what is in the mailbox now has been handled. Never waits or raises."""
        self._cell.post_control(_ActorStop())

    # The seam of pykka.Actor

    @staticmethod
    def _create_actor_inbox() -> Any:
        raise NotImplementedError("an EventActor's mailbox is part of its cell")

    @staticmethod
    def _create_future() -> EventFuture[Any]:
        return EventFuture()

    def _start_actor_loop(self) -> None:
        from .system import default_system  # the system knows its actors' base class

        self._cell.in_pykka_registry = True
        self._cell.start(default_system(), None, None)
