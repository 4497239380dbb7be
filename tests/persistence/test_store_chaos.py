"""Guarantee 1 of the design: a job whose ``spawn`` has returned is never lost, whoever is killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from callboard.actors.errors import StoreUnavailable
from callboard.actors.jobs.decide import Succeed
from callboard.actors.jobs.state import Status
from callboard.actors.ports import NoTelemetry
from callboard.actors.settings import Settings
from callboard.persistence.embedded import EmbeddedServer
from callboard.persistence.migrate import migrate
from callboard.persistence.postgres_store import PostgresStore
from tests.contract.support import applied, claimed, outcome, record, spawned, statuses

pytestmark = [pytest.mark.postgres, pytest.mark.chaos]


@pytest.fixture(scope="module")
def fragile_server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:  # fsync on, as in production
        migrate(server.url)
        yield server


@pytest.fixture
def settings(fragile_server: EmbeddedServer) -> Settings:
    return Settings(database_url=fragile_server.url, pg_pool_size=3)


@pytest.mark.parametrize("how", ["immediate", "kill"])
async def test_a_server_that_dies_keeps_what_was_answered(
    fragile_server: EmbeddedServer, settings: Settings, how: str
) -> None:
    store = PostgresStore(settings, NoTelemetry())
    ids = [*await spawned(store, 5, queue=how), *await spawned(store, 100, queue=how)]
    jobs = await claimed(store, 50, queue=how)
    await applied(store, *(outcome(job, Succeed("1")) for job in jobs[:25]))
    if how == "kill":
        fragile_server.kill()
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=r"cannot be reached|the connection was lost"):
                await store.summary()
        fragile_server.start()
    else:
        fragile_server.restart("immediate")
        with pytest.raises(StoreUnavailable, match="connection was lost"):
            await store.summary()
    found = {job.id: job.status for job in await store.get_many(ids)}
    assert set(found) == set(ids)
    assert sorted(found.values()) == sorted([Status.COMPLETED] * 25 + [Status.RUNNING] * 25 + [Status.PENDING] * 55)
    await applied(store, *(outcome(job, Succeed("2")) for job in jobs[25:]))
    assert await statuses(store, jobs[30].id) == [Status.PENDING, Status.RUNNING, Status.COMPLETED]
    await store.close()


SPAWNER = """
import asyncio, sys
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.types import NewJob
from callboard.actors.ports import NoTelemetry
from callboard.actors.settings import Settings
from callboard.persistence.postgres_store import PostgresStore

async def main():
    store = PostgresStore(Settings(database_url=sys.argv[1]), NoTelemetry())
    for count in [1, 7, 200] * 100_000:
        jobs = [NewJob(uuid7(), "kind", "spawner", "{}") for _ in range(count)]
        for answer in await store.spawn(jobs, actor="client:spawner"):
            sys.stdout.write(f"{answer.id}\\n")
        sys.stdout.flush()

asyncio.run(main())
"""


@pytest.mark.processes
async def test_a_killed_spawner_loses_nothing_that_it_was_answered(
    fragile_server: EmbeddedServer, settings: Settings
) -> None:
    answered = answered_before_kill(fragile_server.url)
    assert len(answered) >= 500
    store = PostgresStore(settings, NoTelemetry())
    assert {job.id for job in await store.get_many(sorted(answered))} == answered
    await store.close()
    assert half_written(settings) == 0


def answered_before_kill(url: str) -> set[UUID]:
    """Start a spawner, kill -9 it amid its work, and return the ids that it had been answered."""
    spawner = subprocess.Popen([sys.executable, "-c", SPAWNER, url], stdout=subprocess.PIPE, text=True)
    assert spawner.stdout is not None
    lines = [spawner.stdout.readline() for _ in range(500)]
    spawner.kill()
    lines += spawner.stdout.read().splitlines()
    spawner.wait()
    spawner.stdout.close()
    return {UUID(line.strip()) for line in lines if len(line.strip()) == 36}  # the last one may be cut


def half_written(settings: Settings) -> int:
    """Count jobs without a history, and histories without a job."""
    assert settings.database_url is not None
    with psycopg.connect(settings.database_url.get_secret_value()) as connection:
        row: Any = connection.execute(
            "SELECT count(*) FROM callboard.jobs"
            " FULL JOIN (SELECT job_id FROM callboard.history WHERE sequence = 1) AS spawned ON job_id = id"
            " WHERE id IS NULL OR job_id IS NULL"
        ).fetchone()
        return int(row[0])


async def test_a_store_outlives_its_server(fragile_server: EmbeddedServer, settings: Settings) -> None:
    """The same object works again, whatever was under way; nothing has to be opened anew."""
    store = PostgresStore(settings, NoTelemetry())
    [job_id] = await spawned(store, queue="outlive")
    for _ in range(3):
        fragile_server.restart("immediate")
        with pytest.raises(StoreUnavailable, match="connection was lost"):
            await record(store, job_id)
        assert (await record(store, job_id)).status is Status.PENDING
    await store.close()
