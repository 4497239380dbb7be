"""Job ids: UUID version 7 (RFC 9562), made by whoever spawns."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from uuid import UUID

_VERSION_AND_VARIANT = (0x7 << 76) | (0b10 << 62)
_NANOSECONDS_PER_MILLISECOND = 1_000_000

_lock = threading.Lock()
_last = 0


def uuid7(read_nanoseconds: Callable[[], int] = time.time_ns) -> UUID:
    """Return a new UUIDv7: time-ordered, so that rows spawned together lie together in the table and its indexes.

    Within a process each id is greater than the one before, across threads too, even when the clock steps back:
    48 bits of Unix milliseconds and 12 bits of their fraction (RFC 9562 §6.2, method 3) are incremented where the
    clock has not moved on. The other 62 bits come from the operating system's generator, so that a fork needs no care.

    Args:
        read_nanoseconds: the wall clock, in nanoseconds since 1970.
    """
    global _last  # noqa: PLW0603 - monotonic within the process means state of the process
    milliseconds, rest = divmod(read_nanoseconds(), _NANOSECONDS_PER_MILLISECOND)
    with _lock:
        _last = stamp = max((milliseconds << 12) | ((rest << 12) // _NANOSECONDS_PER_MILLISECOND), _last + 1)
    random = int.from_bytes(os.urandom(8)) >> 2
    return UUID(int=((stamp >> 12) << 80) | ((stamp & 0xFFF) << 64) | random | _VERSION_AND_VARIANT)
