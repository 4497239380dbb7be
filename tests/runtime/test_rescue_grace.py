"""What a node that has just started takes back from others: from the dead at once, from the living nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from callboard import JobRecord, JobRef, Runtime, Settings, StoreUnavailable
from callboard.actors.jobs.renewal_grace import RENEWALS_FIRST
from callboard.persistence.embedded import EmbeddedServer
from callboard.persistence.migrate import migrate
from tests.support.module_process import module_process

from .worker_jobs import wait_for_file

LEASE_SECONDS = 6.0
WAIT_SECONDS = 60

pytestmark = [pytest.mark.processes, pytest.mark.chaos]


def worker(url: str) -> contextlib.AbstractAsyncContextManager[asyncio.subprocess.Process]:
    return module_process("tests.runtime.worker_process", url, LEASE_SECONDS, stderr=asyncio.subprocess.DEVNULL)


async def lease_is_over(url: str) -> None:
    expired = "SELECT count(*) FROM callboard.jobs WHERE status = 'running' AND lease_expires_at < now()"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        async with asyncio.timeout(WAIT_SECONDS):
            while (await (await connection.execute(expired)).fetchone()) == (0,):
                await asyncio.sleep(0.02)


async def renewed(ref: JobRef) -> JobRecord:
    """Return the job when its lease is in the future again; connections may still break."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            with contextlib.suppress(StoreUnavailable):
                record = await ref.record()
                if record.lease_expires_at > datetime.now(UTC):
                    return record
            await asyncio.sleep(0.05)


async def test_promise_4_a_node_that_has_just_started_takes_back_what_a_dead_one_ran(
    database_url: str, tmp_path: Path
) -> None:
    """At once, where the lease is over: within lease and sweep after the death, whoever is there by then."""
    file = tmp_path / "go on"
    client_settings = Settings(database_url=database_url, poll_interval_seconds=0.1, pg_pool_size=2)
    async with Runtime(client_settings, work=False) as client, worker(database_url) as first:
        ref = await client.spawn(wait_for_file, file)
        async with asyncio.timeout(WAIT_SECONDS):
            while (await ref.record()).progress is None:
                await asyncio.sleep(0.02)
        first.kill()
        await lease_is_over(database_url)
        async with worker(database_url) as second:
            ready = time.monotonic()
            async with asyncio.timeout(WAIT_SECONDS):
                while (await ref.record()).attempt < 2:
                    await asyncio.sleep(0.05)
            assert time.monotonic() - ready < LEASE_SECONDS * RENEWALS_FIRST, "it has waited for the dead to renew"
            file.touch()
            assert await ref.result(WAIT_SECONDS) == (2, second.pid)


async def test_promise_4_a_restart_of_the_server_lets_the_living_renew_first(tmp_path: Path) -> None:
    """Nobody could, while it was away; a node that starts just then takes nothing from the living."""
    file = tmp_path / "go on"
    with EmbeddedServer() as server:
        url = server.url
        await asyncio.to_thread(migrate, url)
        client_settings = Settings(database_url=url, poll_interval_seconds=0.1, pg_pool_size=2)
        async with Runtime(client_settings, work=False) as client, worker(url) as first:
            ref = await client.spawn(wait_for_file, file)
            async with asyncio.timeout(WAIT_SECONDS):
                while (await ref.record()).progress is None:
                    await asyncio.sleep(0.02)
            first.send_signal(signal.SIGSTOP)  # as if the server had been away for longer than the lease
            await lease_is_over(url)
            await asyncio.to_thread(server.restart, "immediate")
            async with worker(url):
                first.send_signal(signal.SIGCONT)
                assert (await renewed(ref)).attempt == 1
                file.touch()
                assert await ref.result(WAIT_SECONDS) == (1, first.pid)
