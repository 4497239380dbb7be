"""oban, the free edition."""

from __future__ import annotations

import harness
import uvloop
from oban import Oban, job
from oban.schema import install
from psycopg_pool import AsyncConnectionPool

CHUNK = 1_000
LIMIT = 100


@job(queue="bench", oban="Oban")
async def work(number: int) -> None:
    """Count the call."""
    harness.called(number)


class Adapter(harness.Adapter):
    """One queue with a hundred jobs at a time."""

    async def _pool(self) -> AsyncConnectionPool:
        pool = AsyncConnectionPool(self.url, min_size=1, max_size=10, open=False)
        await pool.open()
        return pool

    async def prepare(self) -> None:
        pool = await self._pool()
        await install(pool)
        await pool.close()

    async def open(self) -> None:
        self.pool = await self._pool()
        self.oban = Oban(pool=self.pool, name="client")

    async def close(self) -> None:
        await self.pool.close()

    async def spawn(self, count: int) -> None:
        for first in range(0, count, CHUNK):
            numbers = range(first, min(first + CHUNK, count))
            await self.oban.enqueue_many(work.new(number) for number in numbers)

    async def spawn_one(self, number: int) -> None:
        await self.oban.enqueue(work.new(number))

    async def start(self) -> None:
        self.worker_pool = await self._pool()
        self.worker = Oban(pool=self.worker_pool, queues={"bench": LIMIT})
        await self.worker.start()

    async def stop(self) -> None:
        await self.worker.stop()
        await self.worker_pool.close()


if __name__ == "__main__":
    uvloop.install()
    harness.run(Adapter)
