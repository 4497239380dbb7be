"""What only the memory store does: its clock, its hints."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from callboard.actors.errors import ConfigurationError
from callboard.actors.jobs.decide import Policy, Succeed
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import JobFilter
from callboard.persistence import stores
from callboard.persistence.stores import StoreParts
from callboard.testing import FakeClock
from tests.contract.support import applied, claimed, new_job, outcome, record, running, spawned


@pytest.fixture
def parts(clock: FakeClock) -> StoreParts:
    return stores.memory(clock)


async def test_its_time_is_the_clocks(parts: StoreParts, clock: FakeClock) -> None:
    [delayed] = await spawned(parts.store, delay_seconds=60, deadline_seconds=90)
    assert await claimed(parts.store) == []
    clock.advance(60)
    [job] = await claimed(parts.store, lease=10)
    stored = await record(parts.store, delayed)
    assert (stored.created_at + timedelta(seconds=60), stored.started_at) == (clock.now(), clock.now())
    clock.advance(11)
    await parts.store.rescue(actor="b", policy=Policy(), limit=9, retry_delay_seconds=lambda attempt: 0)
    assert (await record(parts.store, job.id)).status is Status.FAILED


async def test_hints_come_while_it_listens(parts: StoreParts) -> None:
    hints: list[tuple[str, str]] = []
    await spawned(parts.store)
    task = asyncio.create_task(parts.wake_ups.run(lambda topic, detail: hints.append((topic, detail))))
    await asyncio.sleep(0)
    job = await running(parts.store)
    other = await running(parts.store)
    await applied(parts.store, outcome(job, Succeed(None)))
    await parts.store.cancel([other.id], actor="client:test")
    assert hints == [
        ("listening", ""),
        ("runnable", "default"),
        ("runnable", "default"),
        ("ended", str(job.id)),
        ("ended", str(other.id)),
        ("cancelled", str(other.id)),
    ]
    task.cancel()
    await asyncio.wait([task])
    await spawned(parts.store)
    assert len(hints) == 6


async def test_a_callers_transaction_is_refused(parts: StoreParts) -> None:
    with pytest.raises(ConfigurationError, match="memory store"):
        await parts.store.spawn([new_job()], actor="client:test", connection=object())
    assert await parts.store.list_jobs(JobFilter(), limit=9) == []


async def test_a_node_unseen_for_a_day_is_forgotten(parts: StoreParts, clock: FakeClock) -> None:
    await parts.store.register_node("old")
    clock.advance(80_000)
    await parts.store.register_node("new")
    clock.advance(7_000)
    await parts.store.housekeep()
    assert [node.name for node in (await parts.store.summary()).nodes] == ["new"]
