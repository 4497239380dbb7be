"""Wake-ups over LISTEN."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from callboard.actors.errors import StoreUnavailable
from callboard.actors.jobs.decide import Succeed
from callboard.actors.settings import Settings
from callboard.persistence.listener import PostgresWakeUps
from callboard.persistence.postgres_store import PostgresStore
from tests.contract.support import applied, outcome, running, spawned

Hints = asyncio.Queue[tuple[str, str]]


async def notify(connection: psycopg.AsyncConnection[Any], payload: str) -> None:
    await connection.execute("SELECT pg_notify('callboard_wake', %s)", [payload])


@asynccontextmanager
async def listening(wake_ups: PostgresWakeUps) -> AsyncIterator[tuple[Hints, asyncio.Task[None]]]:
    """Run until the block ends; entered when it is known to listen."""
    hints: Hints = asyncio.Queue()
    task = asyncio.create_task(wake_ups.run(lambda topic, detail: hints.put_nowait((topic, detail))))
    try:
        assert await next_hint(hints) == ("listening", "")
        yield hints, task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def next_hint(hints: Hints) -> tuple[str, str]:
    async with asyncio.timeout(10):
        return await hints.get()


async def test_hints_come_from_the_store(store: PostgresStore, database_url: str) -> None:
    async with listening(PostgresWakeUps(Settings(database_url=database_url))) as (hints, _):
        job = await running(store, queue="default")
        assert await next_hint(hints) == ("runnable", "default")
        await applied(store, outcome(job, Succeed(None)))
        assert await next_hint(hints) == ("ended", str(job.id))
        await spawned(store, queue="a queue: with, signs")
        assert await next_hint(hints) == ("runnable", "a queue: with, signs")


async def test_each_cancelled_job_is_a_hint_of_its_own(store: PostgresStore, database_url: str) -> None:
    jobs = [await running(store) for _ in range(3)]
    async with listening(PostgresWakeUps(Settings(database_url=database_url))) as (hints, _):
        await store.cancel([job.id for job in jobs], actor="client:test")
        found = [await next_hint(hints) for _ in range(4)]
    assert sorted(found) == sorted([("ended", ""), *(("cancelled", str(job.id)) for job in jobs)])


async def test_it_goes_on_after_probing_itself(database_url: str, other: psycopg.AsyncConnection[Any]) -> None:
    wake_ups = PostgresWakeUps(Settings(database_url=database_url), probe_interval_seconds=0.01)
    await other.execute("LISTEN callboard_wake")
    async with listening(wake_ups) as (hints, task):
        probes = 0
        async with asyncio.timeout(10):
            async for notification in other.notifies():
                probes += notification.payload.startswith("probe:")
                if probes == 3:
                    break
        await notify(other, "runnable:q")
        assert await next_hint(hints) == ("runnable", "q")
        assert hints.empty()
        assert not task.done()


async def test_a_missing_echo_is_an_error(
    database_url: str, other: psycopg.AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler in transaction mode forgets the LISTEN; here it is never sent."""
    wake_ups = PostgresWakeUps(
        Settings(database_url=database_url), probe_interval_seconds=0.01, probe_limit_seconds=0.05
    )
    monkeypatch.setattr(wake_ups, "_listen_statement", b"SELECT 1")
    with pytest.raises(StoreUnavailable, match=r"no echo .* CALLBOARD_DIRECT_DATABASE_URL"):
        await wake_ups.run(lambda topic, detail: None)


async def test_a_killed_connection_is_an_error(database_url: str, other: psycopg.AsyncConnection[Any]) -> None:
    wake_ups = PostgresWakeUps(Settings(database_url=database_url))
    async with listening(wake_ups) as (_, task):
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'callboard listener' AND datname = current_database()"
        )
        with pytest.raises(StoreUnavailable, match=r"listen: .* connection was lost"):
            await task
    async with listening(wake_ups) as (hints, _):
        await notify(other, "runnable:again")
        assert await next_hint(hints) == ("runnable", "again")


async def test_an_unreachable_server_is_an_error() -> None:
    wake_ups = PostgresWakeUps(Settings(database_url="postgresql://nobody@127.0.0.1:1/nothing"))
    with pytest.raises(StoreUnavailable, match="listen: the database cannot be reached"):
        await wake_ups.run(lambda topic, detail: None)


async def test_the_direct_url_is_the_one_it_uses(database_url: str, other: psycopg.AsyncConnection[Any]) -> None:
    settings = Settings(database_url="postgresql://nobody@127.0.0.1:1/nothing", direct_database_url=database_url)
    async with listening(PostgresWakeUps(settings)) as (hints, _):
        await notify(other, "runnable:q")
        assert await next_hint(hints) == ("runnable", "q")
