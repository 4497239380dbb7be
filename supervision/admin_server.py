"""The server behind an admin socket: a few connections at a time, each for one request and one answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from .admin_messages import REQUEST_LIMIT_BYTES, AdminAnswer, AdminError, AdminRequest, read_request, written
from .admin_sockets import open_socket

_log = logging.getLogger(__name__)

Answer = Callable[[AdminRequest], Awaitable[AdminAnswer]]

_BUSY: Final = AdminError(code="busy", message="too many admin connections are open; try again")
_TOO_LONG: Final = AdminError(
    code="bad_request", message=f"the request has no end within {REQUEST_LIMIT_BYTES} bytes; expected one line of JSON"
)


class AdminServer:
    """Answers on a Unix domain socket that only its user can open.

    It runs on the event loop and never blocks it: a client that sends nothing, or does not read its answer, holds one
    of ``max_connections`` until ``client_timeout_seconds`` are over, and nothing else.

    Args:
        directory: where the socket's file goes.
        answer: called for each request; what it raises is logged, and the client hears of a failure.
        max_connections: at a time, default 8; one more is answered ``busy``.
        client_timeout_seconds: how long a client may take to send its request, and again to read the answer; default 5.
    """

    def __init__(
        self, directory: Path, answer: Answer, *, max_connections: int = 8, client_timeout_seconds: float = 5.0
    ) -> None:
        self._directory = directory
        self._answer = answer
        self._max_connections = max_connections
        self._client_timeout_seconds = client_timeout_seconds
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.path: Path | None = None
        """The socket's file while it is served."""

    async def start(self) -> None:
        """Serve until ``stop``.

        Raises:
            ConfigurationError: there can be no socket in the folder.
        """
        listener, self.path = await asyncio.to_thread(open_socket, self._directory)
        self._server = await asyncio.start_unix_server(self._accept, sock=listener, limit=REQUEST_LIMIT_BYTES)
        _log.info("admin socket: %s", self.path)

    async def stop(self) -> None:
        """Close the socket, remove its file, end what is being answered. Twice is fine."""
        server, self._server = self._server, None
        path, self.path = self.path, None
        if server is not None:
            server.close()
        if path is not None:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        connections = tuple(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        full = len(self._connections) >= self._max_connections
        serve = self._refuse(writer) if full else self._serve(reader, writer)
        connection = asyncio.get_running_loop().create_task(serve, name="callboard admin connection")
        if not full:
            self._connections.add(connection)
            connection.add_done_callback(self._connections.discard)

    async def _refuse(self, writer: asyncio.StreamWriter) -> None:
        writer.write(written(AdminAnswer(error=_BUSY)))
        writer.transport.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._answered(reader)
            if answer is not None:
                await self._send(writer, answer)
        except (OSError, TimeoutError) as error:
            _log.debug("an admin client was too slow, or went away: %r", error)
        finally:
            writer.transport.abort()  # what was sent is sent: `_send` has waited for that

    async def _answered(self, reader: asyncio.StreamReader) -> AdminAnswer | None:
        """Read a request and return its answer; None if the client went away without one."""
        try:
            async with asyncio.timeout(self._client_timeout_seconds):
                line = await reader.readline()
        except ValueError:  # longer than the reader's limit
            return AdminAnswer(error=_TOO_LONG)
        if not line:
            return None
        request = read_request(line)
        if isinstance(request, AdminError):
            return AdminAnswer(error=request)
        try:
            return await self._answer(request)
        except Exception as error:  # noqa: BLE001 - the client hears of it, and the log has it
            _log.exception("an admin request failed: %r", request)
            return AdminAnswer(error=AdminError(code="failed", message=f"{error!r}; see the log of the process"))

    async def _send(self, writer: asyncio.StreamWriter, answer: AdminAnswer) -> None:
        writer.transport.set_write_buffer_limits(high=0)  # so that drain() waits for the last byte
        writer.write(written(answer))
        async with asyncio.timeout(self._client_timeout_seconds):
            await writer.drain()
