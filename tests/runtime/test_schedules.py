"""Schedules of a running program: from code, and made at run time."""

from __future__ import annotations

import asyncio

import pytest

from callboard import ConfigurationError, InvalidArguments, JobRecord, JobRegistry, Runtime, Schedule, Settings, job
from callboard.actors.errors import JobDefinitionError
from callboard.actors.jobs.types import JobFilter


async def jobs_of(runtime: Runtime, schedule: str, count: int) -> list[JobRecord]:
    async with asyncio.timeout(20):
        while len(found := await runtime.jobs(JobFilter(metadata={"schedule": schedule}))) < count:
            await runtime.pulse.wait(0.1)
    return found


async def test_a_job_with_a_schedule_runs_again_and_again(settings: Settings, registry: JobRegistry) -> None:
    ran: list[str] = []

    @job(kind="tick", schedule=Schedule("* * * * * *", arguments={"word": "tick"}), registry=registry)
    async def tick(word: str) -> None:
        ran.append(word)

    async with Runtime(settings, registry=registry) as runtime, Runtime(settings, registry=registry) as other:
        [record] = await other.schedules.list()
        assert (record.name, record.kind, record.source) == ("tick", "tick", "code")
        found = await jobs_of(runtime, "tick", 2)
        ticks = [one.metadata["tick"] for one in found]
        assert len(set(ticks)) == len(ticks), "two nodes, and one job for each tick"
        await runtime.schedules.pause("tick")
    assert set(ran) == {"tick"}
    async with Runtime(settings, registry=registry) as runtime:
        assert (await runtime.schedules.list())[0].paused, "a start leaves a pause as it is"


async def test_schedules_are_made_paused_resumed_and_deleted_at_run_time(
    runtime: Runtime, registry: JobRegistry
) -> None:
    @job(kind="sum", registry=registry)
    async def add(a: int, b: int = 0) -> int:
        return a + b

    await runtime.schedules.create("every second", add, Schedule(interval_seconds=1), 1, b=2, tags=("x",))
    [first, *_] = await jobs_of(runtime, "every second", 1)
    assert await (await runtime.get(first.id, add)).result(timeout=10) == 3
    assert first.tags == ("x",)
    with pytest.raises(ConfigurationError, match="exists"):
        await runtime.schedules.create("every second", add, "* * * * *", 1)
    await runtime.schedules.create("every second", add, Schedule("0 0 * * *", zone="Asia/Tokyo"), 1, replace=True)
    [record] = await runtime.schedules.list()
    assert [tick.hour for tick in record.upcoming(3)] == [15, 15, 15]
    await runtime.schedules.pause("every second")
    assert (await runtime.schedules.list())[0].upcoming(1) == []
    await runtime.schedules.resume("every second")
    assert await runtime.schedules.delete("every second")
    assert not await runtime.schedules.delete("every second")
    for change in (runtime.schedules.pause, runtime.schedules.resume):
        with pytest.raises(ConfigurationError, match="no schedule has the name 'none'"):
            await change("none")


async def test_what_is_wrong_is_refused_and_nothing_is_stored(runtime: Runtime, registry: JobRegistry) -> None:
    @job(kind="one", registry=registry)
    async def one(number: int) -> None: ...

    for name, when, args, options, error, words in (
        ("s", "61 * * * *", (1,), {}, ConfigurationError, "cron: got '61"),
        ("s", Schedule("* * * * *"), ("x",), {}, InvalidArguments, "number"),
        ("s", "* * * * *", (), {}, InvalidArguments, "number"),
        ("s", "* * * * *", (1,), {"priority": 10**9}, ConfigurationError, "priority"),
        ("s", "* * * * *", (1,), {"run_at": "2030-01-01T00:00:00Z"}, ConfigurationError, "run_at"),
        ("", "* * * * *", (1,), {}, ConfigurationError, "schedule name: got ''"),
        ("a\nb", "* * * * *", (1,), {}, ConfigurationError, "schedule name"),
    ):
        with pytest.raises(error, match=words):
            await runtime.schedules.create(name, one, when, *args, **options)
    assert await runtime.schedules.list() == []


@pytest.mark.parametrize(
    ("schedule", "error", "words"),
    [
        ("* * * *", ConfigurationError, "cron: got '\\* \\* \\* \\*': it has 4 fields"),
        (60, JobDefinitionError, "schedule: got int 60, expected a cron text or a Schedule"),
        ("* * * * *", InvalidArguments, "number"),
        (Schedule("* * * * *", arguments={"number": "x"}), InvalidArguments, "number"),
    ],
)
def test_a_wrong_schedule_is_refused_at_decoration(registry, schedule, error, words) -> None:
    with pytest.raises(error, match=words):

        @job(kind="one", schedule=schedule, registry=registry)
        def one(number: int) -> None: ...

    assert registry.kinds() == []
    with pytest.raises(ConfigurationError, match="zone: got 'Europe/Atlantis'"):
        Schedule("* * * * *", zone="Europe/Atlantis")
