"""Jobs at a steady rate for minutes, while a reader pins the server's oldest snapshot: does the queue keep up?

Nothing that a job leaves behind can be vacuumed as long as somebody's transaction might still look at it, so a claim
that goes through what its predecessors have taken takes longer each time. Reports and backups hold snapshots for that
long in every production database.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Final, NamedTuple

import psycopg

from callboard import Runtime

from . import jobs
from .check import require
from .report import Goal, percentile
from .server import fresh_database

GOALS: Final = (
    Goal("backlog_growth_seconds", "backlog at the reader's end, in seconds of arrivals", 1.0, at_least=False),
    Goal("arrived_share", "arrived, of what was asked for", 0.98, at_least=True),
)
PINNED_FROM: Final = 0.2
"""The share of the time that passes before the reader begins."""
PINNED_UNTIL: Final = 0.8
SAMPLES: Final = 20
_CONCURRENT_SPAWNS: Final = 50

# What a claim has to walk over if it starts at the beginning of its index.
_WALK: Final = """
EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) SELECT id FROM callboard.jobs
WHERE queue = %s AND turn IS NOT NULL AND concurrency_key IS NULL
ORDER BY turn, id LIMIT 1
"""
_TABLE: Final = """
SELECT (SELECT count(*) FROM callboard.jobs WHERE status = 'pending' AND run_at < now() - interval '1 s'),
       (SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'callboard.jobs'::regclass),
       pg_table_size('callboard.jobs'), pg_relation_size('callboard.jobs_runnable'),
       pg_total_relation_size('callboard.claims'),
       (SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelid = 'callboard.jobs_runnable'::regclass)
"""


class Claims(NamedTuple):
    """The claims of a runtime so far."""

    statements: float
    seconds: float


class Soak:
    """Spawns at a rate, with one runtime, what another one runs.

    Args:
        spawner: the runtime that spawns.
        worker: the one that works.
        rate: jobs a second.
    """

    def __init__(self, spawner: Runtime, worker: Runtime, rate: float) -> None:
        self._spawner = spawner
        self._worker = worker
        self._rate = rate
        self._room = asyncio.Semaphore(_CONCURRENT_SPAWNS)
        self._committed: dict[int, float] = {}
        self._claims = Claims(0, 0)
        self._counted = 0
        self._begin = 0.0
        self.spawned = 0

    async def spawn_until(self, end: float) -> None:
        """Spawn one job after the other at the rate, until a moment of ``time.perf_counter``; late ones catch up."""
        self._begin = time.perf_counter()
        async with asyncio.TaskGroup() as spawns:
            while time.perf_counter() < end:
                while self.owed():
                    await self._room.acquire()
                    spawns.create_task(self._spawn(self.spawned))
                    self.spawned += 1
                await asyncio.sleep(1 / self._rate)

    async def _spawn(self, number: int) -> None:
        try:
            await self._spawner.spawn(jobs.nothing, number)
            self._committed[number] = time.perf_counter()
        finally:
            self._room.release()

    def owed(self) -> int:
        """Return how many jobs should have been spawned by now, and were not."""
        return max(0, math.floor((time.perf_counter() - self._begin) * self._rate) - self.spawned)

    def arrivals(self) -> int:
        """Return how many jobs were spawned since the last call."""
        since, self._counted = self.spawned - self._counted, self.spawned
        return since

    def pick_ups(self) -> list[float]:
        """Return the seconds from commit to start of the jobs that started since the last call."""
        picked = [number for number in self._committed if number in jobs.started]
        return [max(0.0, jobs.started.pop(number) - self._committed.pop(number)) for number in picked]

    def claims(self) -> Claims:
        """Return the claims since the last call."""
        labels = {"operation": "claim"}
        value = self._worker.telemetry.registry.get_sample_value
        now = Claims(
            value("callboard_db_query_seconds_count", labels) or 0.0,
            value("callboard_db_query_seconds_sum", labels) or 0.0,
        )
        since = Claims(now.statements - self._claims.statements, now.seconds - self._claims.seconds)
        self._claims = now
        return since


def run(server_url: str, minutes: float, rate: float, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Soak a queue, and give each sample to ``tell`` as it is taken.

    Args:
        server_url: the server.
        minutes: for how long jobs are spawned; the reader is there from a fifth of the time to four fifths of it.
        rate: jobs a second.
        tell: gets the samples.

    Raises:
        BenchmarkInvalid: not every job ran once.
    """
    with fresh_database(server_url) as url:
        samples = jobs.run(_soak(url, minutes * 60, rate, tell))
    return {"figures": _figures(samples, rate), "samples": samples}


