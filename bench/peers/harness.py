"""Runs one stage of one peer, in the peer's own virtual environment: standard library only.

The process that measures starts ``python with_<peer>.py '<task as JSON>'`` for each stage. It answers in lines of JSON
on standard output, and waits where it has to for a line on standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from multiprocessing.sharedctypes import RawArray
from typing import Any

LOOK_INTERVAL_SECONDS = 0.02
LATENCY_LIMIT_SECONDS = 30.0

calls: Any = RawArray("B", 0)
"""How often each job was called. Shared with child processes that are forked later."""
moments: Any = RawArray("d", 0)
"""When each job was called the last time, on the system-wide monotonic clock."""
first_call: Any = RawArray("d", 1)
"""When the first of them was called, on the wall clock."""


def called(number: int) -> None:
    """Count a call: what each peer's job does, and all that it does."""
    moments[number] = time.monotonic()
    if not first_call[0]:
        first_call[0] = time.time()
    calls[number] += 1


class Adapter:
    """A peer, through its public API.

    Args:
        url: the PostgreSQL database, or the Redis server.
        name: a name of this run's own, for what is shared.
    """

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name

    async def prepare(self) -> None:
        """Make the tables."""

    async def open(self) -> None:
        """Connect, to spawn."""

    async def close(self) -> None:
        """Close what ``open`` has opened."""

    async def spawn(self, count: int) -> None:
        """Record so many jobs, numbered from 0, in the way that is meant for many."""
        raise NotImplementedError

    async def spawn_one(self, number: int) -> None:
        """Record one job, committed when this returns."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start a worker."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Stop it, and wait for it."""
        raise NotImplementedError

    async def empty(self) -> bool:
        """Whether nothing is left of the jobs; asked only of peers whose jobs are not in PostgreSQL."""
        raise NotImplementedError

    async def clean(self) -> None:
        """Remove what would stay on a shared server."""


async def _spawn(adapter: Adapter, task: dict[str, Any]) -> None:
    await adapter.prepare()
    await adapter.open()
    _tell(ready=True)
    await _told()
    begin = time.perf_counter()
    await adapter.spawn(task["jobs"])
    seconds = time.perf_counter() - begin
    await adapter.close()
    _tell(seconds=seconds)


async def _drain(adapter: Adapter, task: dict[str, Any]) -> None:
    _share(task["jobs"])
    await adapter.start()
    while 0 in bytes(calls):  # noqa: ASYNC110 - child processes have no event of ours
        await asyncio.sleep(LOOK_INTERVAL_SECONDS)
    if task["observed"]:
        _tell(called=True)
        await _told()
    else:
        while not await adapter.empty():  # noqa: ASYNC110 - nor has Redis
            await asyncio.sleep(LOOK_INTERVAL_SECONDS)
    empty_at = time.time()
    await adapter.stop()
    _tell(first_call=first_call[0], empty_at=empty_at, calls=[min(calls), max(calls)])
    await adapter.clean()


async def _latency(adapter: Adapter, task: dict[str, Any]) -> None:
    count = task["jobs"]
    _share(count)
    await adapter.start()
    await adapter.open()
    pick_ups = []
    for number in range(count):
        await adapter.spawn_one(number)
        committed = time.monotonic()
        async with asyncio.timeout(LATENCY_LIMIT_SECONDS):
            while not calls[number]:  # noqa: ASYNC110 - child processes have no event of ours
                await asyncio.sleep(0.0005)
        pick_ups.append(moments[number] - committed)
        await asyncio.sleep(0.005)  # an idle system: the end of the last job is over
    await adapter.stop()
    await adapter.close()
    _tell(pick_ups=pick_ups[1:], calls=[min(calls), max(calls)])  # the first opens the connections
    await adapter.clean()


def _share(jobs: int) -> None:
    global calls, moments
    calls, moments = RawArray("B", jobs), RawArray("d", jobs)


def _tell(**answer: object) -> None:
    print(json.dumps(answer), flush=True)


async def _told() -> None:
    if not await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        raise SystemExit("the process that measures is gone")


def run(adapter: type[Adapter]) -> None:
    """Run the stage that the command line names."""
    task = json.loads(sys.argv[1])
    stage = {"spawn": _spawn, "drain": _drain, "latency": _latency}[task["stage"]]
    asyncio.run(stage(adapter(task["url"], task["name"]), task))
