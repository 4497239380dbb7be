"""Who waits for whom, so that a wait that cannot end raises ``WouldDeadlock`` instead of hanging."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from .errors import WouldDeadlock

if TYPE_CHECKING:
    from .cell import ActorCell
    from .future import EventFuture
    from .mailbox import Mailbox

dispatcher_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
"""Event loops that run actors. Blocking one of their threads stops every actor on it."""


class _ThisThread(threading.local):
    """The actor whose handler runs on this thread of a pool, if any, and the thread's own event loop."""

    cell: ActorCell | None = None
    runner: asyncio.Runner


this_thread = _ThisThread()

# Guards every ``ActorCell.waits_for``, so that two actors that begin to wait for each other cannot both miss it.
_waits = threading.Lock()


def refuse_on_dispatcher_loop(what: str) -> None:
    """Raise ``WouldDeadlock`` if this thread is running an event loop that runs actors."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    if loop in dispatcher_loops:
        raise WouldDeadlock(
            f"{what} would block the event loop that runs the actors, so nobody could answer; "
            "use block=False and await the future"
        )


@contextmanager
def blocking_on(future: EventFuture[Any]) -> Iterator[None]:
    """Enter while this thread waits for a future.

    A pool's thread is replaced meanwhile, so that one waiting actor does not hold up the rest.

    Raises:
        WouldDeadlock: the wait could never end.
    """
    refuse_on_dispatcher_loop("waiting for an answer")
    waiter = this_thread.cell
    if waiter is None:
        yield
        return
    with _waits:
        _refuse_cycle(waiter, future)
        waiter.waits_for = future
    try:
        with waiter.dispatcher.blocking():
            yield
    finally:
        waiter.waits_for = None


def _refuse_cycle(waiter: ActorCell, future: EventFuture[Any] | None) -> None:
    chain = [str(waiter)]
    # A future that is done is a wait that is over, even if its thread has not woken up yet.
    while future is not None and not future.is_done and (responder := future.responder) is not None:
        chain.append(str(responder))
        if responder is waiter:
            raise WouldDeadlock(
                f"waiting would close a cycle: {' -> '.join(chain)}; use tell(), or block=False and answer later"
            )
        future = responder.waits_for


def refuse_to_await_oneself(responder: ActorCell) -> None:
    """Raise ``WouldDeadlock`` if the task that is about to wait is the handler that ``responder`` is busy with."""
    if responder.task is not None and responder.task is asyncio.current_task():
        raise WouldDeadlock(
            f"{responder} awaits its own answer, which it could give only after this handler; "
            "use tell(), or call the method directly"
        )


@contextmanager
def waiting_for_room(full: Mailbox) -> Iterator[None]:
    """Enter while this thread waits for room in a full mailbox.

    Raises:
        WouldDeadlock: only this thread could make room.
    """
    refuse_on_dispatcher_loop(f"waiting for room in the full mailbox of {full}")
    sender = this_thread.cell
    if sender is full:
        raise WouldDeadlock(
            f"{full} would wait for room in its own full mailbox, which only it could make; "
            "raise the capacity, or choose another overflow policy"
        )
    with nullcontext() if sender is None else sender.dispatcher.blocking():
        yield
