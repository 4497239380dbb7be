"""Job ids: UUID version 7 (RFC 9562), made by whoever spawns."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from uuid import UUID

_VERSION_AND_VARIANT = (0x7 << 76) | (0b10 << 62)
_NANOSECONDS_PER_MILLISECOND = 1_000_000


class Uuid7Source:
    """Makes time-ordered ids, so that rows spawned together lie together in the table and its indexes.

    Each id is greater than the one before, across threads too, even when the clock steps back: 48 bits of Unix
    milliseconds and 12 bits of their fraction (RFC 9562 §6.2, method 3) are incremented where the clock has not moved
    on. The other 62 bits come from the operating system's generator, so that a fork needs no care.

    Args:
        read_nanoseconds: the wall clock, in nanoseconds since 1970.
    """

    def __init__(self, read_nanoseconds: Callable[[], int] = time.time_ns) -> None:
        self._read_nanoseconds = read_nanoseconds
        self._lock = threading.Lock()
        self._last = 0

    def __call__(self) -> UUID:
        """Return a new UUIDv7."""
        return self.many(1)[0]

    def many(self, count: int) -> list[UUID]:
        """Return so many new ones, in their order, for one look at the clock and one question to the generator.

        They count up from now: 4,096 of them reach a millisecond into the future.
        """
        milliseconds, rest = divmod(self._read_nanoseconds(), _NANOSECONDS_PER_MILLISECOND)
        now = (milliseconds << 12) | ((rest << 12) // _NANOSECONDS_PER_MILLISECOND)
        with self._lock:
            first = max(now, self._last + 1)
            self._last = first + count - 1
        random = os.urandom(8 * count)
        return [
            UUID(
                int=((stamp >> 12) << 80)
                | ((stamp & 0xFFF) << 64)
                | (int.from_bytes(random[place : place + 8]) >> 2)
                | _VERSION_AND_VARIANT
            )
            for stamp, place in zip(range(first, first + count), range(0, 8 * count, 8), strict=True)
        ]


uuid7 = Uuid7Source()
"""Returns a new UUIDv7; monotonic within the process."""
