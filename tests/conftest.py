"""Fixtures for every test: a PostgreSQL server, databases on it, and guards against what a test leaves behind.

Coroutine tests need no marker: they run on asyncio, by anyio's plugin. Tests that use a database get the marker
``postgres``.
"""

import asyncio
import gc
import inspect
import threading
from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest

from callboard.testing import FakeClock
from tests.support.database_copies import DatabaseCopies
from tests.support.leaks import assert_no_new_tasks, assert_no_new_threads
from tests.support.postgres import Server, another_connection, lent_database, running_server, unique_name

# Tests that use a database come one after the other, some of them quicker than a copy is made.
_COPIES_AHEAD = 16

# An example's time says how busy the machine is; Hypothesis would fail those over 200 ms.
hypothesis.settings.register_profile("callboard", deadline=None)
hypothesis.settings.load_profile("callboard")


@pytest.hookimpl(tryfirst=True)  # before the markers are read for -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.postgres)


def pytest_collection_finish() -> None:
    """Take what is loaded by now for permanent: every test that has used a database asks for a collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def local_addresses_need_no_proxy() -> Iterator[None]:
    """Tests talk to servers of their own; a proxy that the environment names knows nothing of those."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server for the whole session; with pytest-xdist, for each worker. To kill and stop, a test starts its own."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def template_database(server: Server) -> Iterator[str]:
    """The name of a migrated database that is copied and otherwise left alone."""
    from callboard.persistence.migrate import migrate

    name = unique_name()
    migrate(server.create_database(name))
    yield name
    server.drop_database(name)


@pytest.fixture(scope="session")
def database_copies(server: Server, template_database: str, request: pytest.FixtureRequest) -> Iterator[DatabaseCopies]:
    """Migrated databases in stock."""
    users = sum(item.get_closest_marker("postgres") is not None for item in request.session.items)
    with another_connection(server) as own:
        copies = DatabaseCopies(own, template_database, ahead=min(_COPIES_AHEAD, users))
        yield copies
        copies.close()


@pytest.fixture
def empty_database_url(server: Server) -> Iterator[str]:
    """The address of a database of this test's own, with nothing in it."""
    name = unique_name()
    server.create_database(name)
    with lent_database(server, name, server.drop_database) as url:
        yield url


@pytest.fixture
def database_url(server: Server, database_copies: DatabaseCopies) -> Iterator[str]:
    """The address of a database of this test's own, migrated to the newest schema."""
    with lent_database(server, database_copies.take(), database_copies.drop) as url:
        yield url


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(autouse=True)
def no_thread_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("postgres") is not None:
        request.getfixturevalue("database_copies")  # their thread is not the test's
    before = threading.enumerate()
    yield
    assert_no_new_threads(before)


@pytest.fixture(autouse=True)
def guard_coroutine_tests(request: pytest.FixtureRequest, no_thread_is_left: None) -> None:
    """Ask for the guard of tasks where there is a loop; after that of threads, as the loop's own threads end first."""
    if inspect.iscoroutinefunction(getattr(request.node, "function", None)):
        request.getfixturevalue("no_task_is_left")


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    await assert_no_new_tasks(before)
