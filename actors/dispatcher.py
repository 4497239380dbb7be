"""What runs actors that have messages: the contract between a mailbox and its dispatcher."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .mailbox import Mailbox


class Dispatcher(Protocol):
    """Runs mailboxes. A mailbox is handed over by whoever took its scheduled bit, and is run by one thread at a time."""

    def execute(self, mailbox: Mailbox) -> None:
        """Run ``mailbox`` soon, in the dispatcher's own thread. Any thread; never blocks, never runs it at once."""

    def run_coroutine(self, mailbox: Mailbox, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a handler's coroutine in an asyncio task, then call ``mailbox.coroutine_ended``.

        Called by the thread that runs the mailbox, which stays scheduled until the end.
        """

    def cancel_coroutine(self, mailbox: Mailbox) -> None:
        """Cancel the coroutine that runs for ``mailbox``, if there is one. Any thread."""

    def blocking(self) -> AbstractContextManager[None]:
        """Enter while one of the dispatcher's threads waits for something."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that runs everything, if the dispatcher has one."""

    def close(self) -> None:
        """End the dispatcher's threads. Its actors must have stopped. Blocks; twice is fine."""
