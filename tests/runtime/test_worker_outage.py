"""The database goes away under a busy worker and comes back: the same process goes on, nothing is lost or doubled."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from callboard import JobRegistry, Runtime, Settings, job
from callboard.persistence.embedded import EmbeddedServer
from callboard.persistence.migrate import migrate
from tests.cli.processes import CommandProcess, running
from tests.support.postgres import SETTINGS
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.processes, pytest.mark.chaos]

JOBS = 4000
DOWN_SECONDS = 2.0
"""Longer than a few tries of everybody; shorter than the lease, so that every attempt outlives it."""
WAIT_SECONDS = 60
APP = """
import asyncio
from callboard import job

@job(kind="step")
async def step(number: int) -> int:
    await asyncio.sleep(0.02)
    return number
"""
REGISTRY = JobRegistry()


@job(kind="step", registry=REGISTRY)
async def step(number: int) -> int:
    return number


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("server") / "data", settings=SETTINGS) as server:
        yield server


@pytest.fixture
def url(own_server: EmbeddedServer, request: pytest.FixtureRequest) -> Iterator[str]:
    own_server.start()
    url = own_server.create_database(f"outage_{time.monotonic_ns()}")
    migrate(url)
    yield url
    own_server.start()


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(statement).fetchall()


def completed(url: str) -> int:
    ((count,),) = query(url, "SELECT count(*) FROM callboard.jobs WHERE status = 'completed'")
    assert isinstance(count, int)
    return count


def fast_stop(server: EmbeddedServer, url: str) -> None:
    server.stop()
    time.sleep(DOWN_SECONDS)  # the length of the outage, not a wait for something
    server.start()


def sigkill(server: EmbeddedServer, url: str) -> None:
    server.kill()
    server.start()


def terminate_backends(server: EmbeddedServer, url: str) -> None:
    query(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


async def spawn(url: str, count: int) -> None:
    async with Runtime(Settings(database_url=url, pg_pool_size=1), work=False, registry=REGISTRY) as client:
        await client.spawn_many(step, [(number,) for number in range(count)])


@pytest.mark.parametrize("outage", [fast_stop, sigkill, terminate_backends])
def test_promise_1_an_outage_is_neither_an_end_nor_a_loss(
    own_server: EmbeddedServer, url: str, outage, tmp_path: Path
) -> None:
    (tmp_path / "app_steps.py").write_text(APP)
    words = ("worker", "app_steps", "--metrics-port", "none", "--queue", "default=50")
    environment = {"CALLBOARD_DATABASE_URL": url, "CALLBOARD_LEASE_SECONDS": "12", "CALLBOARD_RETRY_MAX_SECONDS": "1"}
    asyncio.run(spawn(url, JOBS))
    with running(*words, folder=tmp_path, **environment) as worker:
        wait_until(lambda: completed(url) > JOBS / 20, timeout_seconds=WAIT_SECONDS)
        outage(own_server, url)
        assert completed(url) < JOBS, "the outage came too late to meet a busy worker"
        wait_until(lambda: worker.process.poll() is not None or completed(url) == JOBS, timeout_seconds=WAIT_SECONDS)
        assert worker.process.poll() is None
        assert_done_once(url)
        assert_quiet(worker)


def assert_done_once(url: str) -> None:
    ends = "SELECT count(*), count(DISTINCT job_id) FROM callboard.history WHERE to_status = 'completed'"
    assert query(url, ends) == [(JOBS, JOBS)]
    assert query(url, "SELECT count(*) FROM callboard.jobs WHERE result IS NULL") == [(0,)]


def assert_quiet(worker: CommandProcess) -> None:
    """The log has a line for each end of the outage, from each of two supervisors, and no traceback.

    Whoever meets an ended connection only after the others work again begins a short outage of its own.
    """
    log = worker.stderr.read_text()
    assert "Traceback" not in log
    assert log.count("cannot work") <= 5, log
    assert log.count("cannot work") - log.count("all children work again") in (0, 1), log  # the last may be to come
