"""What these tests say to the database themselves."""

from typing import Any, TypeAlias

import psycopg

Native: TypeAlias = psycopg.AsyncConnection[Any]


async def rows(connection: Native, sql: str, *parameters: object) -> list[Any]:
    """Return what a statement, whose parameters are ``%s``, returns."""
    return await (await connection.execute(sql.encode(), parameters or None)).fetchall()
