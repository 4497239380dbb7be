"""How fast jobs are recorded: ``spawn_many`` against COPY of the same rows."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from . import baseline, jobs
from .check import require
from .report import Goal, median_of, ratio
from .server import fresh_database, read, spent

GOALS = (Goal("jobs_per_second", "bulk spawn, jobs/s", 100_000, at_least=True),)
_SINGLE_SPAWNS = 500


def run(server_url: str, count: int, rounds: int) -> dict[str, Any]:
    """Spawn ``count`` jobs in each of ``rounds`` rounds, with Callboard and with COPY in turns."""
    measured, bare = [], []
    for _ in range(rounds):
        with fresh_database(server_url) as url:
            measured.append(jobs.run(_spawn(url, count)))
        with fresh_database(server_url) as url:
            bare.append(_copy(url, count))
    return {
        "figures": median_of(measured),
        "baseline": median_of(bare),
        "ratio_to_baseline": ratio(measured, bare, "jobs_per_second"),
        "measurements": {"callboard": measured, "baseline": bare},
    }


async def _spawn(url: str, count: int) -> dict[str, Any]:
    singles = min(_SINGLE_SPAWNS, count)
    with psycopg.connect(url, autocommit=True) as observer:
        async with jobs.make_runtime(url, work=False) as runtime:
            await runtime.spawn(jobs.nothing, 0)  # opens the connection
            before, cpu_before, begin = read(observer), time.process_time(), time.perf_counter()
            await jobs.spawn(runtime, count)
            seconds, python_cpu = time.perf_counter() - begin, time.process_time() - cpu_before
            server = spent(before, read(observer))
            begin = time.perf_counter()
            for number in range(singles):
                await runtime.spawn(jobs.nothing, number)
            single_seconds = time.perf_counter() - begin
    spawned = 1 + count + singles
    require(url, jobs={"pending": spawned}, history={"pending": spawned})
    return {
        "jobs_per_second": count / seconds,
        "seconds": seconds,
        "single_spawns_per_second": singles / single_seconds,
        "wal_bytes_per_job": server.wal_bytes / count,
        "python_cpu_microseconds_per_job": python_cpu / count * 1e6,
        "server_cpu_microseconds_per_job": None if server.cpu_seconds is None else server.cpu_seconds / count * 1e6,
    }


def _copy(url: str, count: int) -> dict[str, Any]:
    with psycopg.connect(url, autocommit=True) as observer:
        before = read(observer)
        seconds = baseline.copy(url, count)
        server = spent(before, read(observer))
    require(url, jobs={"pending": count}, history={"pending": count})
    return {"jobs_per_second": count / seconds, "seconds": seconds, "wal_bytes_per_job": server.wal_bytes / count}
