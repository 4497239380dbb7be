"""The fence: a leader's write counts only in its own term, whatever the leader believes."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from callboard.actors.errors import StaleTerm


async def require_term(connection: psycopg.AsyncConnection[Any], schema: str, term: int) -> None:
    """Make sure that ``term`` is the current one until the transaction that runs on the connection ends.

    The first statement of every write that a leader makes. A new term begins only after such a transaction has ended;
    whoever begins it ends those that are still under way.

    Raises:
        StaleTerm: another term has begun. The caller's transaction is to be rolled back.
    """
    statement = sql.SQL("SELECT {}(%s)").format(sql.Identifier(schema, "hold_term"))
    cursor = await connection.execute(statement, [term])
    [(current,)] = await cursor.fetchall()
    if not current:
        raise StaleTerm(term)
