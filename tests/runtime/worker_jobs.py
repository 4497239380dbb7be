"""Jobs that a worker process of its own runs, for the tests of processes."""

import asyncio
import os
import time
from pathlib import Path

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


@job(registry=REGISTRY, max_attempts=5)
async def wait_for_file(ctx: JobContext, path: Path) -> tuple[int, int]:
    """Wait until a file is there; report progress all the time. Return the attempt, and the process that ran it."""
    ctx.progress(attempt=ctx.attempt)
    while not path.exists():  # noqa: ASYNC240 - nobody announces it
        await asyncio.sleep(0.02)
        ctx.progress(attempt=ctx.attempt)
    return ctx.attempt, os.getpid()


@job(registry=REGISTRY, max_attempts=5)
async def keep_loop_busy(seconds: float) -> int:
    """Leave the event loop hardly a moment, for longer than a lease."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(0.3)  # noqa: ASYNC251 - blocks the loop, which is the point
        await asyncio.sleep(0)
    return os.getpid()


@job(registry=REGISTRY)
async def endless() -> None:
    """Run until cancelled."""
    await asyncio.Event().wait()


@job(registry=REGISTRY, max_attempts=5)
async def count_in(folder: Path, name: str) -> tuple[int, int]:
    """Return how many of these are in the folder at a time, this one included, and the process that counted."""
    mine = folder / name
    mine.touch()
    await asyncio.sleep(0.02)
    seen = len(os.listdir(folder))  # noqa: PTH208 - a few entries, on the loop
    mine.unlink()
    return seen, os.getpid()
