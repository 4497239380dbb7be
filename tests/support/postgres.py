"""The server that the tests share, and databases on it."""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql

from callboard.persistence import embedded_databases
from callboard.persistence.embedded import EmbeddedServer
from tests.support.waiting import last_value

ENVIRONMENT_VARIABLE = "CALLBOARD_TEST_DATABASE_URL"

# A test's server is thrown away, so it need not survive a power failure; it still survives every kill -9, of which the
# tests make use: what it has written is then in the operating system's hands. synchronous_commit stays on for that.
# And a deadlock is found out a little sooner.
SETTINGS = {"fsync": "off", "full_page_writes": "off", "deadlock_timeout": "200ms"}

# In memory a copy of a database costs a third of the processor time that it does on a disk, and no wait for one.
_MEMORY = Path("/dev/shm")
_ENOUGH_BYTES = 4 * 2**30

_SCRAM_ITERATIONS_SINCE = 160000
_CONNECTIONS_END_SECONDS = 5.0


class Server:
    """The server that the tests share: an embedded one, or the one that CALLBOARD_TEST_DATABASE_URL names.

    Its role must be allowed to create databases. One connection stays open for that: it saves three logins a test.
    """

    def __init__(self, url: str, connection: psycopg.Connection) -> None:
        self.url = url
        self.connection = connection

    def create_database(self, name: str, template: str | None = None) -> str:
        embedded_databases.create_database(self.connection, name, template)
        return embedded_databases.with_database(self.url, name)

    def drop_database(self, name: str) -> None:
        embedded_databases.drop_database(self.connection, name)


@contextmanager
def running_server() -> Iterator[Server]:
    with ExitStack() as stack:
        url = os.environ.get(ENVIRONMENT_VARIABLE)
        if not url:
            server = EmbeddedServer(settings=SETTINGS, temporary_directory=place_in_memory())
            url = stack.enter_context(server).url
            login_quickly(url)
        yield Server(url, stack.enter_context(psycopg.connect(url, autocommit=True)))


def login_quickly(url: str) -> None:
    """Let a login hash the password once, not 4096 times: thousands of connections take 2 ms each for that."""
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.info.server_version >= _SCRAM_ITERATIONS_SINCE:
            connection.execute("SET scram_iterations = 1")
            password = sql.Literal(connection.info.password)
            connection.execute(sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}").format(password))


def place_in_memory() -> Path | None:
    """Return a folder in memory, if there is one with room for everything that the tests write."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ENOUGH_BYTES
    return _MEMORY if roomy else None


@contextmanager
def another_connection(server: Server) -> Iterator[Server]:
    """The same server with a connection of its own, for another thread."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        yield Server(server.url, connection)


@contextmanager
def lent_database(server: Server, name: str, drop: Callable[[str], None]) -> Iterator[str]:
    """Lend a database to one test and drop it afterwards; fail if somebody is still connected to it then."""
    try:
        yield embedded_databases.with_database(server.url, name)
        assert_no_connections(server, name)
    finally:
        drop(name)


def unique_name() -> str:
    """Return a name that no other run of the tests uses, on a shared server either."""
    return f"callboard_test_{uuid4().hex}"


def assert_no_connections(server: Server, database: str, *, timeout_seconds: float = _CONNECTIONS_END_SECONDS) -> None:
    """Wait briefly for ending connections; fail with the names of those that stay."""
    gc.collect()  # psycopg leaves a connection whose making was cancelled to the collector
    gc.freeze()  # what is left now is no later test's, and need not be looked at again
    left = last_value(lambda: _connections(server.connection, database), timeout_seconds=timeout_seconds)
    assert not left, "the test left connections to its database open:\n" + "\n".join(left)


def _connections(connection: psycopg.Connection, database: str) -> list[str]:
    rows = connection.execute(
        "SELECT pid, application_name, state, query FROM pg_stat_activity"
        " WHERE datname = %s AND backend_type = 'client backend' ORDER BY pid",
        [database],
    )
    return [f"  backend {pid} {name!r}, {state}, last query: {query!r}" for pid, name, state, query in rows]
