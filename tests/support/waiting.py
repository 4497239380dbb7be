"""Waiting for what no event announces: other processes, and the operating system."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], *, timeout_seconds: float = 10.0, interval_seconds: float = 0.01) -> T:
    """Return the first true value of ``condition``; fail the test if it has none in time."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{condition!r} was not true within {timeout_seconds} s; its last value: {value!r}")
        time.sleep(interval_seconds)


def last_value(read: Callable[[], T], *, timeout_seconds: float, interval_seconds: float = 0.01) -> T:
    """Return the first false value of ``read`` (nothing left), or its last one once the time is over."""
    deadline = time.monotonic() + timeout_seconds
    value = read()
    while value and time.monotonic() < deadline:
        time.sleep(interval_seconds)
        value = read()
    return value


async def settle() -> None:
    """Let everything happen on the event loop that can happen without time passing."""
    for _ in range(30):
        await asyncio.sleep(0)
