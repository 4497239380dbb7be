"""Keeping leases alive from a thread with a connection of its own, which a busy event loop cannot starve."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

import psycopg

from callboard.actors.errors import StoreError
from callboard.actors.jobs.types import AttemptKey
from callboard.actors.ports import Telemetry
from callboard.actors.settings import Settings

from .bounded_connection import BoundedConnection
from .engine import behind_pooler, connect_arguments, driver_conninfo, pool_url, readable_errors
from .lease_statements import LeaseStatements
from .writing import renewal

logger = logging.getLogger(__name__)

_RENEWALS_PER_LEASE: Final = 3
"""Two renewals may fail before a lease is lost."""

_TICKS_PER_LEASE: Final = 12

_STOP_SECONDS: Final = 2.0
"""How long a stop waits for the thread; a connection that is just being made cannot be interrupted."""


class PostgresAttemptKeeper:
    """Implements ``AttemptKeeper``.

    An attempt is renewed when it was claimed a third of the lease ago (or was last renewed so long ago): jobs that end
    sooner cost nothing. A renewal that fails, for whatever reason, is tried again at the next tick, a twelfth of the
    lease later: the thread lives until it is stopped.

    Args:
        settings: the database, the lease and the hang limit.
        telemetry: told of failures. Called from the thread.
        monotonic: the clock, in seconds.
    """

    def __init__(
        self, settings: Settings, telemetry: Telemetry, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._monotonic = monotonic
        self._renew = LeaseStatements(settings.database_schema).renew.native
        self._begun_by: Callable[[float], AbstractSet[AttemptKey]] = lambda _: frozenset()
        self._renewed: dict[AttemptKey, float] = {}
        self._lost: set[AttemptKey] = set()
        self._last_beat = monotonic()
        self._silent = False
        self._failing = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self._connection_lock = threading.Lock()

    def keep(self, begun_by: Callable[[float], AbstractSet[AttemptKey]]) -> None:
        """Keep the attempts that run. Before ``start``."""
        self._begun_by = begun_by

    def start(self, on_lost: Callable[[Sequence[AttemptKey]], None]) -> None:
        """Start the thread."""
        self.beat()
        self._stopping = threading.Event()  # a new one: an earlier thread may still be on its way out
        self._thread = threading.Thread(
            target=self._run, args=(on_lost, self._stopping), name="callboard-leases", daemon=True
        )
        self._thread.start()

    def beat(self) -> None:
        """Show that the event loop lives."""
        self._last_beat = self._monotonic()

    def stop(self) -> None:
        """End the thread; returns when it has ended, within about two seconds whatever the server does."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is None:
            self._disconnect()
            return
        self._interrupt()
        thread.join(_STOP_SECONDS)
        if thread.is_alive():
            logger.warning("the lease keeper's thread still connects to the database; it ends when that has failed")

    def _run(self, on_lost: Callable[[Sequence[AttemptKey]], None], stopping: threading.Event) -> None:
        tick = self._settings.lease_seconds / _TICKS_PER_LEASE
        while not stopping.wait(tick):
            try:
                lost = self.tick()
                if lost:
                    on_lost(lost)
            except Exception:  # without this thread, the leases of everything that runs here would expire
                logger.exception("a defect while leases were renewed; the next try is in %.1f s", tick)
                self._failed()
        self._disconnect()

    def tick(self) -> list[AttemptKey]:
        """Renew what is due; returns the attempts found lost, which are kept no longer. The thread calls this."""
        now = self._monotonic()
        if self._loop_hangs(now):
            return []
        due = self._due(now - self._settings.lease_seconds / _RENEWALS_PER_LEASE)
        if not due:
            return []
        try:
            with readable_errors("renew"):
                kept = self._renew_in_database(due)
        except StoreError as error:
            if not self._stopping.is_set():
                # One line for an outage: the next tries are a moment apart.
                logger.log(
                    logging.DEBUG if self._failing else logging.WARNING, "leases cannot be renewed for now: %s", error
                )
                self._failing = True
                self._failed()
            return []
        if self._failing:
            logger.info("leases are renewed again")
            self._failing = False
        return self._settle(due, kept, now)

    def _due(self, moment: float) -> list[AttemptKey]:
        """Return what runs and was claimed, or last renewed, by a moment."""
        running = self._begun_by(moment)
        self._renewed = {attempt: renewed for attempt, renewed in self._renewed.items() if attempt in running}
        self._lost.intersection_update(running)
        return [
            attempt for attempt in running if attempt not in self._lost and self._renewed.get(attempt, moment) <= moment
        ]

    def _failed(self) -> None:
        self._disconnect()
        self._telemetry.lease_failed("error")

    def _settle(self, due: Sequence[AttemptKey], kept: set[AttemptKey], now: float) -> list[AttemptKey]:
        self._renewed.update(dict.fromkeys(kept, now))
        running = self._begun_by(now)  # some may have ended while we asked
        lost = [attempt for attempt in due if attempt not in kept and attempt in running]
        self._lost.update(lost)
        for attempt in lost:
            logger.warning(
                "job %s: the attempt with token %d is lost: cancelled, or taken back as if we were dead", *attempt
            )
            self._telemetry.lease_failed("lost")
        return lost

    def _loop_hangs(self, now: float) -> bool:
        """Tell whether the event loop is silent for too long: others must then be able to take its jobs."""
        silent_seconds = now - self._last_beat
        hangs = silent_seconds > self._settings.hang_limit_seconds
        if hangs and not self._silent:
            logger.error("the event loop has been silent for %.1f s: its leases are renewed no longer", silent_seconds)
            self._telemetry.lease_failed("error")
        self._silent = hangs
        return hangs

    def _renew_in_database(self, due: Sequence[AttemptKey]) -> set[AttemptKey]:
        if self._connection is None:
            self._connection = self._connect()
        rows = self._connection.execute(self._renew, renewal(due, self._settings.lease_seconds)).fetchall()
        return set(map(AttemptKey._make, rows))

    def _connect(self) -> psycopg.Connection[Any]:
        pooler = behind_pooler(self._settings)
        timeout = self._settings.lease_seconds / _RENEWALS_PER_LEASE
        arguments = connect_arguments(
            application_name="callboard leases", statement_timeout_seconds=None if pooler else timeout
        )
        connection = BoundedConnection.connect(
            driver_conninfo(pool_url(self._settings)),
            autocommit=True,
            prepare_threshold=None if pooler else 5,
            **{**arguments, "connect_timeout": min(arguments["connect_timeout"], max(2, int(timeout)))},
        )
        connection.answer_limit_seconds = timeout
        return connection

    def _disconnect(self) -> None:
        with self._connection_lock:
            if self._connection is not None:
                with contextlib.suppress(psycopg.Error):  # it is being thrown away
                    self._connection.close()
                self._connection = None

    def _interrupt(self) -> None:
        """End the statement that the thread waits for, without the server's help, by ending the network connection."""
        with self._connection_lock:
            if self._connection is None:
                return
            with (
                contextlib.suppress(psycopg.Error, OSError),  # it is broken already
                socket.socket(fileno=os.dup(self._connection.fileno())) as connection,
            ):
                connection.shutdown(socket.SHUT_RDWR)
