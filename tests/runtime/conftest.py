"""A runtime of the test's own, on PostgreSQL, that works."""

from collections.abc import AsyncIterator

import pytest

from callboard import JobRegistry, Runtime, Settings


@pytest.fixture
def registry() -> JobRegistry:
    """Jobs that a test defines stay its own."""
    return JobRegistry()


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Quick to retry and to look, so that no test waits for a default that is made for production."""
    return Settings(
        database_url=database_url,
        queues={"default": 20, "other": 5},
        retry_initial_seconds=0.01,
        retry_max_seconds=0.05,
        poll_interval_seconds=0.1,
        rescue_interval_seconds=0.2,
        lease_seconds=3,
        hang_limit_seconds=2,
        cancel_grace_seconds=0.1,
        drain_timeout_seconds=10,
        pg_pool_size=4,
        event_loop_threadpool_max_workers=4,
    )


@pytest.fixture
async def runtime(settings: Settings, registry: JobRegistry) -> AsyncIterator[Runtime]:
    async with Runtime(settings, registry=registry) as runtime:
        yield runtime
