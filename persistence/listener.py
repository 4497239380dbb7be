"""Wake-ups from PostgreSQL: LISTEN on a connection of its own, which proves itself alive again and again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from callboard.actors.errors import StoreUnavailable
from callboard.actors.settings import Settings

from .bounded_connection import BoundedAsyncConnection, NoAnswer, connect_bounded
from .engine import connect_arguments, direct_url, driver_conninfo, readable_errors
from .statements import channel

PROBE_INTERVAL_SECONDS: Final = 10.0
PROBE_LIMIT_SECONDS: Final = 5.0

_PROBE: Final = "probe"


class PostgresWakeUps:
    """Implements ``WakeUps`` over a dedicated psycopg connection on the direct URL.

    A connection can be dead without an error: cut networks, proxies, and poolers that forget a LISTEN do that to
    others (procrastinate#1425, graphile/worker#541, pg-boss#850). So it notifies itself, and a missing echo is an
    error. TCP keepalives find the same out below.

    Args:
        settings: where the database is.
        probe_interval_seconds: how long without any notification before it probes (default: 10 s).
        probe_limit_seconds: how long the echo may take (default: 5 s).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        probe_interval_seconds: float = PROBE_INTERVAL_SECONDS,
        probe_limit_seconds: float = PROBE_LIMIT_SECONDS,
    ) -> None:
        self._settings = settings
        self._channel = channel(settings.database_schema)
        self._listen_statement = f'LISTEN "{self._channel}"'.encode()
        self._interval = probe_interval_seconds
        self._limit = probe_limit_seconds

    async def run(self, on_hint: Callable[[str, str], None]) -> None:
        """Listen until cancelled; see ``WakeUps.run``."""
        arguments = connect_arguments(application_name="callboard listener", statement_timeout_seconds=None)
        with readable_errors("listen"):
            connection = await connect_bounded(
                driver_conninfo(direct_url(self._settings)),
                answer_limit_seconds=self._interval + self._limit,  # longer than any silence between two probes
                autocommit=True,
                prepare_threshold=None,
                **arguments,
            )
            try:
                await connection.execute(self._listen_statement)
                on_hint("listening", "")
                while True:
                    await self._listen(connection, on_hint)
                    await self._probe(connection, on_hint)
            finally:
                await connection.close()

    async def _listen(self, connection: BoundedAsyncConnection, on_hint: Callable[[str, str], None]) -> None:
        """Pass hints on until none has come for the probe interval."""
        silent = False
        while not silent:
            silent = True
            async for notification in connection.notifies(timeout=self._interval, stop_after=1):
                silent = False
                _pass_on(notification.payload, on_hint)

    async def _probe(self, connection: BoundedAsyncConnection, on_hint: Callable[[str, str], None]) -> None:
        echo = f"{_PROBE}:{os.urandom(8).hex()}"
        try:
            # To cancel a statement would be to ask the server, and to wait for it: the connection ends it by itself.
            with connection.answering_within(self._limit):
                await connection.execute("SELECT pg_notify(%s, %s)", (self._channel, echo))
            async with asyncio.timeout(self._limit):
                async for notification in connection.notifies():
                    if notification.payload == echo:
                        return
                    _pass_on(notification.payload, on_hint)
        except (TimeoutError, NoAnswer):
            raise StoreUnavailable(
                f"listen: no echo of a notification within {self._limit:g} s; the connection is dead, or leads "
                f"through a transaction-mode pooler: set CALLBOARD_DIRECT_DATABASE_URL to the server itself"
            ) from None


def _pass_on(payload: str, on_hint: Callable[[str, str], None]) -> None:
    topic, _, detail = payload.partition(":")
    if topic == _PROBE:
        return
    if topic == "cancelled":
        for job_id in detail.split(","):
            on_hint(topic, job_id)
        return
    on_hint(topic, detail)
