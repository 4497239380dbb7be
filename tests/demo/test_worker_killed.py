"""A worker is killed by SIGKILL in the middle of the demo's jobs: another one ends them, and nothing is lost."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from callboard import JobFilter, Runtime, Settings, Status
from callboard.demo.plan import Plan, make_plan
from callboard.demo.run import check, perform, read_records

PACKAGES = 10
ENDED_BEFORE_THE_KILL = 50
WAIT_SECONDS = 60

pytestmark = [pytest.mark.processes, pytest.mark.chaos]


@contextmanager
def worker(database_url: str, plan: Plan) -> Generator[subprocess.Popen[bytes]]:
    """Start a worker; it is killed at the end."""
    environment = {
        **os.environ,
        "CALLBOARD_DATABASE_URL": database_url,
        "CALLBOARD_QUEUES": json.dumps(plan.queues),
        "CALLBOARD_LEASE_SECONDS": "2",
        "CALLBOARD_RESCUE_INTERVAL_SECONDS": "0.2",
        "CALLBOARD_RETRY_INITIAL_SECONDS": "0.1",
        "CALLBOARD_POLL_INTERVAL_SECONDS": "0.1",
    }
    process = subprocess.Popen([sys.executable, "-m", "tests.demo.worker_process"], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def test_nothing_is_lost(database_url: str) -> None:
    plan = make_plan(PACKAGES)
    async with Runtime(Settings(database_url=database_url), work=False) as runtime:
        performing = asyncio.create_task(perform(runtime, plan, lambda ended: None))
        with worker(database_url, plan) as first:
            await until_in_the_middle(runtime)
            first.kill()
        left = await statuses(runtime)
        with worker(database_url, plan):
            async with asyncio.timeout(WAIT_SECONDS):
                performance = await performing
        report = await check(runtime, plan, performance)
        records = await read_records(runtime, JobFilter(queues=tuple(plan.queues)))

    assert left[Status.RUNNING] > 0
    assert left[Status.COMPLETED] < report.jobs
    assert report.differences == ()
    assert {kind.kind: kind.jobs for kind in report.kinds} == plan.jobs
    assert report.interrupted == left[Status.RUNNING]
    assert len({record.node for record in records}) == 2


async def until_in_the_middle(runtime: Runtime) -> None:
    """Return when some jobs have ended and others run."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            found = await statuses(runtime)
            if found[Status.COMPLETED] >= ENDED_BEFORE_THE_KILL and found[Status.RUNNING]:
                return
            await asyncio.sleep(0.01)


async def statuses(runtime: Runtime) -> Counter[Status]:
    found: Counter[Status] = Counter()
    for count in (await runtime.summary()).counts:
        found[count.status] += count.jobs
    return found
