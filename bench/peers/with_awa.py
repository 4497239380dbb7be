"""awa, whose core is written in Rust."""

from __future__ import annotations

from dataclasses import dataclass

import harness
from awa import AsyncClient, Job

CHUNK = 10_000
WORKERS = 256


@dataclass
class Bench:
    """A job's arguments."""

    number: int


class Adapter(harness.Adapter):
    """256 jobs at a time, jobs recorded by COPY."""

    async def prepare(self) -> None:
        async with AsyncClient(self.url) as client:
            await client.migrate()
            await client.install_queue_storage()

    async def open(self) -> None:
        self.client = AsyncClient(self.url)

    async def close(self) -> None:
        await self.client.close()

    async def spawn(self, count: int) -> None:
        for first in range(0, count, CHUNK):
            numbers = range(first, min(first + CHUNK, count))
            await self.client.enqueue_many_copy([Bench(number) for number in numbers], queue="bench")

    async def spawn_one(self, number: int) -> None:
        await self.client.insert(Bench(number), queue="bench")

    async def start(self) -> None:
        self.worker = AsyncClient(self.url, max_connections=20)

        @self.worker.task(Bench, queue="bench")
        async def work(job: Job[Bench]) -> None:
            harness.called(job.args.number)

        await self.worker.start([("bench", WORKERS)])

    async def stop(self) -> None:
        await self.worker.shutdown()
        await self.worker.close()


if __name__ == "__main__":
    harness.run(Adapter)
