"""Promise 1, outage by outage: the same process goes on, every job ends once, and none that lives is run twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace

import psycopg
import pytest

from callboard import JobRef, JobRegistry, Reason, Runtime, Settings, Status, job
from callboard.actors.ports import NoTelemetry, WakeUps
from callboard.persistence import bounded_connection, stores
from callboard.persistence.embedded import EmbeddedServer
from callboard.persistence.migrate import migrate
from callboard.persistence.postgres_store import PostgresStore
from tests.support.network import Network, Proxy

pytestmark = pytest.mark.chaos

JOBS = 300
UNDER_WAY = 40
"""So many jobs have run when the outage begins: it hits claims, jobs and writes under way."""
WAIT_SECONDS = 60


class Load:
    """A stream of short jobs, and what became of them."""

    def __init__(self, registry: JobRegistry) -> None:
        self.runs: Counter[int] = Counter()
        self._refs: list[JobRef[int]] = []

        @job(registry=registry, max_attempts=20)
        async def step(number: int) -> int:
            self.runs[number] += 1
            await asyncio.sleep(0.02)
            return number

        self._step = step

    async def begin(self, client: Runtime) -> None:
        """Spawn everything; returns when some have run, and many have not."""
        self._refs = await client.spawn_many(self._step, [(number,) for number in range(JOBS)])
        await until(lambda: len(self.runs) >= UNDER_WAY)

    async def end(self) -> None:
        """Wait until every job has its result, and look at each history."""
        async with asyncio.timeout(WAIT_SECONDS):
            assert [await ref.result() for ref in self._refs] == list(range(JOBS))
        for number, ref in enumerate(self._refs):
            rows = await ref.history()
            assert [row.to_status.is_terminal for row in rows].index(True) == len(rows) - 1
            assert rows[-1].to_status is Status.COMPLETED
            assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
            assert sum(row.reason is Reason.CLAIMED for row in rows) == self.runs[number] == 1


async def until(condition: Callable[[], object]) -> None:
    """Poll: what a part of the runtime does on its own is announced to nobody."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.fixture
def load(registry: JobRegistry) -> Load:
    return Load(registry)


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Quick to give up."""
    monkeypatch.setattr(bounded_connection, "_ANSWER_TRAVELS_SECONDS", 0.2)
    return settings.model_copy(update={"statement_timeout_seconds": 1.0})


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Runtime]:
    """Spawns and waits over a connection of its own, which no outage touches unless it is the server's."""
    async with Runtime(settings, work=False) as client:
        yield client


@pytest.fixture
def other(settings: Settings) -> Iterator[psycopg.Connection]:
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
        yield connection


def end_backends(connection: psycopg.Connection, name: str) -> int:
    """End the sessions of this database whose application is called so (a LIKE pattern); returns how many."""
    return len(
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE %s",
            [name],
        ).fetchall()
    )


async def test_promise_1_a_server_that_is_restarted_at_once(
    settings: Settings, registry: JobRegistry, load: Load
) -> None:
    with EmbeddedServer() as server:
        await asyncio.to_thread(migrate, server.url)
        own = settings.model_copy(update={"database_url": Settings(database_url=server.url).database_url})
        async with Runtime(own, work=False) as client, Runtime(own, registry=registry):
            await load.begin(client)
            await asyncio.to_thread(server.restart, "immediate")
            await load.end()


async def test_promise_1_every_backend_is_ended_again_and_again(
    client: Runtime, settings: Settings, registry: JobRegistry, load: Load, other: psycopg.Connection
) -> None:
    async with Runtime(settings, registry=registry):
        await load.begin(client)
        for done in range(1, 6):
            assert await asyncio.to_thread(end_backends, other, "callboard%") > 0
            await until(lambda done=done: len(load.runs) >= UNDER_WAY + done * 20)
        await load.end()


async def test_promise_1_the_pool_is_exhausted(
    client: Runtime, settings: Settings, registry: JobRegistry, load: Load
) -> None:
    update = {"pg_pool_size": 2, "pg_max_overflow": 0, "pg_pool_timeout": 0.1}
    async with Runtime(settings.model_copy(update=update), registry=registry) as runtime:
        await load.begin(client)
        store: PostgresStore = runtime.store  # type: ignore[assignment]
        async with store._engine.connect(), store._engine.connect():
            await until(lambda: len(runtime._worker.outbox) and runtime.health.state().store_error)
        await load.end()


async def test_promise_1_the_listener_dies_again_and_again(
    client: Runtime, settings: Settings, registry: JobRegistry, load: Load, other: psycopg.Connection
) -> None:
    async with Runtime(settings, registry=registry):
        await load.begin(client)
        for _ in range(3):
            async with asyncio.timeout(WAIT_SECONDS):
                while not await asyncio.to_thread(end_backends, other, "callboard listener"):
                    await asyncio.sleep(0.01)
        await load.end()


class HalfDeaf:
    """Wake-ups of which every second one is lost."""

    def __init__(self, wake_ups: WakeUps) -> None:
        self._wake_ups = wake_ups
        self.lost = 0

    async def run(self, on_hint: Callable[[str, str], None]) -> None:
        heard = 0

        def half(topic: str, detail: str) -> None:
            nonlocal heard
            heard += 1
            if heard % 2:
                self.lost += 1
            else:
                on_hint(topic, detail)

        await self._wake_ups.run(half)


async def test_promise_1_half_of_all_notifications_are_lost(
    client: Runtime, settings: Settings, registry: JobRegistry, load: Load
) -> None:
    parts = stores.postgres(settings, NoTelemetry())
    wake_ups = HalfDeaf(parts.wake_ups)
    async with Runtime(settings, registry=registry, parts=replace(parts, wake_ups=wake_ups)):
        await load.begin(client)
        await load.end()
    assert wake_ups.lost > 1


@pytest.mark.parametrize("how", [Network.RESET, Network.BLACKHOLE, Network.DEAF])
async def test_promise_1_the_network_is_cut(
    client: Runtime, settings: Settings, registry: JobRegistry, load: Load, how: Network
) -> None:
    async with Proxy(client.settings.database_url.get_secret_value()) as network:
        through = settings.model_copy(update={"database_url": Settings(database_url=network.url).database_url})
        async with Runtime(through, registry=registry) as runtime:
            await load.begin(client)
            network.cut(how)
            await until(lambda: network.attempts >= 3)  # it has given up, and tries again
            network.heal()
            await load.end()
            assert not runtime._given_up.is_set()
