"""dramatiq on Redis."""

from __future__ import annotations

import dramatiq
import harness
import redis
from dramatiq.brokers.redis import RedisBroker

THREADS = 8


class Adapter(harness.Adapter):
    """One worker process with eight threads, its default."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url, name)
        self.broker = RedisBroker(url=url, namespace=name)

        @dramatiq.actor(broker=self.broker, queue_name="bench", max_retries=0)
        def work(number: int) -> None:
            harness.called(number)

        self.work = work

    async def spawn(self, count: int) -> None:
        for number in range(count):
            self.work.send(number)

    async def spawn_one(self, number: int) -> None:
        self.work.send(number)

    async def start(self) -> None:
        self.worker = dramatiq.Worker(self.broker, worker_threads=THREADS)
        self.worker.start()

    async def stop(self) -> None:
        self.worker.stop()

    async def empty(self) -> bool:
        server = redis.Redis.from_url(self.url)
        return not server.exists(f"{self.name}:bench.msgs")

    async def clean(self) -> None:
        server = redis.Redis.from_url(self.url)
        for key in server.scan_iter(f"{self.name}:*"):
            server.delete(key)


if __name__ == "__main__":
    harness.run(Adapter)
