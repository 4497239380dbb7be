"""Leaders killed (-9) at every step of a tick, among three nodes: one job for each tick, and none is left out."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from callboard import JobRegistry, Runtime, Schedule, Settings, job
from callboard.actors.jobs.types import JobFilter
from callboard.persistence.leader_lock import PostgresLeaderLock

from .schedule_process import REGISTRY, STEPS, scheduled
from .test_leader import StartNode, leads, node_starter

WAIT_SECONDS = 60
SCHEDULES = ("one", "two", "three")

pytestmark = [pytest.mark.processes, pytest.mark.chaos]


@pytest.fixture
async def start_node() -> AsyncIterator[StartNode]:
    async with node_starter("tests.runtime.schedule_process") as start:
        yield start


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[Runtime]:
    async with Runtime(Settings(database_url=database_url, pg_pool_size=2), registry=REGISTRY, work=False) as client:
        yield client


async def ticks(client: Runtime) -> dict[str, list[datetime]]:
    """Return the ticks of each schedule that have a job, in order; each as often as it has one."""
    found = defaultdict(list)
    for record in await client.jobs(JobFilter(kinds=("scheduled",)), limit=10_000):
        found[record.metadata["schedule"]].append(datetime.fromisoformat(record.metadata["tick"]))
    return {schedule: sorted(moments) for schedule, moments in found.items()}


@pytest.mark.parametrize("step", STEPS)
async def test_a_leader_killed_in_a_tick_costs_no_job_and_makes_none_twice(
    database_url: str, client: Runtime, start_node: StartNode, step: str
) -> None:
    lock = PostgresLeaderLock(Settings(database_url=database_url))
    names = ("first", "second", "third")
    nodes = {}
    for name in names:
        nodes[name] = await start_node(name, database_url)
        if name == "first":
            await leads(lock, "first")
    every_second = Schedule(interval_seconds=1, misfire="all")
    for schedule in SCHEDULES:
        await client.schedules.create(schedule, scheduled, every_second)
    firsts = {record.name: record.next_tick for record in await client.schedules.list()}
    led = []
    for _ in range(2):
        async with asyncio.timeout(WAIT_SECONDS):
            while (holder := ((await lock.read()).holder or "").partition(":")[0]) not in set(names) - set(led):
                await asyncio.sleep(0.02)
        assert await nodes[holder].do(f"die {step}") == "armed"
        assert await asyncio.wait_for(nodes[holder].process.wait(), WAIT_SECONDS) == -9
        led.append(holder)
    [last] = set(names) - set(led)
    assert (await leads(lock, last)).term == 3
    until = datetime.now(UTC) + timedelta(seconds=1)
    found = await ticks(client)
    async with asyncio.timeout(WAIT_SECONDS):
        while set(found) != set(SCHEDULES) or min(moments[-1] for moments in found.values()) < until:
            await asyncio.sleep(0.1)
            found = await ticks(client)
    for schedule, moments in found.items():
        assert moments[0] == firsts[schedule]
        assert {later - earlier for earlier, later in pairwise(moments)} == {timedelta(seconds=1)}


async def test_two_versions_of_the_code_each_store_their_schedule_when_they_start_and_the_last_one_holds(
    database_url: str,
) -> None:
    """A rolling deployment: the old node goes on, and even leads, by what the new one has stored."""

    def version(schedule: Schedule | None, *, days: bool) -> JobRegistry:
        registry = JobRegistry()
        if days:

            @job(kind="report", schedule=schedule, registry=registry)
            async def report(days: int) -> int:
                return days
        else:

            @job(kind="report", schedule=schedule, registry=registry)
            async def report() -> int:
                return 0

        return registry

    async def stored(runtime: Runtime) -> tuple[float | None, str] | None:
        records = await runtime.schedules.list()
        return (records[0].schedule.interval_seconds, records[0].arguments) if records else None

    settings = Settings(database_url=database_url, pg_pool_size=3, queues={"default": 1})
    nowhere = settings.model_copy(update={"queues": {"elsewhere": 1}})
    old = version(Schedule(interval_seconds=3600), days=False)
    new = version(Schedule(interval_seconds=1, arguments={"days": 7}), days=True)
    lock = PostgresLeaderLock(settings)
    async with Runtime(settings.model_copy(update={"node_name": "old"}), registry=old) as first:
        await leads(lock, "old")
        assert await stored(first) == (3600, "{}")
        async with Runtime(nowhere, registry=new) as second:
            assert await stored(first) == (1, '{"days":7}')
            # The old node leads, and spawns by the new definition. It takes the job as well, and cannot call its own
            # function with such arguments.
            async with asyncio.timeout(WAIT_SECONDS):
                while not (found := await second.jobs(JobFilter(kinds=("report",)))):
                    await asyncio.sleep(0.05)
                ref = await second.get(found[-1].id)
                while not (record := await ref.record()).status.is_terminal:
                    await asyncio.sleep(0.05)
            assert record.status == "failed"
            assert record.error is not None
            assert record.error["type"].endswith("InvalidArguments")
        # An old node that starts once more stores its own again; one without the schedule deletes it.
        async with Runtime(nowhere, registry=old):
            assert await stored(first) == (3600, "{}")
        async with Runtime(nowhere, registry=version(None, days=True)):
            assert await stored(first) is None
