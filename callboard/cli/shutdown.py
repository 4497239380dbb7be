"""Requests to stop: SIGINT and SIGTERM, counted, or the orders of a parent process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_LAST: Final = 3


class StopRequests:
    """Whether this process is to stop, and to hurry. Requests may come from threads and from signal handlers.

    Attributes:
        advice: what the log of a stop says of further requests.
        hurried: what it calls the second one.
    """

    advice = ""
    hurried = "told to hurry"

    def __init__(self) -> None:
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._hurry: Callable[[], None] | None = None

    @property
    def stop_requested(self) -> bool:
        """Whether the process is to stop."""
        return self._count > 0

    async def wait_stop(self) -> None:
        """Return when the process is to stop; at once if that was requested before this call."""
        self._loop = asyncio.get_running_loop()
        if not self.stop_requested:
            await self._stop.wait()

    def on_second(self, hurry: Callable[[], None]) -> None:
        """Call ``hurry`` on the loop, once, when the process is to hurry; at once if that was requested already."""
        self._hurry = hurry
        self._deliver()

    def request_stop(self) -> None:
        """Ask for an orderly stop. Again is the same."""
        self._raise_to(1)

    def request_hurry(self) -> None:
        """Ask for a quick one."""
        self._raise_to(2)

    def _raise_to(self, count: int) -> None:
        self._count = max(self._count, count)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        if self.stop_requested:
            self._stop.set()
        if self._count > 1 and self._hurry is not None:
            hurry, self._hurry = self._hurry, None
            hurry()


class ShutdownSignals(StopRequests):
    """SIGINT and SIGTERM while it is entered: the first stops, the second hurries, the third ends at once.

    Handlers are Python's own and not the loop's, which may hang. Of the main thread, as signals are.
    """

    advice = "; a second signal cuts that short, a third ends at once"
    hurried = "second signal"

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[signal.Signals, Any] = {}
        self._at_last: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def at_last(self, action: Callable[[], None]) -> None:
        """Call ``action`` in the signal handler at the third signal, before the process ends at once."""
        self._at_last = action

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        count = self._count + 1
        if count >= _LAST:
            if self._at_last is not None:
                self._at_last()
            # Not through the log: this may interrupt one that is being written.
            os.write(2, b"stopped at once; the leases of jobs that ran here expire, and others run them again\n")
            os._exit(128 + number)
        self._raise_to(count)
