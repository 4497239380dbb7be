"""A signal that many may wait for, again and again."""

from __future__ import annotations

import asyncio


class Pulse:
    """Wakes everybody who waits now; those who come later wait for the next beat. Loop thread only."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def beat(self) -> None:
        """Wake everybody."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, timeout_seconds: float) -> bool:
        """Return at the next beat (True), or when the time is over (False)."""
        event = self._next
        try:
            async with asyncio.timeout(timeout_seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True
