"""Leaders behind a real cable that is cut, at the default times: promise 5. The kernel's part in it is real, too.

Each node is in a network namespace; this needs root and iproute2.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from callboard import Settings
from callboard.persistence.leader_lock import PostgresLeaderLock
from callboard.persistence.migrate import migrate
from callboard.supervision.child_spec import WORKER_SHUTDOWN_SECONDS
from tests.support import cables
from tests.support.cables import Cable, CabledServer, Cut, running_cabled_server
from tests.support.postgres import SETTINGS

from .test_leader import LONG_WINDOW_SECONDS, StartNode, leads, node_starter, until_it_acts

WINDOW_SECONDS = Settings().leader_trust_window_seconds
TAKEOVER_SECONDS = 15.0
BUSY_MACHINE_SECONDS = 1.0

REASON = cables.missing()

pytestmark = [
    pytest.mark.processes,
    pytest.mark.chaos,
    pytest.mark.postgres,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]


@pytest.fixture(scope="module")
def cabled_server() -> Iterator[CabledServer]:
    with running_cabled_server(SETTINGS) as server:
        yield server


@pytest.fixture
def url(cabled_server: CabledServer, request: pytest.FixtureRequest) -> str:
    url = cabled_server.server.create_database(f"leader_{time.time_ns()}")
    migrate(url)
    return url


@pytest.fixture
def cable(cabled_server: CabledServer, url: str) -> Cable:
    return cabled_server.cable(url)


@pytest.fixture
def lock(url: str) -> PostgresLeaderLock:
    return PostgresLeaderLock(Settings(database_url=url))


@pytest.fixture
async def start_node() -> AsyncIterator[StartNode]:
    async with node_starter() as start:
        yield start


ALL_DUTIES = {"schedules", "retention", "store_summary"}


@pytest.mark.parametrize("how", Cut)
async def test_promise_5_a_leader_whose_cable_is_cut_stops_acting_before_another_leads_and_is_refused_when_it_is_back(
    how: Cut, cable: Cable, lock: PostgresLeaderLock, url: str, start_node: StartNode
) -> None:
    leader = await start_node("leader", cable.url, WINDOW_SECONDS, prefix=cable.prefix)
    await leads(lock, "leader")
    await until_it_acts(leader, {"trusted", *ALL_DUTIES})
    await start_node("standby", url, WINDOW_SECONDS)
    assert await leader.do("prune") == "pruned"
    cable.cut(how)
    cut_at = time.monotonic()

    async def stops_acting() -> tuple[float, float]:
        async with asyncio.timeout(60):
            while "trusted" in (await leader.do("acts")).split():
                await asyncio.sleep(0.02)
        return time.monotonic(), await until_it_acts(leader, set())

    stopping = asyncio.ensure_future(stops_acting())
    record = await leads(lock, "standby")
    led_at = time.monotonic()
    assert record.term == 2
    distrusted_at, quiet_at = await stopping
    assert distrusted_at - cut_at < WINDOW_SECONDS + BUSY_MACHINE_SECONDS
    assert distrusted_at < led_at < cut_at + TAKEOVER_SECONDS
    # What it asked the database before the cut gets no answer, and is given up.
    assert quiet_at - distrusted_at < float(WORKER_SHUTDOWN_SECONDS) + BUSY_MACHINE_SECONDS
    cable.mend()
    async with asyncio.timeout(60):
        while (answer := await leader.do("prune")).startswith("StoreUnavailable"):
            await asyncio.sleep(0.1)  # connections that the cut has ended, and those that wait for a retransmission
    assert answer.startswith("StaleTerm: term 1 is over")
    assert (await lock.read()).term == 2


@pytest.mark.parametrize("how", Cut)
async def test_a_server_notices_a_cut_cable_by_itself(
    how: Cut, cable: Cable, lock: PostgresLeaderLock, url: str, start_node: StartNode
) -> None:
    """Where nobody may depose a leader: TCP frees its lock."""
    await start_node("leader", cable.url, LONG_WINDOW_SECONDS, prefix=cable.prefix)
    await leads(lock, "leader")
    await start_node("standby", url, LONG_WINDOW_SECONDS)
    cable.cut(how)
    cut_at = time.monotonic()
    assert (await leads(lock, "standby")).term == 2
    assert time.monotonic() - cut_at < TAKEOVER_SECONDS


async def test_a_standby_whose_cable_is_cut_holds_nobody_up(
    cable: Cable, lock: PostgresLeaderLock, url: str, start_node: StartNode
) -> None:
    """It waits for the lock; the server may give it to nobody who cannot know of it, for long."""
    leader = await start_node("leader", url, WINDOW_SECONDS)
    await leads(lock, "leader")
    await start_node("cut off", cable.url, WINDOW_SECONDS, prefix=cable.prefix)
    await start_node("standby", url, WINDOW_SECONDS)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as admin:
        cable.cut(Cut.SILENT)
        killed_at = time.monotonic()
        leader.process.kill()
        await leads(lock, "standby")
        assert time.monotonic() - killed_at < TAKEOVER_SECONDS
        [(term,)] = await (await admin.execute("SELECT term FROM callboard.leadership")).fetchall()
    assert term in (2, 3), "one more where the lock went to the one that cannot know of it"
