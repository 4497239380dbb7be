"""procrastinate over psycopg."""

from __future__ import annotations

import asyncio
import contextlib

import harness
from procrastinate import App, PsycopgConnector

CHUNK = 1_000
CONCURRENCY = 30


class Adapter(harness.Adapter):
    """One worker with thirty jobs at a time, woken by notifications."""

    async def prepare(self) -> None:
        await self.open()
        await self.app.schema_manager.apply_schema_async()
        await self.close()

    async def open(self) -> None:
        self.app = App(connector=PsycopgConnector(conninfo=self.url, max_size=CONCURRENCY))

        @self.app.task(queue="bench", name="bench")
        async def work(number: int) -> None:
            harness.called(number)

        self.task = work
        await self.app.open_async()

    async def close(self) -> None:
        await self.app.close_async()

    async def spawn(self, count: int) -> None:
        for first in range(0, count, CHUNK):
            numbers = range(first, min(first + CHUNK, count))
            await self.task.batch_defer_async(*({"number": number} for number in numbers))

    async def spawn_one(self, number: int) -> None:
        await self.task.defer_async(number=number)

    async def start(self) -> None:
        self.worker = Adapter(self.url, self.name)
        await self.worker.open()
        self.running = asyncio.create_task(
            self.worker.app.run_worker_async(
                queues=["bench"], concurrency=CONCURRENCY, install_signal_handlers=False, listen_notify=True
            )
        )

    async def stop(self) -> None:
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running
        await self.worker.close()


if __name__ == "__main__":
    harness.run(Adapter)
