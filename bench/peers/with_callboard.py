"""Callboard, as the other benchmarks run it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import harness
import uvloop

from callboard import JobRegistry, Runtime, Settings, job
from callboard.garbage import settle_collector
from callboard.persistence.migrate import migrate

CHUNK = 10_000
SLOTS = 4_000
REGISTRY = JobRegistry()


@job(kind="bench.call", queue="bench", registry=REGISTRY)
async def call(number: int) -> None:
    """Count the call."""
    harness.called(number)


class Adapter(harness.Adapter):
    """One worker process with 4,000 slots."""

    def _runtime(self, *, work: bool) -> Runtime:
        return Runtime(Settings(database_url=self.url, queues={"bench": SLOTS}), work=work, registry=REGISTRY)

    async def prepare(self) -> None:
        migrate(self.url)

    async def open(self) -> None:
        self.client = await self._runtime(work=False).__aenter__()

    async def close(self) -> None:
        await self.client.__aexit__(None, None, None)

    async def spawn(self, count: int) -> None:
        for first in range(0, count, CHUNK):
            await self.client.spawn_many(call, [(number,) for number in range(first, min(first + CHUNK, count))])

    async def spawn_one(self, number: int) -> None:
        await self.client.spawn(call, number)

    async def start(self) -> None:
        self.worker = await self._runtime(work=True).__aenter__()

    async def stop(self) -> None:
        await self.worker.__aexit__(None, None, None)


if __name__ == "__main__":
    settle_collector()
    uvloop.install()
    harness.run(Adapter)
