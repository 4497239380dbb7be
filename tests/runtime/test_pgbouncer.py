"""Workers behind pgbouncer: transaction pooling with a direct URL beside it, session pooling, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest

from callboard import ConfigurationError, JobCancelled, JobRegistry, Runtime, Settings, TransitionEvent
from callboard.actors.jobs.types import JobFilter
from callboard.persistence.leader_lock import PostgresLeaderLock
from tests.support.faulty_provider import FaultyProvider
from tests.support.module_process import module_process
from tests.support.pgbouncer import running_pgbouncer

from . import pooled_process as jobs
from .test_leader import leads

WAIT_SECONDS = 60

pytestmark = [pytest.mark.processes, pytest.mark.chaos]


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProvider]:
    with FaultyProvider() as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
        yield server


def worker(url: str, direct_url: str | None, name: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """Run a worker process."""
    return module_process("tests.runtime.pooled_process", url, direct_url or "none", name)


async def everything_works(client: Runtime) -> None:
    assert await (await client.spawn(jobs.double, 21)).result(WAIT_SECONDS) == 42
    refs = await client.spawn_many(jobs.double, [(number,) for number in range(2_000)])
    assert [await ref.result(WAIT_SECONDS) for ref in refs] == [2 * number for number in range(2_000)]
    assert await (await client.spawn(jobs.family)).result(WAIT_SECONDS) == 14
    assert "one two" in await (await client.spawn(jobs.ask)).result(WAIT_SECONDS)
    running = await client.spawn(jobs.endless)
    async for event in running.events():
        if isinstance(event, TransitionEvent) and event.row.to_status == "running":
            break
    await running.cancel()
    with pytest.raises(JobCancelled):
        await running.result(WAIT_SECONDS)
    waiting = await client.spawn(jobs.double.options(delay_seconds=3600), 1)
    await waiting.cancel()
    assert (await waiting.record()).status == "cancelled"


async def ticks(client: Runtime, count: int) -> list[str]:
    """Wait for so many jobs of the schedule; return their ticks, each once."""
    async with asyncio.timeout(WAIT_SECONDS):
        while len(found := await client.jobs(JobFilter(metadata={"schedule": "pooled.tick"}))) < count:
            await asyncio.sleep(0.1)
    moments = [record.metadata["tick"] for record in found]
    assert len(set(moments)) == len(moments)
    return moments


async def test_workers_behind_a_transaction_mode_pooler_do_everything(
    database_url: str, provider: FaultyProvider
) -> None:
    lock = PostgresLeaderLock(Settings(database_url=database_url))
    with running_pgbouncer(database_url, "transaction", server_connections=4) as pooled:
        async with (
            worker(pooled, database_url, "one") as leader,
            Runtime(jobs.settings(pooled, database_url), registry=jobs.REGISTRY, work=False) as client,
        ):
            await leads(lock, "one")
            async with worker(pooled, database_url, "two"):
                await everything_works(client)
                before = await ticks(client, 2)
                leader.kill()
                assert (await leads(lock, "two")).term == 2
                await everything_works(client)
                assert set(before) < set(await ticks(client, len(before) + 2))


async def test_a_session_mode_pooler_needs_no_direct_url(database_url: str, provider: FaultyProvider) -> None:
    lock = PostgresLeaderLock(Settings(database_url=database_url))
    with running_pgbouncer(database_url, "session", server_connections=40, ignored="options") as pooled:
        async with (
            worker(pooled, None, "one") as leader,
            Runtime(jobs.settings(pooled, None), registry=jobs.REGISTRY, work=False) as client,
        ):
            await leads(lock, "one")
            async with worker(pooled, None, "two"):
                await everything_works(client)
                leader.kill()
                assert (await leads(lock, "two")).term == 2
                await ticks(client, 3)


async def test_the_direct_url_may_be_a_session_mode_pool(database_url: str, provider: FaultyProvider) -> None:
    lock = PostgresLeaderLock(Settings(database_url=database_url))
    with (
        running_pgbouncer(database_url, "transaction", server_connections=4) as pooled,
        running_pgbouncer(database_url, "session") as sessions,
    ):
        async with (
            worker(pooled, sessions, "one"),
            Runtime(jobs.settings(pooled, sessions), registry=jobs.REGISTRY, work=False) as client,
        ):
            await leads(lock, "one")
            await everything_works(client)


@pytest.mark.parametrize(
    ("ignored", "message"),
    [
        ("", r"open: the database URL leads through a pooler that refuses start-up options: set CALLBOARD_DIRECT_"),
        ("options", r"leads through a transaction-mode pooler .*: set CALLBOARD_DIRECT_DATABASE_URL to the server"),
    ],
)
async def test_without_a_direct_url_a_transaction_mode_pooler_is_refused_at_the_start(
    database_url: str, ignored: str, message: str
) -> None:
    with (
        running_pgbouncer(database_url, "transaction", ignored=ignored) as pooled,
        pytest.raises(ConfigurationError, match=message),
    ):
        async with Runtime(jobs.settings(pooled, None), registry=JobRegistry(), work=False):
            pass
