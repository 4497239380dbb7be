"""A node that starts while others cannot reach the database takes nothing from them that they still run."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from callboard import Runtime, Settings
from tests.support.network import Network, Proxy

from .worker_jobs import wait_for_file

ROOT = Path(__file__).parents[2]
LEASE_SECONDS = 6.0
WAIT_SECONDS = 60

pytestmark = [pytest.mark.processes, pytest.mark.chaos]


@contextlib.asynccontextmanager
async def worker(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.runtime.worker_process", url, str(LEASE_SECONDS)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert await asyncio.wait_for(process.stdout.readline(), WAIT_SECONDS) == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def lease_is_over(url: str) -> None:
    expired = "SELECT count(*) FROM callboard.jobs WHERE status = 'running' AND lease_expires_at < now()"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        async with asyncio.timeout(WAIT_SECONDS):
            while (await (await connection.execute(expired)).fetchone()) == (0,):
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("lives", [True, False])
async def test_promise_4_a_node_that_starts_after_an_outage_lets_the_living_renew_first(
    database_url: str, tmp_path: Path, lives: bool
) -> None:
    file = tmp_path / "go on"
    client_settings = Settings(database_url=database_url, poll_interval_seconds=0.1, pg_pool_size=2)
    async with (
        Proxy(database_url) as network,
        Runtime(client_settings, work=False) as client,
        worker(network.url) as first,
    ):
        ref = await client.spawn(wait_for_file, file)
        async with asyncio.timeout(WAIT_SECONDS):
            while (await ref.record()).progress is None:
                await asyncio.sleep(0.02)
        network.cut(Network.RESET)
        await lease_is_over(database_url)
        if not lives:
            first.kill()
        async with worker(database_url) as second:
            network.heal()
            if lives:
                async with asyncio.timeout(WAIT_SECONDS):  # until the first has renewed
                    while (record := await ref.record()).lease_expires_at < datetime.now(UTC):
                        await asyncio.sleep(0.05)
                assert record.attempt == 1
                file.touch()
                assert await ref.result(WAIT_SECONDS) == (1, first.pid)
            else:
                async with asyncio.timeout(WAIT_SECONDS):
                    while (await ref.record()).attempt < 2:
                        await asyncio.sleep(0.05)
                file.touch()
                assert await ref.result(WAIT_SECONDS) == (2, second.pid)
