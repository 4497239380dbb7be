"""What runs actors that have messages: the contract between a mailbox and its dispatcher."""

from __future__ import annotations

import threading
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .cell import ActorCell
    from .turns import Turns


class Abandoned(BaseException):
    """A kill took the actor away from the thread that runs its handler or hook.

    Another thread has ended the actor, or will: nothing of it may be touched. Goes up to the thread's own loop.
    """


class Dispatcher(Protocol):
    """Runs mailboxes. Whoever took a mailbox's scheduled bit hands it over; one thread at a time runs it."""

    def execute(self, cell: ActorCell) -> None:
        """Run ``cell`` soon, in the dispatcher's own thread. Any thread; never blocks, never runs it at once."""

    def run_now(self, cell: ActorCell, message: Any, /) -> bool:
        """Have an idle actor handle a message now, if it runs in this thread and no actor has its turn here.

        Returns:
            False if it cannot be now; nothing has happened then. Any thread.
        """

    def run_coroutine(self, cell: Turns, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a handler's coroutine in an asyncio task, then call ``cell.coroutine_ended``.

        Called by the thread that runs the mailbox, which stays scheduled until the end.

        Raises:
            Abandoned: the actor was taken away meanwhile.
        """

    def lend_turn(self) -> None:
        """Run some actors now, if they run in this thread, on behalf of a task that waits for one of them."""

    def interrupt(self, cell: ActorCell) -> None:
        """Cancel the coroutine, or abandon the thread, that runs for ``cell``, if there is one. Any thread.

        Called after a ``Kill`` was put into its system queue.
        """

    def abandon(self, cell: ActorCell) -> None:
        """Go on without the coroutine that runs for ``cell`` and swallowed its cancellation. Any thread."""

    def make_gate(self) -> threading.Lock | None:
        """Return a lock that is free while an actor's handler or hook runs in a thread that can be abandoned, or None.

        It is nobody's to wait for: whoever takes it decides whether their end or the kill came first.
        """

    def blocking(self) -> AbstractContextManager[None]:
        """Enter while one of the dispatcher's threads waits for something."""

    def close(self) -> None:
        """End the dispatcher's threads. Its actors must have stopped. Blocks; twice is fine."""
