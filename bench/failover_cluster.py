"""Clusters of real workers for ``bench.failover``, and the networks between them and the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple, Protocol

import psycopg

from callboard import Settings, StoreUnavailable
from callboard.persistence.leader_lock import PostgresLeaderLock
from tests.support import cables
from tests.support.cables import CabledServer, Cut
from tests.support.network import Network, Proxy

from .check import BenchmarkInvalid
from .server import running_server

NODES: Final = 2
READY_SECONDS: Final = 120.0
TAKEOVER_LIMIT_SECONDS: Final = 120.0
_READY_LOOK_SECONDS: Final = 0.2
_LOG_LINES: Final = 20
_SERVER: Final = {"max_connections": "500"}


class Line(Protocol):
    """A node's connection to the server, which can be cut."""

    @property
    def url(self) -> str:
        """Where the server is, by this line."""

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command starts with that is to use this line."""

    def cut(self, how: Cut) -> None:
        """Cut it."""

    def mend(self) -> None:
        """Let everything through again."""


class ProxyLine:
    """Where there can be no cables: a proxy in this process. It swallows everything, while both ends stay connected."""

    prefix = ()

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.url = proxy.url

    def cut(self, how: Cut) -> None:
        """Cut it."""
        assert how is Cut.SILENT, "a proxy cannot be unplugged"
        self._proxy.cut(Network.BLACKHOLE)

    def mend(self) -> None:
        """Carry new connections again."""
        self._proxy.heal()


@dataclass(frozen=True, slots=True)
class Stage:
    """Where clusters play.

    Attributes:
        url: the server.
        cabled: it, where nodes can be in network namespaces.
    """

    url: str
    cabled: CabledServer | None

    @asynccontextmanager
    async def line(self, url: str) -> AsyncIterator[Line]:
        """Yield a line to a database that can be cut."""
        if self.cabled is not None:
            yield self.cabled.cable(url)
            return
        async with Proxy(url) as proxy:
            yield ProxyLine(proxy)


@contextmanager
def stage(database_url: str | None) -> Iterator[Stage]:
    """Yield the given server, or a private one; with cables, if it is private, for root."""
    if database_url is None and cables.missing() is None:
        with cables.running_cabled_server(_SERVER) as cabled:
            yield Stage(cabled.server.url, cabled)
    else:
        with running_server(database_url, _SERVER) as url:
            yield Stage(url, None)


class Direct(NamedTuple):
    """A line that nobody cuts."""

    url: str
    prefix: tuple[str, ...] = ()

    def cut(self, how: Cut) -> None:
        """Refuse."""
        raise NotImplementedError("this cluster's nodes have lines that nobody cuts")

    def mend(self) -> None:
        """Refuse."""
        raise NotImplementedError("this cluster's nodes have lines that nobody cuts")


@dataclass(frozen=True, slots=True)
class Node:
    """A worker, as the command line starts it."""

    name: str
    process: asyncio.subprocess.Process
    line: Line
    log: Path


class Cluster:
    """Some nodes on a database, and an observer past their lines.

    Args:
        url: the database.
        observer: asks it.
        folder: for logs, and what the nodes' jobs write.
        open_line: makes one more node's line.
    """

    def __init__(
        self,
        url: str,
        observer: psycopg.AsyncConnection[Any],
        folder: Path,
        open_line: Callable[[], Awaitable[Line]],
    ) -> None:
        self.url = url
        self.folder = folder
        self._observer = observer
        self._open_line = open_line
        self._lock = PostgresLeaderLock(Settings(database_url=url))
        self._nodes: dict[str, Node] = {}
        self._started = 0

    async def start_node(self) -> None:
        """Start one more worker."""
        self._started += 1
        name = f"node-{self._started}"
        line = await self._open_line()
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *(*line.prefix, sys.executable, "-m", "callboard.cli", "worker", "bench.failover_jobs"),
                *("--queue", f"{name}=1"),
                env={**os.environ, "CALLBOARD_DATABASE_URL": line.url, "CALLBOARD_NODE_NAME": name}
                | {"CALLBOARD_METRICS_PORT": "0", "CALLBOARD_ADMIN_SOCKET_DIRECTORY": "none"},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._nodes[name] = Node(name, process, line, log)

    async def end_node(self, node: Node) -> None:
        """Kill a worker, if it lives, and forget it."""
        del self._nodes[node.name]
        if node.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                node.process.kill()
        await node.process.wait()

    async def end(self) -> None:
        """Kill all workers."""
        for node in list(self._nodes.values()):
            await self.end_node(node)

    async def ready(self) -> tuple[Node, int]:
        """Wait until one node leads and all others stand by; return the leader and its term.

        Raises:
            BenchmarkInvalid: a worker has ended by itself, or they do not get there.
        """
        began = time.monotonic()
        while time.monotonic() < began + READY_SECONDS:
            self._require_alive()
            with contextlib.suppress(StoreUnavailable):  # starting workers may keep the processors busy for long
                record = await self._lock.read()
                name = (record.holder or "").partition(":")[0]
                if name in self._nodes and record.lock_held and record.standbys == len(self._nodes) - 1:
                    return self._nodes[name], record.term
            await asyncio.sleep(_READY_LOOK_SECONDS)
        raise BenchmarkInvalid(f"no leader and standbys within {READY_SECONDS:.0f} s: {self._logs()}")

    async def taken_over(self, term: int, look_seconds: float) -> float:
        """Wait for another term; return when it was seen, by the monotonic clock.

        Raises:
            BenchmarkInvalid: none came.
        """
        began = time.monotonic()
        while time.monotonic() < began + TAKEOVER_LIMIT_SECONDS:
            cursor = await self._observer.execute("SELECT term FROM callboard.leadership")
            [(seen,)] = await cursor.fetchall()
            if seen > term:
                return time.monotonic()
            await asyncio.sleep(look_seconds)
        raise BenchmarkInvalid(f"nobody took over within {TAKEOVER_LIMIT_SECONDS:.0f} s: {self._logs()}")

    def _require_alive(self) -> None:
        for node in self._nodes.values():
            if node.process.returncode is not None:
                raise BenchmarkInvalid(f"{node.name} ended with {node.process.returncode}: {self._logs()}")

    def _logs(self) -> str:
        ends = [
            f"{node.name}:\n" + "\n".join(node.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
            for node in self._nodes.values()
        ]
        return "\n".join(["the ends of the logs are", *ends])


@asynccontextmanager
async def running_cluster(place: Stage, url: str, *, to_be_cut: bool) -> AsyncIterator[Cluster]:
    """Start a cluster on a database; end it."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        observer = await stack.enter_async_context(await psycopg.AsyncConnection.connect(url, autocommit=True))

        async def open_line() -> Line:
            if not to_be_cut:
                return Direct(url)
            return await stack.enter_async_context(place.line(url))

        cluster = Cluster(url, observer, folder, open_line)
        stack.push_async_callback(cluster.end)
        for _ in range(NODES):
            await cluster.start_node()
        yield cluster
