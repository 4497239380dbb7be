"""SIGINT and SIGTERM: the first asks for an orderly stop, the second for a quick one, the third gets one at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_LAST: Final = 3


class ShutdownSignals:
    """Counts signals while it is entered. Handlers are Python's own and not the loop's, which may hang.

    Of the main thread, as signals are.
    """

    def __init__(self) -> None:
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._hurry: Callable[[], None] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def stop_requested(self) -> bool:
        """Whether a signal has come."""
        return self._count > 0

    async def wait_stop(self) -> None:
        """Return after the first signal, also one that came before this call."""
        self._loop = asyncio.get_running_loop()
        if not self.stop_requested:
            await self._stop.wait()

    def on_second(self, hurry: Callable[[], None]) -> None:
        """Call ``hurry`` on the loop at the second signal; at once if that has come."""
        self._hurry = hurry
        if self._count > 1:
            hurry()

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count >= _LAST:
            # Not through the log: this may interrupt one that is being written.
            os.write(2, b"stopped at once; the leases of jobs that ran here expire, and others run them again\n")
            os._exit(128 + number)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._stop.set()
        if self._count > 1 and self._hurry is not None:
            self._hurry()
