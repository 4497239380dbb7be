"""How fast one worker process empties a queue of jobs that do nothing."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg

from . import baseline, jobs
from .check import BenchmarkInvalid, require
from .report import Goal, median_of, ratio
from .server import fresh_database, read, spent

GOALS = (
    Goal("jobs_per_second", "drain, jobs/s", 36_000, at_least=True),
    Goal("wal_bytes_per_job", "WAL per job, spawn included, bytes", 800, at_least=False),
    Goal("commits_per_job", "commits per job", 0.02, at_least=False),
)
_LOOK_INTERVAL_SECONDS = 0.02


def run(server_url: str, count: int, rounds: int) -> dict[str, Any]:
    """Drain ``count`` jobs in each of ``rounds`` rounds, with Callboard and with bare SQL in turns."""
    measured, baselines = [], []
    for _ in range(rounds):
        with fresh_database(server_url) as url:
            measured.append(jobs.run(_drain(url, count)))
        with fresh_database(server_url) as url:
            baselines.append(asyncio.run(bare(url, count)))
    return {
        "figures": median_of(measured),
        "baseline": median_of(baselines),
        "ratio_to_baseline": ratio(measured, baselines, "jobs_per_second"),
        "measurements": {"callboard": measured, "baseline": baselines},
    }


async def _drain(url: str, count: int) -> dict[str, Any]:
    with psycopg.connect(url, autocommit=True) as observer:
        spawn_wal = await _fill(url, observer, count)
        before, cpu_before = read(observer), time.process_time()
        runtime = jobs.make_runtime(url, work=True)
        async with runtime:
            while len(jobs.started) < count:  # noqa: ASYNC110 - looks at the server meanwhile would slow it down
                await asyncio.sleep(_LOOK_INTERVAL_SECONDS)
            seconds = await asyncio.to_thread(_wait_empty, url, count)
            python_cpu = time.process_time() - cpu_before
        server = spent(before, read(observer))
    _verify(url, count)
    if len(jobs.started) != count:
        raise BenchmarkInvalid(f"{len(jobs.started)} functions ran, expected {count}")
    return {
        "jobs_per_second": count / seconds,
        "seconds": seconds,
        "wal_bytes_per_job": spawn_wal + server.wal_bytes / count,
        "wal_bytes_per_job_drain_only": server.wal_bytes / count,
        "full_page_images": server.full_page_images,
        "commits_per_job": server.commits / count,
        "python_cpu_microseconds_per_job": python_cpu / count * 1e6,
        "server_cpu_microseconds_per_job": None if server.cpu_seconds is None else server.cpu_seconds / count * 1e6,
    }


async def bare(url: str, count: int) -> dict[str, Any]:
    """Drain so many jobs with bare SQL."""
    with psycopg.connect(url, autocommit=True) as observer:
        await _fill(url, observer, count)
        before = read(observer)
        seconds = await asyncio.to_thread(baseline.drain, url)
        server = spent(before, read(observer))
    _verify(url, count)
    return {
        "jobs_per_second": count / seconds,
        "seconds": seconds,
        "wal_bytes_per_job_drain_only": server.wal_bytes / count,
        "server_cpu_microseconds_per_job": None if server.cpu_seconds is None else server.cpu_seconds / count * 1e6,
    }


async def _fill(url: str, observer: psycopg.Connection[Any], count: int) -> float:
    """Spawn the jobs, and leave the tables as autovacuum would; return the WAL bytes of each spawn."""
    jobs.started.clear()
    before = read(observer)
    async with jobs.make_runtime(url, work=False) as spawner:
        await jobs.spawn(spawner, count)
    wal_bytes = spent(before, read(observer)).wal_bytes
    observer.execute("VACUUM ANALYZE callboard.jobs")
    return wal_bytes / count


def _wait_empty(url: str, count: int) -> float:
    """Return the seconds from the first claim to the moment when all have completed, both on the server's clock.

    One transaction for all looks, so that they add one commit to those that are counted. Each statement of it sees
    what is committed by then. Ends are counted in the history: running jobs have no index.
    """
    with psycopg.connect(url) as connection:
        while connection.execute(
            "SELECT coalesce(sum(cardinality(attempts)), 0) < %s FROM callboard.history_batches"
            " WHERE to_status = 'completed'",
            (count,),
        ).fetchone() == (True,):
            time.sleep(_LOOK_INTERVAL_SECONDS)
        row = connection.execute(
            "SELECT extract(epoch FROM clock_timestamp() - min(started_at))::float8 FROM callboard.jobs"
        ).fetchone()
    if row is None or row[0] is None:
        raise BenchmarkInvalid("no job was started")
    return float(row[0])


def _verify(url: str, count: int) -> None:
    require(url, jobs={"completed": count}, history={"pending": count, "running": count, "completed": count})
