"""celery on Redis."""

from __future__ import annotations

import multiprocessing
import threading

import harness
import redis
from celery import Celery


class Adapter(harness.Adapter):
    """One worker with a child process for each core, its default; results are ignored."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url, name)
        self.app = Celery("bench", broker=url)
        self.app.conf.update(
            task_ignore_result=True,
            task_default_queue="bench",
            broker_transport_options={"global_keyprefix": f"{name}:"},
            worker_hijack_root_logger=False,
            worker_redirect_stdouts=False,
        )

        @self.app.task(name="bench")
        def work(number: int) -> None:
            harness.called(number)

        self.work = work

    async def spawn(self, count: int) -> None:
        with self.app.producer_or_acquire() as producer:
            for number in range(count):
                self.work.apply_async((number,), producer=producer)

    async def spawn_one(self, number: int) -> None:
        self.work.apply_async((number,))

    async def start(self) -> None:
        self.worker = self.app.Worker(
            pool="prefork",
            concurrency=multiprocessing.cpu_count(),
            loglevel="ERROR",
            without_gossip=True,
            without_mingle=True,
            quiet=True,
        )
        self.thread = threading.Thread(target=self.worker.start, daemon=True)
        self.thread.start()

    async def stop(self) -> None:
        self.worker.stop()
        self.thread.join(10)

    async def empty(self) -> bool:
        server = redis.Redis.from_url(self.url)
        return not server.exists(f"{self.name}:bench", f"{self.name}:unacked")

    async def clean(self) -> None:
        server = redis.Redis.from_url(self.url)
        for key in server.scan_iter(f"{self.name}:*"):
            server.delete(key)


if __name__ == "__main__":
    harness.run(Adapter)
