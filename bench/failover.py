"""How long a cluster has no leader: real workers that are killed, cut off, stopped and hung, round after round.

A round ends when another node has begun its term in the database. Each way to fail has a database, workers and rounds
of its own; all run beside each other, as they mostly wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click
import psycopg

from callboard import Runtime, Settings, StoreUnavailable
from callboard.persistence.leader_lock import PostgresLeaderLock
from tests.support.network import Network, Proxy

from .check import BenchmarkInvalid
from .failover_jobs import hang
from .report import Goal
from .server import fresh_database

ROUNDS: Final = 50
NODES: Final = 2
HANG_SECONDS: Final = 14.0
READY_SECONDS: Final = 120.0
TAKEOVER_LIMIT_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 0.005
_READY_LOOK_SECONDS: Final = 0.3

GOALS: Final = (
    Goal("kill_p99_seconds", "kill -9, p99", 2.0, at_least=False),
    Goal("cut_p99_seconds", "network cut, p99", 15.0, at_least=False),
    Goal("stop_p99_seconds", "SIGSTOP, p99", 15.0, at_least=False),
    Goal("hang_p99_seconds", "event loop hangs, p99", 15.0, at_least=False),
)


class Node:
    """A worker, as the command line starts it; ``network`` leads to the server, where it is to be cut."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, network: Proxy | None) -> None:
        self.name = name
        self.process = process
        self.network = network


class Cluster:
    """Some nodes on a database, and an observer past their networks."""

    def __init__(self, url: str, observer: psycopg.AsyncConnection[Any], folder: Path, *, proxied: bool) -> None:
        self.url = url
        self._proxied = proxied
        self.folder = folder
        self._observer = observer
        self._lock = PostgresLeaderLock(Settings(database_url=url))
        self._nodes: dict[str, Node] = {}
        self._started = 0

    async def start_node(self) -> None:
        """Start one more worker."""
        self._started += 1
        name = f"node-{self._started}"
        network = await Proxy(self.url).__aenter__() if self._proxied else None
        url = self.url if network is None else network.url
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "callboard.cli", "worker", "bench.failover_jobs", "--queue", f"{name}=1"),
            env={**os.environ, "CALLBOARD_DATABASE_URL": url, "CALLBOARD_NODE_NAME": name}
            | {"CALLBOARD_METRICS_PORT": "0", "CALLBOARD_ADMIN_SOCKET_DIRECTORY": "none"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self._nodes[name] = Node(name, process, network)

    async def end_node(self, node: Node) -> None:
        """Kill a worker, if it lives, and forget it."""
        del self._nodes[node.name]
        with contextlib.suppress(ProcessLookupError):
            node.process.kill()
        await node.process.wait()
        if node.network is not None:
            await node.network.__aexit__()

    async def end(self) -> None:
        """Kill all workers."""
        for node in list(self._nodes.values()):
            await self.end_node(node)

    async def ready(self) -> tuple[Node, int]:
        """Wait until one node leads and all others stand by; return the leader and its term."""
        async with asyncio.timeout(READY_SECONDS):
            while True:
                with contextlib.suppress(StoreUnavailable):  # starting workers may keep the processors busy for long
                    record = await self._lock.read()
                    name = (record.holder or "").partition(":")[0]
                    if name in self._nodes and record.lock_held and record.standbys == len(self._nodes) - 1:
                        return self._nodes[name], record.term
                await asyncio.sleep(_READY_LOOK_SECONDS)

    async def taken_over(self, term: int) -> float:
        """Wait for another term; return when it was seen, by the monotonic clock."""
        async with asyncio.timeout(TAKEOVER_LIMIT_SECONDS):
            while True:
                cursor = await self._observer.execute("SELECT term FROM callboard.leadership")
                [(seen,)] = await cursor.fetchall()
                if seen > term:
                    return time.monotonic()
                await asyncio.sleep(_LOOK_SECONDS)


Failure = Callable[[Cluster, Node, int], Awaitable[float]]
"""Lets the leader of a term fail, waits for the next one, mends; returns the seconds in between."""


async def kill(cluster: Cluster, leader: Node, term: int) -> float:
    """``kill -9``."""
    began = time.monotonic()
    leader.process.kill()
    seconds = await cluster.taken_over(term) - began
    await cluster.end_node(leader)
    await cluster.start_node()
    return seconds


async def cut(cluster: Cluster, leader: Node, term: int) -> float:
    """The network swallows everything: no RST, no FIN."""
    assert leader.network is not None, "this cluster's nodes have proxies"
    began = time.monotonic()
    leader.network.cut(Network.BLACKHOLE)
    seconds = await cluster.taken_over(term) - began
    leader.network.heal()
    return seconds


async def stop(cluster: Cluster, leader: Node, term: int) -> float:
    """SIGSTOP; its session lives."""
    began = time.monotonic()
    leader.process.send_signal(signal.SIGSTOP)
    seconds = await cluster.taken_over(term) - began
    leader.process.send_signal(signal.SIGCONT)
    return seconds


async def hang_loop(cluster: Cluster, leader: Node, term: int) -> float:
    """The event loop hangs; its session lives."""
    file = cluster.folder / f"began-{term}"
    async with Runtime(Settings(database_url=cluster.url, pg_pool_size=1), work=False) as client:
        await client.spawn(hang.options(queue=leader.name), HANG_SECONDS, file)
    seen = await cluster.taken_over(term)
    return seen - float(file.read_text())


FAILURES: Final[Mapping[str, Failure]] = {"kill": kill, "cut": cut, "stop": stop, "hang": hang_loop}


def run(server_url: str, rounds: int) -> dict[str, Any]:
    """Return each failure's figures, and every round."""
    with contextlib.ExitStack() as stack:
        urls = {name: stack.enter_context(fresh_database(server_url)) for name in FAILURES}
        return asyncio.run(_run(urls, rounds))


async def _run(urls: Mapping[str, str], rounds: int) -> dict[str, Any]:
    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(_measure(urls[name], name, rounds)) for name in FAILURES}
    measurements = {name: task.result() for name, task in tasks.items()}
    figures = {}
    for name, seconds in measurements.items():
        figures[f"{name}_p50_seconds"] = statistics.median(seconds)
        figures[f"{name}_p99_seconds"] = sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * 0.99))]
    return {"figures": figures, "measurements": measurements}


async def _measure(url: str, name: str, rounds: int) -> list[float]:
    seconds = []
    async with _cluster(url, proxied=name == "cut") as cluster:
        for number in range(1, rounds + 1):
            leader, term = await cluster.ready()
            seconds.append(await FAILURES[name](cluster, leader, term))
            click.echo(f"{name} {number}/{rounds}: {seconds[-1]:.3f} s", err=True)
            _, after = await cluster.ready()
            if after != term + 1:
                raise BenchmarkInvalid(f"term {term} was followed by {after}: something else failed as well")
    return seconds


@contextlib.asynccontextmanager
async def _cluster(url: str, *, proxied: bool) -> AsyncIterator[Cluster]:
    with tempfile.TemporaryDirectory() as folder:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as observer:
            cluster = Cluster(url, observer, Path(folder), proxied=proxied)
            try:
                for _ in range(NODES):
                    await cluster.start_node()
                yield cluster
            finally:
                await cluster.end()
