"""How soon a single job starts, and how soon its result is there, on an idle system."""

from __future__ import annotations

import time
from typing import Any

from callboard import Runtime

from . import baseline, jobs
from .check import require
from .report import Goal, median_of, percentile, ratio
from .server import fresh_database

GOALS = (
    Goal("pick_up_p50_milliseconds", "pick-up of a single job, p50, ms", 2.0, at_least=False),
    Goal("pick_up_p99_milliseconds", "pick-up of a single job, p99, ms", 8.0, at_least=False),
)


def run(server_url: str, count: int, rounds: int) -> dict[str, Any]:
    """Spawn ``count`` jobs one after the other in each of ``rounds`` rounds, and as many bare commits."""
    measured, bare = [], []
    for _ in range(rounds):
        with fresh_database(server_url) as url:
            measured.append(jobs.run(_latency(url, count)))
        with fresh_database(server_url) as url:
            bare.append(_percentiles("commit", baseline.commits(url, count)))
    figures, floor = median_of(measured), median_of(bare)
    return {
        "figures": figures,
        "baseline": floor,
        "ratio_to_baseline": ratio(measured, bare, "result_p50_milliseconds", "commit_p50_milliseconds"),
        "measurements": {"callboard": measured, "baseline": bare},
    }


async def _latency(url: str, count: int) -> dict[str, Any]:
    """Measure with a runtime that spawns and another that works; then with one that does both."""
    async with jobs.make_runtime(url, work=True) as worker:
        async with jobs.make_runtime(url, work=False) as spawner:
            apart = await _one_after_the_other(spawner, count)
        together = await _one_after_the_other(worker, count)
    ended = 2 * (count + 1)
    require(url, jobs={"completed": ended}, history={"pending": ended, "running": ended, "completed": ended})
    return apart | {f"same_runtime_{name}": value for name, value in together.items()}


async def _one_after_the_other(runtime: Runtime, count: int) -> dict[str, float]:
    jobs.started.clear()
    await (await runtime.spawn(jobs.nothing, -1)).result(timeout=60)  # opens the connections
    pick_ups, results = [], []
    for number in range(count):
        begin = time.perf_counter()
        ref = await runtime.spawn(jobs.nothing, number)
        committed = time.perf_counter()
        await ref.result(timeout=60)
        results.append(time.perf_counter() - begin)
        pick_ups.append(jobs.started[number] - committed)
    return _percentiles("pick_up", pick_ups) | _percentiles("result", results)


def _percentiles(name: str, seconds: list[float]) -> dict[str, float]:
    """Return p50 and p99 in milliseconds. A pick-up below zero began before its spawn had returned."""
    return {f"{name}_p{percent}_milliseconds": percentile(seconds, percent) * 1e3 for percent in (50, 99)}
