"""Leaders that die, stop, hang, are cut off and hand over: promise 5, with real processes.

Deposing is tested with a short trust window; ``python -m bench failover`` measures the default one.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from callboard import JobRegistry, Runtime, Schedule, Settings, job
from callboard.actors.jobs.types import JobFilter
from callboard.actors.leadership import LeaderRecord
from callboard.actors.ports import LeaderLock
from callboard.persistence.engine import driver_conninfo
from callboard.persistence.leader_lock import PostgresLeaderLock
from tests.support.module_process import module_process
from tests.support.network import Network, Proxy

WINDOW_SECONDS = 2.0
LONG_WINDOW_SECONDS = 600.0
"""Nobody is deposed in a test's lifetime: whoever takes over was not helped by a heartbeat."""
WAIT_SECONDS = 60

pytestmark = [pytest.mark.processes, pytest.mark.chaos]


class Node:
    """A process that takes part in the election."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process

    async def do(self, command: str) -> str:
        self.process.stdin.write(f"{command}\n".encode())
        return await self.line()

    async def line(self) -> str:
        return (await asyncio.wait_for(self.process.stdout.readline(), WAIT_SECONDS)).decode().strip()

    async def stop(self) -> str:
        """Let it end in order; returns its log."""
        self.process.stdin.close()
        log = await asyncio.wait_for(self.process.stderr.read(), WAIT_SECONDS)
        assert await self.process.wait() == 0, log.decode()
        return log.decode()


StartNode = Callable[..., Awaitable[Node]]


@contextlib.asynccontextmanager
async def node_starter(module: str = "tests.runtime.leader_process") -> AsyncIterator[StartNode]:
    """Yield what starts a node (its name, URL, further words, and what runs the command); kill them all at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(name: str, url: str, *words: object, prefix: Sequence[str] = ()) -> Node:
            node = module_process(module, url, name, *words, prefix=prefix, stderr=asyncio.subprocess.PIPE)
            return Node(name, await stack.enter_async_context(node))

        yield start


@pytest.fixture
async def start_node(database_url: str) -> AsyncIterator[StartNode]:
    async with node_starter() as start:

        async def start_one(name: str, window_seconds: float = WINDOW_SECONDS, url: str = database_url) -> Node:
            return await start(name, url, window_seconds)

        yield start_one


@pytest.fixture
def lock(database_url: str) -> LeaderLock:
    return PostgresLeaderLock(Settings(database_url=database_url))


