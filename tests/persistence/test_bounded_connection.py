"""A server that does not answer is given up in bounded time, on every path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any

import psycopg
import pytest

from callboard.actors.errors import StoreUnavailable
from callboard.actors.jobs.decide import Succeed
from callboard.actors.jobs.types import AttemptKey
from callboard.actors.ports import NoTelemetry
from callboard.actors.settings import Settings
from callboard.persistence import bounded_connection
from callboard.persistence.bounded_connection import NoAnswer, bounded
from callboard.persistence.leases import PostgresAttemptKeeper
from callboard.persistence.listener import PostgresWakeUps
from callboard.persistence.postgres_store import PostgresStore
from callboard.testing import FakeClock
from tests.contract.support import applied, claimed, outcome, record, running, spawned
from tests.support.network import Network, Proxy

TIMEOUT_SECONDS = 0.4
WAIT_SECONDS = 20


@pytest.fixture
async def network(database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(database_url) as proxy:
        yield proxy


@pytest.fixture
def settings(network: Proxy, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(bounded_connection, "_ANSWER_TRAVELS_SECONDS", 0.1)
    return Settings(database_url=network.url, statement_timeout_seconds=TIMEOUT_SECONDS, pg_pool_size=3)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(settings, NoTelemetry())
    yield store
    await store.close()


@pytest.fixture
async def direct_store(database_url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(Settings(database_url=database_url), NoTelemetry())
    yield store
    await store.close()


def conversation(answers: int) -> Generator[str, Any, str]:
    """What psycopg does, in short: ask, and wait until something comes."""
    for _ in range(answers):
        while not (yield "read"):
            continue
    return "result"


def test_a_conversation_within_its_limit_is_passed_on() -> None:
    clock = FakeClock()
    steps = bounded(conversation(2), 5, clock.monotonic)
    assert next(steps) == "read"
    clock.advance(4)
    assert steps.send(0) == "read"
    assert steps.send(1) == "read"
    clock.advance(4)
    with pytest.raises(StopIteration) as end:  # late, but here: what has come is taken
        steps.send(1)
    assert end.value.value == "result"


def test_silence_beyond_the_limit_ends_a_conversation() -> None:
    clock = FakeClock()
    asked = conversation(1)
    steps = bounded(asked, 5, clock.monotonic)
    next(steps)
    clock.advance(5.1)
    with pytest.raises(NoAnswer, match="no answer within 5 s"):
        steps.send(0)
    with pytest.raises(StopIteration):
        next(asked)


def test_a_conversation_that_waits_for_nothing() -> None:
    with pytest.raises(StopIteration) as end:
        next(bounded(conversation(0), 5, FakeClock().monotonic))
    assert end.value.value == "result"


@pytest.mark.parametrize("how", [Network.BLACKHOLE, Network.DEAF])
async def test_a_store_gives_silent_connections_up_and_goes_on(
    store: PostgresStore, network: Proxy, how: Network
) -> None:
    job = await running(store)
    network.cut(how)
    async with asyncio.timeout(WAIT_SECONDS):
        with pytest.raises(StoreUnavailable, match=r"apply: .*no answer within 0.5 s"):
            await store.apply([outcome(job, Succeed("1"))], actor="node:here")
    network.heal()
    assert (await record(store, job.id)).id == job.id


async def test_a_reset_is_noticed_at_once(store: PostgresStore, network: Proxy) -> None:
    await spawned(store)
    network.cut(Network.RESET)
    with pytest.raises(StoreUnavailable, match="connection was lost"):
        await claimed(store)
    network.heal()
    assert len(await claimed(store)) == 1


async def test_a_claim_whose_answer_is_lost_can_be_adopted(store: PostgresStore, network: Proxy) -> None:
    [job_id] = await spawned(store)
    network.cut(Network.DEAF)
    with pytest.raises(StoreUnavailable, match="no answer"):
        await claimed(store)
    network.heal()
    assert await claimed(store) == []
    [orphan] = await store.adopt([], node="here", lease_seconds=60)
    assert orphan.id == job_id
    await applied(store, outcome(orphan, Succeed("1")))


async def test_locks_do_not_outlive_a_client_that_is_cut_off(
    store: PostgresStore, network: Proxy, database_url: str
) -> None:
    """The server hears nothing of the cut: its session sits in a transaction, with the rows locked."""
    job = await running(store)
    async with store._engine.connect() as connection:
        native: Any = (await connection.get_raw_connection()).driver_connection
        await native.execute("BEGIN")
        await native.execute("SELECT FROM callboard.jobs WHERE id = %s FOR UPDATE", [job.id])
        network.cut(Network.BLACKHOLE)
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            async with asyncio.timeout(WAIT_SECONDS):
                await other.execute("UPDATE callboard.jobs SET progress = '1' WHERE id = %s", [job.id])
        await connection.invalidate()
    network.heal()
    assert (await record(store, job.id)).progress == 1


async def test_a_lease_keeper_gives_a_silent_connection_up(
    direct_store: PostgresStore, network: Proxy, settings: Settings, clock: FakeClock
) -> None:
    store = direct_store
    lease = settings.model_copy(update={"lease_seconds": 1.2})
    keeper = PostgresAttemptKeeper(lease, NoTelemetry(), monotonic=clock.monotonic)
    job = await running(store, lease=0)
    keeper.keep(lambda _: {AttemptKey(job.id, job.token)})
    clock.advance(0.5)
    await asyncio.to_thread(keeper.tick)
    first = (await record(store, job.id)).lease_expires_at
    network.cut(Network.BLACKHOLE)
    clock.advance(0.5)
    async with asyncio.timeout(WAIT_SECONDS):
        assert await asyncio.to_thread(keeper.tick) == []
    network.heal()
    assert await asyncio.to_thread(keeper.tick) == []
    assert (await record(store, job.id)).lease_expires_at > first  # type: ignore[operator]
    keeper.stop()


async def test_a_listener_gives_a_silent_connection_up(network: Proxy, settings: Settings) -> None:
    wake_ups = PostgresWakeUps(settings, probe_interval_seconds=0.2, probe_limit_seconds=0.2)
    listening = asyncio.Event()
    task = asyncio.create_task(wake_ups.run(lambda topic, detail: listening.set()))
    await listening.wait()
    network.cut(Network.BLACKHOLE)
    async with asyncio.timeout(WAIT_SECONDS):
        with pytest.raises(StoreUnavailable, match="no echo"):
            await task


async def test_a_listener_that_cannot_even_begin(
    network: Proxy, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.persistence.engine.CONNECT_TIMEOUT_SECONDS", 2)  # the least that the driver allows
    network.cut(Network.BLACKHOLE)
    async with asyncio.timeout(WAIT_SECONDS):
        with pytest.raises(StoreUnavailable, match="listen"):
            await PostgresWakeUps(settings).run(lambda topic, detail: None)
