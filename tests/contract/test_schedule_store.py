"""Schedules: what a store keeps of them, and one job for each tick."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from callboard import ConfigurationError
from callboard.actors.errors import StaleTerm
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.types import JobFilter
from callboard.actors.ports import NoTelemetry
from callboard.actors.schedules.firing import Misfire, tick_job_id
from callboard.actors.schedules.types import NewSchedule, Schedule, ScheduleRecord, ScheduleSource
from callboard.actors.settings import Settings
from callboard.persistence import stores
from callboard.persistence.memory_store import MemoryStore

HOURLY = Schedule("0 * * * *")
EVERY_MINUTE = Schedule(interval_seconds=60)


def new(name: str = "s", schedule: Schedule = EVERY_MINUTE, **fields: Any) -> NewSchedule:
    options = json.dumps({"queue": "default", **fields.pop("options", {})})
    return NewSchedule(name, fields.pop("kind", "kind"), "default", schedule, '{"n": 1}', options, **fields)


async def one(store: JobStore, name: str = "s") -> ScheduleRecord:
    [record] = [record for record in await store.schedules.read() if record.name == name]
    return record


async def make_due(store: JobStore, database_url: str | None, seconds: float, name: str = "s") -> datetime:
    """Let the next tick have come so long ago; returns it."""
    record = await one(store, name)
    assert record.next_tick is not None
    tick = datetime.now(UTC) - timedelta(seconds=seconds)
    if isinstance(store, MemoryStore):
        store.schedules._records[name] = replace(record, next_tick=tick, next_fire_at=tick)
    else:
        assert database_url is not None
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            await connection.execute(
                "UPDATE callboard.schedules SET next_tick = %s, next_fire_at = %s WHERE name = %s", [tick, tick, name]
            )
    return tick


@pytest.fixture
def url(request: pytest.FixtureRequest, store: JobStore) -> str | None:
    return None if isinstance(store, MemoryStore) else request.getfixturevalue("database_url")


async def fire(store: JobStore) -> list[Any]:
    return await store.schedules.fire(actor="leader:test", limit=100)


async def test_a_schedule_is_kept_as_it_was_given(store: JobStore) -> None:
    schedule = Schedule(
        "30 0 2 * * *",
        zone="Europe/Berlin",
        jitter_seconds=5,
        misfire=Misfire.ALL,
        misfire_grace_seconds=7,
        max_catch_up=9,
    )
    await store.schedules.put(new(schedule=schedule), actor="client:test")
    record = await one(store)
    assert (record.schedule, record.kind, record.source, record.paused) == (
        schedule,
        "kind",
        ScheduleSource.RUNTIME,
        False,
    )
    assert json.loads(record.arguments) == {"n": 1}
    assert record.next_tick is not None
    assert record.next_fire_at is not None
    assert record.next_tick > datetime.now(UTC)
    assert timedelta(0) <= record.next_fire_at - record.next_tick <= timedelta(seconds=5)
    assert (record.last_tick, record.last_job_id, record.changed_by) == (None, None, "client:test")


async def test_a_name_that_is_taken_is_refused_or_replaced(store: JobStore) -> None:
    await store.schedules.put(new(), actor="client:one")
    before = await one(store)
    with pytest.raises(ConfigurationError, match="schedule 's' exists"):
        await store.schedules.put(new(kind="other"), actor="client:two")
    assert await one(store) == before
    await store.schedules.put(new(kind="other"), actor="client:two", replace=True)
    after = await one(store)
    assert (after.kind, after.changed_by, after.next_tick) == ("other", "client:two", before.next_tick)
    await store.schedules.put(new(schedule=HOURLY), actor="client:two", replace=True)
    assert (await one(store)).next_tick != before.next_tick


async def test_a_tick_spawns_one_job_and_moves_the_schedule_on(store: JobStore, url: str | None) -> None:
    await store.schedules.put(new(options={"tags": ["red"], "metadata": {"tenant": "acme"}}), actor="client:test")
    assert await fire(store) == []
    tick = await make_due(store, url, 1)
    [fired] = await fire(store)
    assert fired.ticks == (tick,)
    assert fired.jobs == (tick_job_id("s", tick),)
    assert await fire(store) == []
    [job] = await store.list_jobs(JobFilter(metadata={"schedule": "s"}), limit=10)
    assert (job.id, job.kind, job.tags) == (fired.jobs[0], "kind", ("red",))
    assert json.loads(job.arguments) == {"n": 1}
    assert job.metadata == {"tenant": "acme", "schedule": "s", "tick": tick.isoformat()}
    [row] = await store.history(job.id)
    assert row.actor == "leader:test"
    record = await one(store)
    assert (record.last_tick, record.last_job_id) == (tick, job.id)
    assert record.next_tick == tick + timedelta(minutes=1)


async def test_a_tick_that_comes_again_finds_its_job(store: JobStore, url: str | None) -> None:
    """Whatever moves the schedule back (a restored row, a deleted and made one): the job's id has one place."""
    await store.schedules.put(new(), actor="client:test")
    tick = await make_due(store, url, 1)
    await fire(store)
    await store.schedules.delete("s")
    await store.schedules.put(new(), actor="client:test")
    if isinstance(store, MemoryStore):
        store.schedules._records["s"] = replace(await one(store), next_tick=tick, next_fire_at=tick)
    else:
        assert url is not None
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("UPDATE callboard.schedules SET next_tick = %s, next_fire_at = %s", [tick, tick])
    [fired] = await fire(store)
    assert (fired.ticks, fired.jobs) == ((tick,), ())
    assert len(await store.list_jobs(JobFilter(), limit=10)) == 1