async def _soak(url: str, seconds: float, rate: float, tell: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    jobs.started.clear()
    samples: list[dict[str, Any]] = []
    async with AsyncExitStack() as stack:
        observer = stack.enter_context(psycopg.connect(url, autocommit=True))
        worker = await stack.enter_async_context(jobs.make_runtime(url, work=True))
        spawner = await stack.enter_async_context(jobs.make_runtime(url, work=False))
        soak = Soak(spawner, worker, rate)
        begin = time.perf_counter()
        spawning = asyncio.create_task(soak.spawn_until(begin + seconds))
        reader: psycopg.Connection[Any] | None = None
        for number in range(1, SAMPLES + 1):
            share = (number - 1) / SAMPLES
            if reader is None and PINNED_FROM <= share < PINNED_UNTIL:
                reader = stack.enter_context(psycopg.connect(url))
                reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                reader.execute("SELECT count(*) FROM callboard.jobs")
            elif reader is not None and share >= PINNED_UNTIL:
                reader.close()
                reader = None
            await asyncio.sleep(begin + number * seconds / SAMPLES - time.perf_counter())
            sample: dict[str, Any] = {"seconds": number * seconds / SAMPLES, "pinned": reader is not None}
            sample["jobs_per_second"] = soak.arrivals() * SAMPLES / seconds
            sample["owed"] = soak.owed()
            claims = soak.claims()
            sample |= _pick_up(soak.pick_ups()) | _claim(claims, seconds / SAMPLES)
            sample |= await asyncio.to_thread(_look, observer)
            met = sample["index_entries"] - (samples[-1]["index_entries"] if samples else 0)
            sample["entries_per_claim"] = met / claims.statements if claims.statements else None
            samples.append(sample)
            tell(sample)
        await spawning
        await asyncio.to_thread(_wait_empty, observer)
        spawned = soak.spawned
    require(url, jobs={"completed": spawned}, history={"pending": spawned, "running": spawned, "completed": spawned})
    return samples


def _pick_up(seconds: list[float]) -> dict[str, float | None]:
    return {
        "pick_up_p50_milliseconds": percentile(seconds, 50) * 1e3 if len(seconds) > 1 else None,
        "pick_up_p99_milliseconds": percentile(seconds, 99) * 1e3 if len(seconds) > 1 else None,
    }


def _claim(claims: Claims, seconds: float) -> dict[str, float | None]:
    return {
        "claims_per_second": claims.statements / seconds,
        "claim_milliseconds": claims.seconds / claims.statements * 1e3 if claims.statements else None,
    }


def _look(observer: psycopg.Connection[Any]) -> dict[str, Any]:
    row = observer.execute(_TABLE).fetchone()
    plan = observer.execute(_WALK, (jobs.QUEUE,)).fetchone()
    if row is None or plan is None:
        raise AssertionError("an aggregate and an EXPLAIN always return a row")
    [explained] = plan[0]
    return {
        "backlog": row[0],
        "dead_tuples": row[1],
        "table_bytes": row[2],
        "runnable_index_bytes": row[3],
        "claims_bytes": row[4],
        "index_entries": row[5],
        "walk_buffers": explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"],
        "walk_milliseconds": explained["Execution Time"],
    }


def _wait_empty(observer: psycopg.Connection[Any]) -> None:
    while observer.execute(
        "SELECT EXISTS (SELECT FROM callboard.jobs WHERE status IN ('pending', 'running'))"
    ).fetchone() == (True,):
        time.sleep(0.1)


def _figures(samples: list[dict[str, Any]], rate: float) -> dict[str, Any]:
    pinned = [sample for sample in samples if sample["pinned"]]
    first = samples.index(pinned[0])
    after = samples[first + len(pinned) :]
    return {
        "backlog_growth_seconds": (_behind(pinned[-1]) - _behind(samples[first - 1])) / rate,
        "arrived_share": statistics.mean(sample["jobs_per_second"] for sample in samples) / rate,
        "jobs_per_second": statistics.mean(sample["jobs_per_second"] for sample in samples),
        "pick_up_p99_before_milliseconds": samples[first - 1]["pick_up_p99_milliseconds"],
        "pick_up_p99_pinned_milliseconds": pinned[-1]["pick_up_p99_milliseconds"],
        "pick_up_p99_after_milliseconds": after[-1]["pick_up_p99_milliseconds"],
        "claim_before_milliseconds": samples[first - 1]["claim_milliseconds"],
        "claim_pinned_milliseconds": pinned[-1]["claim_milliseconds"],
        "entries_per_claim_before": samples[first - 1]["entries_per_claim"],
        "entries_per_claim_pinned": pinned[-1]["entries_per_claim"],
        "dead_tuples_pinned": pinned[-1]["dead_tuples"],
        "walk_pinned_milliseconds": pinned[-1]["walk_milliseconds"],
    }


def _behind(sample: dict[str, Any]) -> int:
    """Jobs that wait for a worker, and those that a machine which is too slow has not even spawned."""
    jobs: int = sample["backlog"] + sample["owed"]
    return jobs
