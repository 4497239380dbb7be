"""The store under test, twice: in memory and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from callboard.actors.clock import SystemClock
from callboard.actors.ports import JobStore, NoTelemetry
from callboard.actors.settings import Settings
from callboard.persistence import stores
from callboard.persistence.stores import StoreParts


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def parts(request: pytest.FixtureRequest) -> StoreParts:
    """A store with its wake-ups and its keeper, not opened."""
    if request.param == "memory":
        return stores.memory(SystemClock())
    settings = Settings(database_url=request.getfixturevalue("database_url"), pg_pool_size=5)
    return stores.postgres(settings, NoTelemetry())


@pytest.fixture
async def store(parts: StoreParts) -> AsyncIterator[JobStore]:
    await parts.store.open()
    yield parts.store
    await parts.store.close()
