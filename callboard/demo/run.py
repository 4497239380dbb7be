"""One run of the demo: spawn, watch, collect; then check everything."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from callboard import HistoryRow, JobEnded, JobFilter, JobRecord, JobRef, Runtime, Status, StoreUnavailable

from .batch import BatchFindings, collect, submit
from .check import check_jobs
from .expected import differences, plain_loop, totals_of
from .library import FileDigest, Tally
from .plan import Plan
from .report import Report, make_report
from .spawn import SpawnedJobs, cancel_once_running, spawn_jobs, spawn_refused

R = TypeVar("R")

PATIENCE_SECONDS = 300.0
"""A run that takes longer hangs: it is ended, and the report says which jobs have not ended."""
LOOK_INTERVAL_SECONDS = 0.2
UNFINISHED = tuple(status for status in Status if not status.is_terminal)
PAGE = 1000
READERS = 8
"""Histories that are read at a time."""
SCRAPE_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run's jobs returned."""

    digests: Sequence[FileDigest]
    tally: Tally


NOTHING = Findings((), Tally())


@dataclass(frozen=True, slots=True)
class Performance:
    """A run whose jobs have ended, not checked yet."""

    spawned: SpawnedJobs
    findings: Findings
    refusal: str | None
    """What the spawn with a wrong argument raised."""
    batch: BatchFindings
    samples: int
    """How many samples ``/metrics`` showed."""


async def perform(runtime: Runtime, plan: Plan, on_progress: Callable[[Mapping[str, int]], None]) -> Performance:
    """Run a plan's jobs.

    Args:
        runtime: a running one; its worker, or another process's, works on the plan's queues.
        plan: what to do.
        on_progress: told now and then how many jobs of each kind have ended.
    """
    refusal = await spawn_refused(runtime, plan)
    batch = await submit(runtime, plan)
    spawned = await spawn_jobs(runtime, plan)
    findings = await _wait(runtime, plan, spawned, on_progress)
    return Performance(spawned, findings, refusal, await collect(batch, plan), await _scrape(runtime))


async def check(runtime: Runtime, plan: Plan, performance: Performance) -> Report:
    """Compare a run with what had to happen: each job's end, and the totals with those of a plain loop."""
    records = await read_records(runtime, JobFilter(queues=tuple(plan.queues)))
    histories = await _read_histories(runtime, records)
    expected = await asyncio.to_thread(plain_loop, plan.modules)
    totals = totals_of(performance.findings.digests, performance.findings.tally)
    found = check_jobs(plan.jobs, performance.spawned.fates, records, histories) + differences(totals, expected)
    found += performance.batch.differences
    if performance.refusal is None:
        found.append("a spawn with an argument of the wrong type was not refused")
    return make_report(
        records,
        histories=histories,
        differences=found,
        run=plan.run,
        library=plan.folder,
        metrics_url=runtime.metrics_url,
        metrics_samples=performance.samples,
        refusal=performance.refusal,
        batch_items=performance.batch.right,
        totals=totals,
    )


async def cancel_unfinished(runtime: Runtime, plan: Plan) -> None:
    """Cancel what has not ended: nobody would run it any more."""
    unfinished = JobFilter(queues=tuple(plan.queues), statuses=UNFINISHED)
    await runtime.cancel([record.id for record in await read_records(runtime, unfinished)])


async def read_records(runtime: Runtime, where: JobFilter) -> list[JobRecord]:
    """Read all jobs that match, page by page."""
    page = records = await runtime.jobs(where, limit=PAGE)
    while len(page) == PAGE:
        page = await runtime.jobs(where, limit=PAGE, before=page[-1].id)
        records = records + page
    return records


async def _wait(
    runtime: Runtime, plan: Plan, spawned: SpawnedJobs, on_progress: Callable[[Mapping[str, int]], None]
) -> Findings:
    """Return what the jobs returned once all have ended; nothing if that takes too long, or the workers gave up."""
    everything = asyncio.create_task(_collect(spawned))
    giving_up = asyncio.create_task(runtime.wait_given_up())
    following = asyncio.create_task(_follow(runtime, plan, on_progress))
    try:
        await asyncio.wait({everything, giving_up}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        findings = everything.result() if everything.done() else NOTHING
    finally:
        for task in (everything, giving_up, following):
            task.cancel()
        await asyncio.gather(everything, giving_up, following, return_exceptions=True)
    on_progress(await _count_ended(runtime, plan))
    return findings


async def _collect(spawned: SpawnedJobs) -> Findings:
    tallies, sizes, digests, _, _, _ = await asyncio.gather(
        _results(spawned.packages),
        _results(spawned.modules),
        _results(spawned.digests),
        _results(spawned.failing),
        _results([spawned.unwanted]),
        cancel_once_running(spawned.unwanted),
    )
    return Findings(digests, sum((*tallies, *map(Tally.of, sizes)), Tally()))


async def _results(refs: Sequence[JobRef[R]]) -> list[R]:
    """Wait for the end of some jobs; return what those that completed returned."""
    returned = []
    for outcome in await asyncio.gather(*(ref.result() for ref in refs), return_exceptions=True):
        if not isinstance(outcome, BaseException):
            returned.append(outcome)
        elif not isinstance(outcome, JobEnded):  # how jobs ended is checked later, from their records
            raise outcome
    return returned


async def _follow(runtime: Runtime, plan: Plan, on_progress: Callable[[Mapping[str, int]], None]) -> None:
    while True:
        with suppress(StoreUnavailable):  # the bars stand still while the database is away
            on_progress(await _count_ended(runtime, plan))
        await asyncio.sleep(LOOK_INTERVAL_SECONDS)


async def _count_ended(runtime: Runtime, plan: Plan) -> Counter[str]:
    ended: Counter[str] = Counter()
    for kind, queue, status, jobs in (await runtime.summary()).counts:
        if queue in plan.queues and status.is_terminal:
            ended[kind] += jobs
    return ended


async def _read_histories(runtime: Runtime, records: Sequence[JobRecord]) -> list[list[HistoryRow]]:
    readers = asyncio.Semaphore(READERS)

    async def read(record: JobRecord) -> list[HistoryRow]:
        async with readers:
            return await runtime.store.history(record.id)

    return await asyncio.gather(*map(read, records))


async def _scrape(runtime: Runtime) -> int:
    """Return how many samples the runtime's ``/metrics`` shows; 0 where it serves none."""
    return 0 if runtime.metrics_url is None else await asyncio.to_thread(_count_samples, runtime.metrics_url)


def _count_samples(url: str) -> int:
    here = urllib.request.build_opener(
        urllib.request.ProxyHandler({})
    )  # a proxy of the environment's knows nothing of us
    with here.open(f"{url}/metrics", timeout=SCRAPE_TIMEOUT_SECONDS) as answer:
        return sum(not line.startswith(b"#") for line in answer)
