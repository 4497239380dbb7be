"""The leader's lock on PostgreSQL: an advisory lock on a session of its own. The SQL is in migration 0003."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from psycopg import errors as pg
from psycopg import sql
from psycopg.rows import TupleRow

from callboard.actors.errors import StaleTerm
from callboard.actors.leadership import Deposition, LeaderRecord, Standing
from callboard.actors.patience import ANSWER_SECONDS, CONNECT_SECONDS, WAIT_SECONDS, Patience
from callboard.actors.settings import Settings

from .bounded_connection import BoundedAsyncConnection, NoAnswer, connect_bounded
from .engine import CONNECT_TIMEOUT_SECONDS, connect_arguments, direct_url, driver_conninfo, readable_errors
from .pooler import backend_pid, require_session, shares_sessions

_FIRST_WAIT_SECONDS: Final = 0.001
"""A new session asks how things stand before it waits: perhaps somebody has been silent for long."""

_APPLICATION_NAME: Final = "callboard leader"
_READ_SECONDS: Final = 10.0
_SLOW_LOOP_SECONDS: Final = 5.0
_LAST_STATEMENT_SECONDS: Final = 1.0

_SESSION: Final = {
    # The server finds a client that cannot be reached within 8 s, idle or not, and the lock is free then.
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "8000",
    # A sign of life that a crash of the server loses is none to be missed; a slow disk must not depose a leader. The
    # term itself is durable: campaign() sees to that.
    "synchronous_commit": "off",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
    "TimeZone": "UTC",
}

_READ: Final = """
SELECT term, holder, acquired_at, heartbeat_at, extract(epoch FROM clock_timestamp() - heartbeat_at)::float8,
    silence_limit_seconds,
    coalesce(backend_pid IN (SELECT {lockers}({key}('leader'))), false),
    (SELECT count(*)::integer FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = %s AND wait_event = 'advisory')
FROM {table}
"""


class PostgresLeaderLock:
    """Implements ``LeaderLock``.

    Args:
        settings: where the database is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._patience = Patience()

    async def open(self, *, answer_limit_seconds: float) -> PostgresLeaderSession:
        """Open a session past any pooler; see ``LeaderLock.open``."""
        with readable_errors("lead"):
            with _measuring(self._patience):
                connection = await self._connect(
                    answer_limit_seconds, self._patience.wait_seconds(CONNECT_SECONDS, CONNECT_TIMEOUT_SECONDS)
                )
            try:
                pid = await require_session(connection, partial(self._connect, answer_limit_seconds))
                values = sql.SQL(", ").join(
                    sql.SQL("set_config({}, {}, false)").format(name, value) for name, value in _SESSION.items()
                )
                await connection.execute(sql.SQL("SELECT {}").format(values))
            except BaseException:
                await connection.close()
                raise
        return PostgresLeaderSession(connection, pid, self._settings.database_schema, self._patience)

    async def read(self) -> LeaderRecord:
        """Return who leads."""
        statement = sql.SQL(_READ).format(
            table=self._name("leadership"),
            lockers=self._name("leadership_lockers"),
            key=self._name("leadership_key"),
        )
        row = await self._ask("read the leader", statement, [_APPLICATION_NAME])
        assert row is not None, "the table leadership has its row from its migration on"
        return LeaderRecord(*row)

    async def ask_to_step_down(self) -> int | None:
        """Ask the leader to hand over; see ``LeaderLock.ask_to_step_down``."""
        statement = sql.SQL("UPDATE {} SET step_down_term = term WHERE holder IS NOT NULL RETURNING term").format(
            self._name("leadership")
        )
        row = await self._ask("ask the leader to step down", statement, [])
        return None if row is None else row[0]

    def _name(self, name: str) -> sql.Identifier:
        return sql.Identifier(self._settings.database_schema, name)

    async def _ask(self, operation: str, statement: sql.Composed, parameters: list[Any]) -> TupleRow | None:
        with readable_errors(operation):
            async with await self._connect(_READ_SECONDS, application_name="callboard") as connection:
                return await (await connection.execute(statement, parameters)).fetchone()

    async def _connect(
        self,
        answer_limit_seconds: float,
        connect_seconds: float = CONNECT_TIMEOUT_SECONDS,
        application_name: str = _APPLICATION_NAME,
    ) -> BoundedAsyncConnection:
        # Without start-up options, which a pooler refuses: what is wrong with it we can say better.
        arguments = connect_arguments(application_name=application_name, statement_timeout_seconds=None)
        return await connect_bounded(
            driver_conninfo(direct_url(self._settings)),
            answer_limit_seconds=answer_limit_seconds,
            autocommit=True,
            prepare_threshold=None,
            **{**arguments, "connect_timeout": int(connect_seconds)},
        )


