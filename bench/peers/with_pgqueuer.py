"""pgqueuer over asyncpg, its faster driver."""

from __future__ import annotations

import asyncio

import asyncpg
import harness
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

CHUNK = 10_000
WORKERS = 5
BATCH = 100


class Adapter(harness.Adapter):
    """Five consumers, as in its own benchmark, with batches of a hundred, which are faster than its ten."""

    async def prepare(self) -> None:
        connection = await asyncpg.connect(self.url)
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    async def open(self) -> None:
        self.connection = await asyncpg.connect(self.url)
        self.queries = Queries(AsyncpgDriver(self.connection))

    async def close(self) -> None:
        await self.connection.close()

    async def spawn(self, count: int) -> None:
        for first in range(0, count, CHUNK):
            numbers = range(first, min(first + CHUNK, count))
            payloads = [b"%d" % number for number in numbers]
            await self.queries.enqueue(["bench"] * len(numbers), payloads, [0] * len(numbers))

    async def spawn_one(self, number: int) -> None:
        await self.queries.enqueue("bench", b"%d" % number)

    async def start(self) -> None:
        self.workers = []
        self.tasks = []
        for _ in range(WORKERS):
            worker = PgQueuer(AsyncpgDriver(await asyncpg.connect(self.url)))

            @worker.entrypoint("bench")
            async def work(job: Job) -> None:
                harness.called(int(job.payload or b""))

            self.workers.append(worker)
            self.tasks.append(asyncio.create_task(worker.run(batch_size=BATCH)))

    async def stop(self) -> None:
        for worker in self.workers:
            worker.shutdown.set()
        await asyncio.gather(*self.tasks)


if __name__ == "__main__":
    uvloop.install()
    harness.run(Adapter)
