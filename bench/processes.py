"""Jobs in child processes that do nothing: through the process executor, and through ``ProcessPoolExecutor``."""

from __future__ import annotations

import multiprocessing
import queue
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, cast
from uuid import UUID

from callboard import JobContext, JobRegistry, job
from callboard.actors.executors.process import ProcessExecutor, available_cores
from callboard.actors.executors.process_limits import ProcessLimits
from callboard.actors.jobs.call import Call, Outcome, Returned
from callboard.actors.jobs.context import ContextServices
from callboard.actors.jobs.types import ClaimedJob

from .check import BenchmarkInvalid

ROUNDS = 3
"""Rounds in turns; their median counts."""
STARTS = 3
ROUND_TRIPS = 200
CLOSE_SECONDS = 10.0
ANSWER_SECONDS = 60.0


@job(executor="process", registry=JobRegistry())
def noop(number: int) -> int:
    """Return the number."""
    return number


def plain(number: int) -> int:
    """Return the number."""
    return number


_NO_SERVICES = cast(ContextServices, None)
"""A job that does nothing asks the runtime for nothing."""


class _Ours:
    """The process executor, without a database: what a job costs between its claim and its last write."""

    def __init__(self) -> None:
        self._executor = ProcessExecutor(available_cores(), ProcessLimits(max_jobs=10**9), lambda _: None)
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    def run(self, count: int) -> None:
        """Run so many jobs, as many at a time as there are processes."""
        for number in range(count):
            claimed = _claimed(number)
            call = Call(noop, JobContext(claimed, _NO_SERVICES), claimed, 1000)
            self._executor.start(call, lambda: None, self._outcomes.put)
        outcomes = [self._outcomes.get(timeout=ANSWER_SECONDS) for _ in range(count)]
        if not all(isinstance(outcome, Returned) for outcome in outcomes):
            raise BenchmarkInvalid(f"not all jobs returned: {outcomes[:3]} ...")

    def close(self) -> None:
        """End the processes."""
        self._executor.close(CLOSE_SECONDS)


class _Pool:
    """``ProcessPoolExecutor`` with fresh interpreters, as ours are; its functions and values are pickled."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(available_cores(), mp_context=multiprocessing.get_context("spawn"))

    def run(self, count: int) -> None:
        """As ours."""
        futures = [self._pool.submit(plain, number) for number in range(count)]
        if [future.result() for future in futures] != list(range(count)):
            raise BenchmarkInvalid("the pool returned something else")

    def close(self) -> None:
        """As ours."""
        self._pool.shutdown()


def run(count: int) -> dict[str, Any]:
    """Measure with ``count`` jobs a round.

    Returns:
        figures by name of callboard and of ``ProcessPoolExecutor``, and the ratios of ours to the other's.
    """
    first_ours = [_first_seconds(_Ours) for _ in range(STARTS)]
    first_pool = [_first_seconds(_Pool) for _ in range(STARTS)]
    ours, pool = _Ours(), _Pool()
    rounds: dict[_Ours | _Pool, list[dict[str, float]]] = {ours: [], pool: []}
    try:
        for measured in rounds:
            measured.run(100)  # every process has started and imported
        for _ in range(ROUNDS):
            for measured, taken in rounds.items():
                taken.append(_round(measured, count))
    finally:
        ours.close()
        pool.close()
    return {
        "count": count,
        "callboard": _figures(rounds[ours], first_ours),
        "process_pool_executor": _figures(rounds[pool], first_pool),
        "ratios": {
            "jobs_to_process_pool_executor": statistics.median(
                mine["process_jobs_per_second"] / theirs["process_jobs_per_second"]
                for mine, theirs in zip(rounds[ours], rounds[pool], strict=True)
            ),
            "first_result_to_process_pool_executor": statistics.median(first_ours) / statistics.median(first_pool),
        },
    }


def _first_seconds(make: Callable[[], _Ours | _Pool]) -> float:
    """Return how long it takes from nothing to the first result."""
    begin = time.perf_counter()
    measured = make()
    measured.run(1)
    seconds = time.perf_counter() - begin
    measured.close()
    return seconds


def _round(measured: _Ours | _Pool, count: int) -> dict[str, float]:
    begin, processor = time.perf_counter(), time.process_time()
    measured.run(count)
    seconds, processor = time.perf_counter() - begin, time.process_time() - processor
    begin = time.perf_counter()
    for _ in range(ROUND_TRIPS):
        measured.run(1)
    return {
        "process_jobs_per_second": count / seconds,
        "worker_cpu_microseconds_per_job": processor / count * 1e6,
        "round_trip_microseconds": (time.perf_counter() - begin) / ROUND_TRIPS * 1e6,
    }


def _figures(rounds: list[dict[str, float]], firsts: list[float]) -> dict[str, float]:
    figures = {name: statistics.median(taken[name] for taken in rounds) for name in rounds[0]}
    return figures | {"first_result_milliseconds": statistics.median(firsts) * 1000}


def _claimed(number: int) -> ClaimedJob:
    return ClaimedJob(
        id=UUID(int=number),
        kind=noop.kind,
        queue="default",
        attempt=1,
        max_attempts=1,
        token=1,
        arguments=f'{{"number":{number}}}',
        timeout_seconds=None,
        deadline=None,
        owner=None,
        parent_id=None,
        wait_seconds=0.0,
    )
