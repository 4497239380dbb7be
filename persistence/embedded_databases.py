"""Create and drop whole databases on a server that we may do that on: an embedded one, or one given to the tests."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from callboard.actors.errors import ConfigurationError, StoreError

Connection = psycopg.Connection[Any]

_LONGEST_NAME_BYTES = 63  # PostgreSQL's NAMEDATALEN - 1; it would cut a longer one silently


def with_database(url: str, name: str) -> str:
    """Return ``url`` with its database replaced by ``name``."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{quote(name, safe='')}"))


def create_database(connection: Connection, name: str, template: str | None = None) -> None:
    """Create a database, empty or as a copy of another one that nobody is connected to.

    The copy is made by the server's default strategy, through the WAL: for a database of this size it takes two thirds
    of the time of FILE_COPY, which waits for two checkpoints.

    Args:
        connection: to any other database of the server, in autocommit mode, as a role that may create databases.
        name: of the new database, 1 to 63 bytes.
        template: the database to copy; None is an empty one.

    Raises:
        ConfigurationError: the name is too long, or empty.
        StoreError: the server refused.
    """
    if not 0 < len(name.encode()) <= _LONGEST_NAME_BYTES:
        raise ConfigurationError(f"a database's name has 1 to 63 bytes, got {len(name.encode())}: {name!r}")
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
    _execute(connection, statement)


def drop_database(connection: Connection, name: str) -> None:
    """Drop a database if it exists; connections to it are closed.

    Args:
        connection: to any other database of the server, in autocommit mode, as the owner of this one.
        name: of the database.

    Raises:
        StoreError: the server refused.
    """
    _execute(connection, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _execute(connection: Connection, statement: sql.Composed) -> None:
    try:
        connection.execute(statement)
    except psycopg.Error as error:
        raise StoreError(f"{statement.as_string()}: {str(error).strip()}") from error
