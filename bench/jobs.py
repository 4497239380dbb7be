"""The job that is measured, and the runtimes that spawn and run it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import uvloop

from callboard import JobRegistry, Runtime, Settings, job

T = TypeVar("T")

QUEUE: Final = "bench"
REGISTRY: Final = JobRegistry()
SPAWN_CHUNK: Final = 10_000
"""How many jobs one ``spawn_many`` writes."""

started: dict[int, float] = {}
"""Number of a job to the moment its function began, on the clock of ``time.perf_counter``."""


@job(kind="bench.nothing", queue=QUEUE, registry=REGISTRY)
async def nothing(number: int) -> None:
    """Do nothing, at a known moment."""
    started[number] = time.perf_counter()


def make_runtime(url: str, *, work: bool, slots: int = 4000) -> Runtime:
    """Return a runtime with the default settings, but for its queue."""
    settings = Settings(database_url=url, queues={QUEUE: slots})
    return Runtime(settings, work=work, registry=REGISTRY)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop, as a worker with ``CALLBOARD_USE_UVLOOP`` does."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def spawn(runtime: Runtime, jobs: int) -> None:
    """Spawn so many jobs, in chunks."""
    for first in range(0, jobs, SPAWN_CHUNK):
        await runtime.spawn_many(nothing, [(number,) for number in range(first, min(first + SPAWN_CHUNK, jobs))])
