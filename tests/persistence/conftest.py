"""The store of most of these tests, and a connection beside it."""

from collections.abc import AsyncIterator

import psycopg
import pytest

from callboard import Settings
from callboard.actors.ports import NoTelemetry
from callboard.persistence.postgres_store import PostgresStore

from .support import Native


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(Settings(database_url=database_url, pg_pool_size=4), NoTelemetry())
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Native]:
    """A connection of somebody else's."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        yield connection
