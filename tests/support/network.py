"""A network between a program and its PostgreSQL that a test can cut."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from enum import Enum

from sqlalchemy.engine import make_url

_CHUNK_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Network(Enum):
    """What becomes of what is sent."""

    WHOLE = "whole"
    """It arrives."""
    BLACKHOLE = "blackhole"
    """It arrives nowhere, and nobody is told: no RST, no FIN. What was connected then stays dead for good."""
    DEAF = "deaf"
    """What the program sends arrives; the answers do not."""
    RESET = "reset"
    """Every connection is reset, the next ones as soon as they are made."""


class Proxy:
    """A TCP proxy on 127.0.0.1, in the running loop. Only what it carries is cut.

    Attributes:
        url: the server's URL, through this proxy.
        network: as it is now; see ``cut`` and ``heal``.
        attempts: how many connections were tried since the cut.
    """

    def __init__(self, url: str) -> None:
        target = make_url(url)
        self._target = (target.host or "127.0.0.1", target.port or 5432)
        self._links: set[_Link] = set()
        self.network = Network.WHOLE
        self.attempts = 0
        self.url = url

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = make_url(self.url).set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for link in list(self._links):
            link.close()
        await asyncio.gather(*(link.ended.wait() for link in self._links))

    def cut(self, network: Network) -> None:
        """Cut it, for what is connected as well."""
        self.network = network
        self.attempts = 0
        for link in list(self._links):
            link.cut(network)

    def heal(self) -> None:
        """Carry new connections again."""
        self.network = Network.WHOLE

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self.attempts += 1
        self._links.add(link)
        try:
            link.cut(self.network)
            await link.carry(reader, self._target)
        finally:
            link.close()
            await link.wait_closed()
            self._links.discard(link)
            link.ended.set()


class _Link:
    """One connection, and the one behind it."""

    def __init__(self, near: asyncio.StreamWriter) -> None:
        self._near = near
        self._far: asyncio.StreamWriter | None = None
        self._network = Network.WHOLE
        self.ended = asyncio.Event()

    def cut(self, network: Network) -> None:
        self._network = network
        if network is Network.RESET:
            self._reset()

    def close(self) -> None:
        for writer in (self._near, self._far):
            if writer is not None:
                writer.transport.abort()

    async def wait_closed(self) -> None:
        for writer in (self._near, self._far):
            if writer is not None:
                with suppress(OSError):
                    await writer.wait_closed()

    def _reset(self) -> None:
        for writer in (self._near, self._far):
            if writer is not None:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close()

    async def carry(self, near: asyncio.StreamReader, target: tuple[str, int]) -> None:
        if self._network is Network.RESET:
            return
        try:
            far, self._far = await asyncio.open_connection(*target)
        except OSError:
            self._reset()
            return
        await asyncio.gather(
            self._pump(near, self._far, {Network.BLACKHOLE}),
            self._pump(far, self._near, {Network.BLACKHOLE, Network.DEAF}),
        )

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, swallowed: set[Network]) -> None:
        with suppress(ConnectionError):
            while data := await source.read(_CHUNK_BYTES):
                if self._network in swallowed:
                    continue
                sink.write(data)
                await sink.drain()
        if self._network in (Network.BLACKHOLE, Network.DEAF):
            return  # not even an end arrives
        if sink.can_write_eof() and not sink.is_closing():
            with suppress(OSError):
                sink.write_eof()
