"""Jobs that a worker process of its own runs, for the tests of processes."""

import asyncio
import os
import time

from callboard import JobContext, JobRegistry, job

REGISTRY = JobRegistry()


@job(registry=REGISTRY, max_attempts=5)
async def slow_square(number: int) -> tuple[int, int]:
    """Return the square, and the process that found it."""
    await asyncio.sleep(0.05)
    return number * number, os.getpid()


@job(registry=REGISTRY, max_attempts=5)
def slow_cube(number: int) -> int:
    """Take a while in a thread."""
    time.sleep(0.05)
    return number**3


@job(registry=REGISTRY, max_attempts=2)
async def poison(ctx: JobContext) -> None:
    """Kill the worker, as a bug in a C extension would."""
    os.kill(os.getpid(), 9)


@job(registry=REGISTRY)
async def endless() -> None:
    """Run until cancelled."""
    await asyncio.Event().wait()
