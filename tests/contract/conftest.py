"""The store under test, three times: in memory, on PostgreSQL, and on PostgreSQL behind a transaction-mode pooler."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest

from callboard.actors.clock import SystemClock
from callboard.actors.job_store import JobStore
from callboard.actors.ports import NoTelemetry
from callboard.actors.settings import Settings
from callboard.persistence import stores
from callboard.persistence.stores import StoreParts
from tests.support.pgbouncer import running_pgbouncer

STORES = [
    "memory",
    pytest.param("postgres", marks=pytest.mark.postgres),
    pytest.param("pgbouncer", marks=[pytest.mark.postgres, pytest.mark.pgbouncer]),
]


@pytest.fixture(params=STORES)
def parts(request: pytest.FixtureRequest) -> Iterator[StoreParts]:
    """A store with its wake-ups and its keeper, not opened."""
    if request.param == "memory":
        yield stores.memory(SystemClock())
        return
    url = request.getfixturevalue("database_url")
    with ExitStack() as stack:
        settings = Settings(database_url=url, pg_pool_size=5)
        if request.param == "pgbouncer":
            pooled = stack.enter_context(running_pgbouncer(url, "transaction", server_connections=3))
            settings = Settings(database_url=pooled, direct_database_url=url, pg_pool_size=5)
        yield stores.postgres(settings, NoTelemetry())


@pytest.fixture
async def store(parts: StoreParts) -> AsyncIterator[JobStore]:
    await parts.store.open()
    yield parts.store
    await parts.store.close()
