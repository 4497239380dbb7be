"""The job that is measured, and the runtimes that spawn and run it."""

from __future__ import annotations

import time
from typing import Final

from callboard import JobRegistry, Runtime, Settings, job

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


async def spawn(runtime: Runtime, jobs: int) -> None:
    """Spawn so many jobs, in chunks."""
    for first in range(0, jobs, SPAWN_CHUNK):
        await runtime.spawn_many(nothing, [(number,) for number in range(first, min(first + SPAWN_CHUNK, jobs))])
