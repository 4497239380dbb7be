"""The keepers of leases."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from callboard.actors.jobs.decide import Policy, Succeed
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.types import AttemptKey, ClaimedJob, QueueDemand
from callboard.actors.ports import NoTelemetry
from callboard.actors.settings import Settings
from callboard.persistence import leases, stores
from callboard.persistence.leases import PostgresAttemptKeeper
from callboard.persistence.postgres_store import PostgresStore
from callboard.testing import FakeClock
from tests.contract.support import LONG_AGO, applied, claimed, outcome, record, running, spawned

LEASE_SECONDS = 30.0


class Failures(NoTelemetry):
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def lease_failed(self, reason: str) -> None:
        self.reasons.append(reason)


def key(job: ClaimedJob) -> AttemptKey:
    return AttemptKey(job.id, job.token)


@pytest.fixture
def failures() -> Failures:
    return Failures()


class Running(dict[AttemptKey, float]):
    """The attempts that run, each with the moment of its claim."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.monotonic = monotonic

    def add(self, *jobs: ClaimedJob) -> None:
        self.update({key(job): self.monotonic() for job in jobs})

    def begun_by(self, moment: float) -> set[AttemptKey]:
        return {attempt for attempt, since in self.copy().items() if since <= moment}


@pytest.fixture
def held(clock: FakeClock) -> Running:
    return Running(clock.monotonic)


@pytest.fixture
def keeper(database_url: str, clock: FakeClock, failures: Failures, held: Running) -> PostgresAttemptKeeper:
    """A keeper whose ticks the test makes itself."""
    settings = Settings(database_url=database_url, lease_seconds=LEASE_SECONDS, hang_limit_seconds=15)
    keeper = PostgresAttemptKeeper(settings, failures, monotonic=clock.monotonic)
    keeper.keep(held.begun_by)
    return keeper


@pytest.fixture
def advance(keeper: PostgresAttemptKeeper, clock: FakeClock) -> Any:
    """Let time pass on a loop that lives."""
    yield lambda seconds: (clock.advance(seconds), keeper.beat())
    keeper.stop()


Advance = Callable[[float], object]


async def expired(store: PostgresStore) -> list[Any]:
    rescued = await store.rescue(actor="b", policy=Policy(), limit=10, retry_delay_seconds=lambda attempt: 0)
    return [job.job_id for job in rescued]


async def test_an_attempt_is_renewed_from_a_third_of_its_lease(
    store: PostgresStore, keeper: PostgresAttemptKeeper, held: Running, advance: Advance
) -> None:
    job = await running(store, max_attempts=2, lease=LONG_AGO)
    held.add(job)
    advance(LEASE_SECONDS / 3 - 0.1)
    assert keeper.tick() == []
    assert (await record(store, job.id)).lease_expires_at < (await record(store, job.id)).started_at  # type: ignore[operator]
    advance(0.1)
    assert keeper.tick() == []
    stored = await record(store, job.id)
    assert stored.lease_expires_at is not None
    assert stored.started_at is not None
    assert stored.lease_expires_at >= stored.started_at + timedelta(seconds=LEASE_SECONDS)
    assert await expired(store) == []


async def test_a_job_that_ends_soon_costs_no_statement(
    keeper: PostgresAttemptKeeper, held: Running, store: PostgresStore, advance: Advance
) -> None:
    job = await running(store)
    held.add(job)
    held.clear()
    advance(LEASE_SECONDS)
    assert keeper.tick() == []
    assert keeper._connection is None


async def test_lost_attempts_are_reported_once(
    store: PostgresStore, keeper: PostgresAttemptKeeper, held: Running, advance: Advance, failures: Failures
) -> None:
    await spawned(store, 3, max_attempts=3)
    mine, cancelled, rescued = await claimed(store)
    held.add(mine, cancelled, rescued)
    await store.cancel([cancelled.id], actor="client:test")
    await applied(store, outcome(rescued, Succeed(None)))
    advance(LEASE_SECONDS / 3)
    assert sorted(keeper.tick()) == sorted([key(cancelled), key(rescued)])
    assert failures.reasons == ["lost", "lost"]
    advance(LEASE_SECONDS / 3)
    assert keeper.tick() == []


