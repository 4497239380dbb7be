"""Telling a session from what a transaction-mode pooler makes look like one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import psycopg

from callboard.actors.errors import ConfigurationError

_TESTS: Final = 3

_Connection: TypeAlias = psycopg.AsyncConnection[Any]


async def require_session(connection: _Connection, connect: Callable[[], Awaitable[_Connection]]) -> int:
    """Return the id of the server process behind a connection, which is the connection's own.

    Poolers make the process id up that they tell a client. If it is not the true one, and another client gets the same
    server process while this one is connected, it is shared.

    Args:
        connection: idle, in no transaction.
        connect: makes another connection in the same way.

    Raises:
        ConfigurationError: a proxy gives every statement, or transaction, whatever server process is free.
    """
    pid = await backend_pid(connection)
    tests = 0 if pid == connection.info.backend_pid else _TESTS
    for _ in range(tests):
        async with await connect() as other:
            if await backend_pid(other) == pid:
                raise shares_sessions()
    return pid


async def backend_pid(connection: _Connection) -> int:
    """Return the id of the server process that answers this statement."""
    [(pid,)] = await (await connection.execute("SELECT pg_backend_pid()")).fetchall()
    return int(pid)


def shares_sessions() -> ConfigurationError:
    """Return the error for a connection that is no session."""
    return ConfigurationError(
        "the connection leads through a transaction-mode pooler (its server process changes, or is another client's as "
        "well), where no lock, LISTEN or prepared statement stays with its session: set CALLBOARD_DIRECT_DATABASE_URL "
        "to the server itself, or to a session-mode pool"
    )
