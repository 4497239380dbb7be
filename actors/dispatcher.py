"""What runs actors that have messages: the contract between a mailbox and its dispatcher."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .cell import ActorCell


class Dispatcher(Protocol):
    """Runs mailboxes. Whoever took a mailbox's scheduled bit hands it over; one thread at a time runs it."""

    def execute(self, cell: ActorCell) -> None:
        """Run ``cell`` soon, in the dispatcher's own thread. Any thread; never blocks, never runs it at once."""

    def run_coroutine(self, cell: ActorCell, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a handler's coroutine in an asyncio task, then call ``cell.coroutine_ended``.

        Called by the thread that runs the mailbox, which stays scheduled until the end.
        """

    def cancel_coroutine(self, cell: ActorCell) -> None:
        """Cancel the coroutine that runs for ``cell``, if there is one. Any thread."""

    def blocking(self) -> AbstractContextManager[None]:
        """Enter while one of the dispatcher's threads waits for something."""

    def close(self) -> None:
        """End the dispatcher's threads. Its actors must have stopped. Blocks; twice is fine."""