async def test_the_older_of_two_attempts_of_a_job_is_lost_and_the_newer_one_kept(
    store: PostgresStore, keeper: PostgresAttemptKeeper, held: Running, advance: Advance
) -> None:
    stale = await running(store, max_attempts=3, lease=LONG_AGO)
    assert await expired(store) == [stale.id]
    [fresh] = await claimed(store)
    held.add(stale, fresh)
    advance(LEASE_SECONDS / 3)
    assert keeper.tick() == [key(stale)]
    advance(LEASE_SECONDS / 3)
    assert keeper.tick() == []


async def test_a_silent_loop_loses_its_leases(
    store: PostgresStore,
    keeper: PostgresAttemptKeeper,
    held: Running,
    advance: Advance,
    clock: FakeClock,
    failures: Failures,
) -> None:
    job = await running(store, max_attempts=2, lease=LONG_AGO)
    held.add(job)
    clock.advance(15.1)
    for _ in range(3):
        assert keeper.tick() == []
    assert failures.reasons == ["error"]
    assert await expired(store) == [job.id]
    keeper.beat()
    assert keeper.tick() == [key(job)]
    assert failures.reasons == ["error", "lost"]


async def test_a_lost_connection_is_made_again(
    store: PostgresStore,
    keeper: PostgresAttemptKeeper,
    held: Running,
    advance: Advance,
    failures: Failures,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = await running(store, max_attempts=2, lease=LONG_AGO)
    held.add(job)
    advance(LEASE_SECONDS / 3)
    keeper.tick()
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%leases'")
        other.execute("UPDATE callboard.jobs SET lease_expires_at = now() - interval '1 s'")
    advance(LEASE_SECONDS / 3)
    assert keeper.tick() == []
    assert failures.reasons == ["error"]
    assert "connection was lost" in caplog.text
    assert keeper.tick() == []
    assert failures.reasons == ["error"]
    assert await expired(store) == []


async def test_the_thread_renews_and_reports_without_the_loop(
    store: PostgresStore, database_url: str, failures: Failures
) -> None:
    keeper, held = PostgresAttemptKeeper(Settings(database_url=database_url, lease_seconds=0.3), failures), Running()
    keeper.keep(held.begun_by)
    lost: list[AttemptKey] = []
    told = threading.Event()

    def on_lost(attempts: Sequence[AttemptKey]) -> None:
        assert threading.current_thread() is not threading.main_thread()
        lost.extend(attempts)
        told.set()

    [cancelled, kept] = [await running(store, lease=LONG_AGO) for _ in range(2)]
    first = (await record(store, kept.id)).lease_expires_at
    await store.cancel([cancelled.id], actor="client:test")
    keeper.start(on_lost)
    held.add(cancelled, kept)
    assert told.wait(10)  # blocks the event loop all the while
    keeper.stop()
    keeper.stop()
    assert lost == [key(cancelled)]
    assert (await record(store, kept.id)).lease_expires_at != first


class Stage:
    """A keeper whose thread runs, on a lease short enough to be renewed at once."""

    def __init__(self, url: str, failures: Failures, lease_seconds: float) -> None:
        self.lost: list[AttemptKey] = []
        self.told = threading.Event()
        settings = Settings(database_url=url, lease_seconds=lease_seconds)
        self.held = Running()
        self.keeper = PostgresAttemptKeeper(settings, failures)
        self.keeper.keep(self.held.begun_by)

    def on_lost(self, attempts: Sequence[AttemptKey]) -> None:
        self.lost.extend(attempts)
        self.told.set()


async def test_the_thread_outlives_a_missing_table_and_every_other_error(
    store: PostgresStore, database_url: str, failures: Failures, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(database_url, failures, lease_seconds=0.3)
    failed = threading.Event()
    calls: list[str] = []

    def lease_failed(reason: str) -> None:
        calls.append(reason)
        failed.set()

    def on_lost(attempts: Sequence[AttemptKey]) -> None:
        if not stage.lost:
            stage.lost.extend(attempts)
            raise RuntimeError("a defect of the listener's")
        stage.on_lost(attempts)

    failures.lease_failed = lease_failed  # type: ignore[method-assign]
    first, second = [await running(store) for _ in range(2)]
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute("ALTER TABLE callboard.jobs RENAME TO elsewhere")
        stage.keeper.start(on_lost)
        stage.held.add(first)
        assert failed.wait(10)
        other.execute("ALTER TABLE callboard.elsewhere RENAME TO jobs")
    await store.cancel([first.id, second.id], actor="client:test")
    failed.clear()
    while key(first) not in stage.lost:
        assert failed.wait(10)
        failed.clear()
    stage.held.add(second)
    assert stage.told.wait(10)
    stage.keeper.stop()
    assert stage.lost == [key(first), key(second)]
    assert "callboard migrate" in caplog.text
    assert "a defect of the listener's" in caplog.text
    assert {"error", "lost"} == set(calls)


async def test_a_stop_does_not_wait_for_a_statement_that_hangs(
    store: PostgresStore, database_url: str, failures: Failures
) -> None:
    job = await running(store)
    stage = Stage(database_url, failures, lease_seconds=0.3)
    # A lease so short would end the statement by itself; the connection of this one has no time limit.
    unlimited = psycopg.connect(database_url, autocommit=True)
    stage.keeper._connect = lambda: unlimited  # type: ignore[method-assign]
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM callboard.jobs WHERE id = %s FOR UPDATE", [job.id])
        stage.keeper.start(stage.on_lost)
        stage.held.add(job)
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as watcher:
            await blocked(watcher)
        [thread] = [thread for thread in threading.enumerate() if thread.name == "callboard-leases"]
        await asyncio.to_thread(stage.keeper.stop)
        assert not thread.is_alive()
    assert unlimited.closed
    assert failures.reasons == []


def test_a_stop_does_not_wait_for_a_server_that_never_answers(
    failures: Failures, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leases, "_STOP_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        stage = Stage(f"postgresql://u@127.0.0.1:{server.getsockname()[1]}/d", failures, lease_seconds=0.3)
        stage.keeper.start(stage.on_lost)
        stage.held[AttemptKey(uuid7(), 1)] = 0.0
        connection, _ = server.accept()
        [thread] = [thread for thread in threading.enumerate() if thread.name == "callboard-leases"]
        stage.keeper.stop()
        assert "thread still connects" in caplog.text
        connection.close()
    thread.join(10)
    assert not thread.is_alive()
    assert failures.reasons == []


async def blocked(connection: psycopg.AsyncConnection[Any]) -> None:
    """Wait until a backend of this database waits for a lock."""
    waiting = b"SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(10):
        while not await (await connection.execute(waiting)).fetchall():
            await asyncio.sleep(0.005)


async def test_the_memory_keeper_renews_with_each_beat(clock: FakeClock) -> None:
    parts = stores.memory(clock)
    lost: list[AttemptKey] = []
    held = Running(clock.monotonic)
    parts.keeper.keep(held.begun_by)
    parts.keeper.start(lost.extend)
    kept = await running(parts.store, lease=30)
    cancelled = await running(parts.store, lease=30)
    held.add(kept, cancelled)
    await parts.store.cancel([cancelled.id], actor="client:test")
    clock.advance(29)
    parts.keeper.beat()
    assert lost == [key(cancelled)]
    clock.advance(29)
    assert await parts.store.rescue(actor="b", policy=Policy(), limit=9, retry_delay_seconds=lambda attempt: 0) == []
    held.clear()
    parts.keeper.beat()
    clock.advance(2)
    [rescued] = await parts.store.rescue(actor="b", policy=Policy(), limit=9, retry_delay_seconds=lambda attempt: 0)
    assert rescued.job_id == kept.id
    parts.keeper.stop()


async def test_nothing_is_taken_back_before_the_server_has_run_for_a_while(database_url: str) -> None:
    """Its restart kept everybody from renewing."""
    parts = stores.postgres(Settings(database_url=database_url, pg_pool_size=2), NoTelemetry())
    await parts.store.open()
    try:
        await spawned(parts.store)
        await parts.store.claim([QueueDemand("default", 1)], node="a", lease_seconds=LONG_AGO)
        rescue = partial(parts.store.rescue, actor="b", policy=Policy(), limit=9, retry_delay_seconds=lambda _: 0.0)
        assert await rescue(server_up_seconds=1e6) == []
        assert len(await rescue(server_up_seconds=0.001)) == 1
    finally:
        await parts.store.close()