async def leads(lock: LeaderLock, name: str) -> LeaderRecord:
    """Wait until this node leads."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            record = await lock.read()
            if (record.holder or "").startswith(f"{name}:") and record.lock_held:
                return record
            await asyncio.sleep(0.02)


async def until_it_acts(node: Node, expected: set[str]) -> float:
    """Wait until the node acts so; return when, by the monotonic clock."""
    async with asyncio.timeout(60):
        while set((await node.do("acts")).split()) != expected:
            await asyncio.sleep(0.02)
    return time.monotonic()


async def two_nodes(
    lock: LeaderLock, start_node: StartNode, window_seconds: float = WINDOW_SECONDS, url: str | None = None
) -> tuple[Node, Node]:
    """Start a leader and a standby."""
    leader = await start_node("leader", window_seconds, *([] if url is None else [url]))
    await leads(lock, "leader")
    standby = await start_node("standby", window_seconds)
    return leader, standby


async def test_promise_5_a_standby_takes_over_from_a_killed_leader(lock: LeaderLock, start_node: StartNode) -> None:
    leader, _ = await two_nodes(lock, start_node, LONG_WINDOW_SECONDS)
    leader.process.kill()
    assert (await leads(lock, "standby")).term == 2


async def test_promise_5_a_stopped_leader_is_deposed_and_what_it_writes_when_it_wakes_is_refused(
    lock: LeaderLock, start_node: StartNode
) -> None:
    leader, standby = await two_nodes(lock, start_node)
    assert await leader.do("prune") == "pruned"
    leader.process.send_signal(signal.SIGSTOP)
    assert (await leads(lock, "standby")).term == 2
    leader.process.send_signal(signal.SIGCONT)
    assert (await leader.do("prune")).startswith("StaleTerm: term 1 is over")
    assert await standby.do("prune") == "pruned"
    assert (await lock.read()).holder.startswith("standby:")
    await standby.stop()  # whoever slept is a standby again: L7
    assert (await leads(lock, "leader")).term == 3
    assert await leader.do("prune") == "pruned"


async def test_promise_5_a_leader_whose_loop_hangs_is_deposed(lock: LeaderLock, start_node: StartNode) -> None:
    leader, standby = await two_nodes(lock, start_node)
    assert await leader.do("hang 6") == "hangs"
    assert (await leads(lock, "standby")).term == 2
    assert (await leader.do("prune")).startswith("StaleTerm: term 1 is over")
    log = await leader.stop()
    assert "leads, term 1" in log
    assert "leads, term 3" not in log
    await standby.stop()


@pytest.mark.parametrize("fate", ["stopped", "hangs"])
async def test_promise_5_at_the_default_times_a_silent_leader_is_replaced_within_15_seconds(
    lock: LeaderLock, start_node: StartNode, fate: str
) -> None:
    """Nor before it has stopped to trust itself: see test_leader_network.py, where the network is cut."""
    window_seconds = Settings().leader_trust_window_seconds
    leader, _ = await two_nodes(lock, start_node, window_seconds)
    began = time.monotonic()
    if fate == "stopped":
        leader.process.send_signal(signal.SIGSTOP)
    else:
        assert await leader.do("hang 16") == "hangs"
    assert (await leads(lock, "standby")).term == 2
    assert window_seconds < time.monotonic() - began < 15
    leader.process.send_signal(signal.SIGCONT)
    assert (await leader.do("prune")).startswith("StaleTerm: term 1 is over")
    await until_it_acts(leader, set())


async def test_promise_5_a_leader_that_is_cut_off_is_deposed(
    lock: LeaderLock, start_node: StartNode, database_url: str
) -> None:
    async with Proxy(database_url) as network:
        leader, _ = await two_nodes(lock, start_node, url=network.url)
        network.cut(Network.BLACKHOLE)
        assert (await leads(lock, "standby")).term == 2
        leader.process.kill()
        await leader.process.wait()


async def test_l6_a_leader_that_stops_in_order_hands_over_whatever_the_retry_interval_is(
    lock: LeaderLock, start_node: StartNode
) -> None:
    leader, standby = await two_nodes(lock, start_node, LONG_WINDOW_SECONDS)
    log = await leader.stop()
    assert (await leads(lock, "standby")).term == 2
    assert "Traceback" not in log
    log = await standby.stop()
    assert "Traceback" not in log
    after = await lock.read()
    assert (after.holder, after.lock_held) == (None, False)


async def test_a_leader_steps_down_where_it_is_asked_to_and_lets_the_others_go_first(
    lock: LeaderLock, start_node: StartNode
) -> None:
    leader, _ = await two_nodes(lock, start_node)
    assert await lock.ask_to_step_down() == 1
    assert (await leads(lock, "standby")).term == 2
    assert (await leader.do("prune")).startswith("StaleTerm: term 1 is over")


async def test_l3_a_leader_whose_session_is_ended_leads_no_more_and_the_process_goes_on(
    lock: LeaderLock, start_node: StartNode, database_url: str
) -> None:
    leader, standby = await two_nodes(lock, start_node, LONG_WINDOW_SECONDS)
    async with await psycopg.AsyncConnection.connect(driver_conninfo(database_url), autocommit=True) as admin:
        await admin.execute("SELECT pg_terminate_backend(backend_pid) FROM callboard.leadership")
    assert (await leads(lock, "standby")).term == 2
    assert (await leader.do("prune")).startswith("StaleTerm: term 1 is over")
    await standby.stop()
    assert (await leads(lock, "leader")).term == 3


# In one process


def settings_of(url: str, **others: Any) -> Settings:
    return Settings(database_url=url, pg_pool_size=3, metrics_port=0, **others)


@pytest.fixture
def registry() -> JobRegistry:
    registry = JobRegistry()

    @job(registry=registry)
    async def nothing() -> None:
        """What a worker must have at least."""

    return registry


def sample(runtime: Runtime, name: str, **labels: str) -> float | None:
    return runtime.telemetry.registry.get_sample_value(f"callboard_{name}", labels)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


async def test_l1_two_nodes_with_default_settings_have_one_leader_and_one_that_counts_jobs(
    database_url: str, registry: JobRegistry
) -> None:
    settings = settings_of(database_url)
    async with Runtime(settings, registry=registry) as first, Runtime(settings, registry=registry) as second:
        nodes = (first, second)
        await until(lambda: sum(bool(sample(node, "leader_is_leader", election="leader")) for node in nodes) == 1)
        await until(lambda: all(sample(node, "leader_term", election="leader") == 1 for node in nodes))

        def counting() -> list[bool]:
            name = "metrics_refresh_timestamp_seconds"
            return [sample(node, name, collector="store_summary") is not None for node in nodes]

        await until(lambda: any(counting()))
        assert counting() == [bool(sample(node, "leader_is_leader", election="leader")) for node in nodes]
        won = [sample(node, "leader_elections_total", election="leader", outcome="won") for node in nodes]
        assert sorted(won) == [0, 1]


async def test_l2_the_lock_is_on_no_connection_of_the_pool(
    database_url: str, registry: JobRegistry, lock: LeaderLock
) -> None:
    """Not even one that the pool replaces at every use."""
    async with Runtime(settings_of(database_url, pg_pool_recycle=0.001), registry=registry) as runtime:
        await until(lambda: sample(runtime, "leader_is_leader", election="leader"))
        for _ in range(10):
            await runtime._parts.store.summary()
        record = await lock.read()
        assert (record.term, record.lock_held) == (1, True)


async def test_l10_a_tick_that_comes_while_the_loop_is_busy_is_taken(database_url: str, registry: JobRegistry) -> None:
    async with Runtime(settings_of(database_url), registry=registry) as runtime:
        await until(lambda: sample(runtime, "leader_is_leader", election="leader"))
        every = Schedule(interval_seconds=1, misfire="all", misfire_grace_seconds=0)
        await runtime.schedules.create("every second", registry.require(registry.kinds()[0]), every)
        [before] = await runtime.schedules.list()
        assert before.next_tick is not None
        missed = [before.next_tick + timedelta(seconds=number) for number in range(3)]
        while datetime.now(UTC) < missed[-1]:
            time.sleep(0.1)  # noqa: ASYNC251 - that is the point: nothing else happens in this process
        found: set[str] = set()
        async with asyncio.timeout(WAIT_SECONDS):
            while not found >= {tick.isoformat() for tick in missed}:
                jobs = await runtime.jobs(JobFilter(metadata={"schedule": "every second"}))
                assert len(jobs) == len({one.metadata["tick"] for one in jobs})
                found = {one.metadata["tick"] for one in jobs}
                await asyncio.sleep(0.05)


async def test_a_process_that_only_spawns_takes_no_part(database_url: str, lock: LeaderLock) -> None:
    async with Runtime(settings_of(database_url), work=False) as client:
        assert client._system.registry.get("leader") is None
        assert sample(client, "leader_is_leader", election="leader") == 0
    assert (await lock.read()).term == 0


async def test_jobs_do_not_wait_for_a_leader(database_url: str, lock: LeaderLock) -> None:
    registry = JobRegistry()

    @job(registry=registry)
    async def double(number: int) -> int:
        return 2 * number

    session = await lock.open(answer_limit_seconds=5.0)
    assert (await session.campaign("somebody else", silence_limit_seconds=3600.0)).won
    async with Runtime(settings_of(database_url), registry=registry) as runtime:
        ref = await runtime.spawn(double, 21)
        assert await ref.result(WAIT_SECONDS) == 42
        assert sample(runtime, "leader_is_leader", election="leader") == 0
    await session.close()