class PostgresLeaderSession:
    """Implements ``LeaderSession`` over a connection of its own.

    Args:
        connection: the session; nobody else uses it.
        backend_pid: the server process behind it.
        schema: the schema of Callboard's tables.
        patience: how long to wait as a standby; outlives the session.
    """

    def __init__(self, connection: BoundedAsyncConnection, backend_pid: int, schema: str, patience: Patience) -> None:
        self._connection = connection
        self._backend_pid = backend_pid
        self._schema = schema
        self._patience = patience
        self._wait_seconds = _FIRST_WAIT_SECONDS

    async def campaign(self, node: str, *, silence_limit_seconds: float) -> Standing:
        """Wait for the lock for a while; see ``LeaderSession.campaign``."""
        longest = self._connection.answer_limit_seconds + 2 * WAIT_SECONDS  # for the lock, and for the term's writes
        limit = self._patience.wait_seconds(WAIT_SECONDS + ANSWER_SECONDS, longest)
        wait_milliseconds = int(self._wait_seconds * 1000)
        with readable_errors("lead"), self._connection.answering_within(limit), _measuring(self._patience):
            row = await self._call("campaign", node, silence_limit_seconds, wait_milliseconds)
        self._patience.answered()
        self._wait_seconds = WAIT_SECONDS
        return Standing(*row)

    async def prove(self, term: int) -> bool:
        """Prove that lock and term are this session's; see ``LeaderSession.prove``."""
        with readable_errors("lead"):
            [asked_to_step_down] = await self._call("prove_leadership", term)
            if asked_to_step_down is not None:
                return bool(asked_to_step_down)
            if await backend_pid(self._connection) != self._backend_pid:
                raise shares_sessions()
        raise StaleTerm(term)

    async def watch(self, seconds: float) -> None:
        """Return after this time, or raise as soon as the session ends."""
        with readable_errors("lead"), self._connection.answering_within(seconds + _SLOW_LOOP_SECONDS):
            async for _ in self._connection.notifies(timeout=seconds):
                pass  # it listens to nothing

    async def depose(self, term: int) -> Deposition:
        """End the session of a silent leader; see ``LeaderSession.depose``."""
        with readable_errors("depose the leader"):
            try:
                [ended] = await self._call("depose_leader", term)
            except pg.InsufficientPrivilege:
                return Deposition.REFUSED
        return Deposition.ENDED if ended else Deposition.UNNEEDED

    async def resign(self, term: int) -> None:
        """Give the lock back; see ``LeaderSession.resign``."""
        unlock = sql.SQL("SELECT pg_advisory_unlock({}('leader'))").format(
            sql.Identifier(self._schema, "leadership_key")
        )
        with readable_errors("lead"):
            await self._call("resign_leadership", term)
            [(unlocked,)] = await (await self._connection.execute(unlock)).fetchall()
        if not unlocked:
            raise StaleTerm(term)

    async def close(self) -> None:
        """End the session, once the statement that was cut short for it has been taken back, if that is soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_STATEMENT_SECONDS), self._connection.lock:
                pass
        await self._connection.close()

    async def _call(self, function: str, *arguments: object) -> TupleRow:
        statement = sql.SQL("SELECT * FROM {}({})").format(
            sql.Identifier(self._schema, function), sql.SQL(", ").join(sql.Placeholder() * len(arguments))
        )
        row: TupleRow
        [row] = await (await self._connection.execute(statement, arguments)).fetchall()
        return row


@contextlib.contextmanager
def _measuring(patience: Patience) -> Iterator[None]:
    """Tell a standby's patience of an answer, or a connection, that did not come in time."""
    try:
        yield
    except (NoAnswer, pg.ConnectionTimeout):
        patience.missed()
        raise