@pytest.mark.parametrize(("misfire", "jobs"), [(Misfire.SKIP, 0), (Misfire.ONCE, 1), (Misfire.ALL, 3)])
async def test_what_nobody_took_in_time_goes_by_the_policy(
    store: JobStore, url: str | None, misfire: Misfire, jobs: int
) -> None:
    schedule = Schedule(interval_seconds=60, misfire=misfire, misfire_grace_seconds=1, max_catch_up=3)
    await store.schedules.put(new(schedule=schedule), actor="client:test")
    tick = await make_due(store, url, 60 * 9 + 30)
    [fired] = await fire(store)
    assert len(fired.jobs) == jobs
    record = await one(store)
    assert record.next_tick == tick + timedelta(minutes=10)
    assert await fire(store) == []


async def test_a_paused_schedule_spawns_nothing_and_goes_on_from_now(store: JobStore, url: str | None) -> None:
    await store.schedules.put(new(schedule=Schedule(interval_seconds=60, misfire=Misfire.ALL)), actor="client:test")
    assert await store.schedules.set_paused("s", paused=True, actor="client:test")
    await make_due(store, url, 3600)
    assert await fire(store) == []
    assert (await one(store)).upcoming(3) == []
    assert await store.schedules.set_paused("s", paused=False, actor="client:test")
    assert await fire(store) == []
    assert len((await one(store)).upcoming(3)) == 3
    assert not await store.schedules.set_paused("none", paused=True, actor="client:test")


async def test_a_deleted_schedule_is_gone(store: JobStore) -> None:
    await store.schedules.put(new(), actor="client:test")
    assert await store.schedules.delete("s")
    assert await store.schedules.read() == []
    assert not await store.schedules.delete("s")


async def test_a_schedule_that_cannot_spawn_hinders_no_other_and_is_asked_again(
    store: JobStore, url: str | None
) -> None:
    await store.controls.set_queue("full", draining=True, actor="client:test")
    await store.schedules.put(new("a", options={"queue": "full"}), actor="client:test")
    await store.schedules.put(new("b"), actor="client:test")
    tick = await make_due(store, url, 2, "a")
    await make_due(store, url, 1, "b")
    refused, fired = await fire(store)
    assert (refused.schedule, refused.jobs) == ("a", ())
    assert "is being drained" in str(refused.error)
    assert (fired.schedule, len(fired.jobs)) == ("b", 1)
    assert (await one(store, "a")).next_tick == tick
    await store.controls.set_queue("full", draining=False, actor="client:test")
    [again] = await fire(store)
    assert (again.ticks, again.error) == ((tick,), None)


async def test_a_held_unique_key_leaves_a_tick_without_a_job(store: JobStore, url: str | None) -> None:
    await store.schedules.put(new(options={"unique_key": "only"}), actor="client:test")
    await make_due(store, url, 120)
    assert len((await fire(store))[0].jobs) == 1
    await make_due(store, url, 1)
    [fired] = await fire(store)
    assert (len(fired.ticks), fired.jobs) == (1, ())


async def test_code_is_synchronised_and_what_was_made_at_run_time_stays(store: JobStore, url: str | None) -> None:
    await store.schedules.put(new("mine"), actor="client:test")
    await store.schedules.put(new("b"), actor="client:test")
    code = {name: new(name, kind=name, source=ScheduleSource.CODE) for name in ("a", "b", "c")}
    done = await store.schedules.synchronise(list(code.values()), ["a", "b", "c"], actor="node:one")
    assert (done.created, done.changed, done.deleted, done.refused) == (("a", "c"), (), (), ("b",))
    tick = await make_due(store, url, 1, "a")
    await store.schedules.set_paused("c", paused=True, actor="client:test")
    assert await store.schedules.synchronise(list(code.values()), ["a", "b", "c"], actor="node:two") == (
        (),
        (),
        (),
        ("b",),
    )
    assert (await one(store, "a")).next_tick == tick, "what is due stays due"
    changed = code["c"]._replace(schedule=HOURLY)
    done = await store.schedules.synchronise([changed], ["a", "c"], actor="node:two")
    assert (done.created, done.changed, done.deleted, done.refused) == ((), ("c",), ("a",), ())
    assert ((await one(store, "c")).schedule, (await one(store, "c")).paused) == (HOURLY, True)
    # A worker with other code knows nothing of them, and leaves them alone.
    assert not any(await store.schedules.synchronise([], ["x"], actor="node:three"))
    assert [record.name for record in await store.schedules.read()] == ["b", "c", "mine"]


@pytest.mark.postgres
async def test_many_nodes_at_once_spawn_one_job_for_each_tick(database_url: str) -> None:
    nodes = [stores.postgres(Settings(database_url=database_url), NoTelemetry()).store for _ in range(4)]
    for store in nodes:
        await store.open()
    try:
        names = [f"s{number}" for number in range(8)]
        for name in names:
            await nodes[0].schedules.put(new(name), actor="client:test")
            await make_due(nodes[0], database_url, 1, name)
        fired = await asyncio.gather(*(fire(store) for store in nodes for _ in range(2)))
        assert sorted(one.schedule for answer in fired for one in answer) == names
        assert len(await nodes[0].list_jobs(JobFilter(), limit=100)) == len(names)
    finally:
        for store in nodes:
            await store.close()


async def test_a_leader_whose_term_is_over_spawns_nothing(store: JobStore, url: str | None) -> None:
    await store.schedules.put(new(), actor="client:test")
    tick = await make_due(store, url, 1)
    with pytest.raises(StaleTerm):
        await store.schedules.fire(actor="leader:test#7", limit=10, term=7)
    assert await store.list_jobs(JobFilter(), limit=10) == []
    assert (await one(store)).next_tick == tick
