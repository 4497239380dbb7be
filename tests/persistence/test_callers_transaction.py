"""Jobs in a caller's own transaction, by every kind of connection: they exist, and are told, if and when it commits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from callboard.actors.jobs.types import JobFilter
from callboard.persistence.engine import sqlalchemy_url
from callboard.persistence.postgres_store import PostgresStore
from tests.contract.support import new_job

Callers = (
    AsyncSession | AsyncConnection | Session | sa.Connection | psycopg.AsyncConnection[Any] | psycopg.Connection[Any]
)


@asynccontextmanager
async def async_session(url: str) -> AsyncIterator[AsyncSession]:
    engine = create_async_engine(sqlalchemy_url(url))
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


@asynccontextmanager
async def async_connection(url: str) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(sqlalchemy_url(url))
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


@asynccontextmanager
async def session(url: str) -> AsyncIterator[Session]:
    engine = sa.create_engine(sqlalchemy_url(url))
    with Session(engine) as session:
        yield session
    engine.dispose()


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[sa.Connection]:
    engine = sa.create_engine(sqlalchemy_url(url))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@asynccontextmanager
async def psycopg_async(url: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        yield connection


@asynccontextmanager
async def psycopg_blocking(url: str) -> AsyncIterator[psycopg.Connection[Any]]:
    with psycopg.connect(url) as connection:
        yield connection


KINDS = [async_session, async_connection, session, connection, psycopg_async, psycopg_blocking]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
async def caller(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Callers]:
    """A connection of the caller's; a transaction begins with its first statement."""
    async with request.param(database_url) as opened:
        yield opened


@pytest.fixture
async def listener(database_url: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute("LISTEN callboard_wake")
        yield connection


async def call(method: Callable[[], object]) -> None:
    """Commit or roll back, whether that is to be awaited or not."""
    answer = method()
    if isinstance(answer, Awaitable):
        await answer


@asynccontextmanager
async def savepoint(caller: Callers) -> AsyncIterator[None]:
    nested: Any = caller.transaction() if isinstance(caller, psycopg.AsyncConnection | psycopg.Connection) else None
    nested = nested or caller.begin_nested()  # type: ignore[union-attr]
    if hasattr(nested, "__aenter__"):
        async with nested:
            yield
    else:
        with nested:
            yield


class ChangedMind(Exception):
    """The caller's own reason to roll back."""


async def payloads(listener: psycopg.AsyncConnection[Any]) -> list[str]:
    """What has been notified until now: a notification of our own comes after it."""
    await listener.execute("SELECT pg_notify('callboard_wake', 'end')")
    found: list[str] = []
    async for notification in listener.notifies(timeout=10):
        if notification.payload == "end":
            break
        found.append(notification.payload)
    return found


async def stored(store: PostgresStore) -> set[Any]:
    return {job.id for job in await store.list_jobs(JobFilter(), limit=1000)}


@pytest.mark.parametrize("count", [1, 100])
async def test_a_commit_makes_them_exist_and_known(
    store: PostgresStore, caller: Callers, listener: psycopg.AsyncConnection[Any], count: int
) -> None:
    jobs = [new_job() for _ in range(count)]
    answers = await store.spawn(jobs, actor="client:test", connection=caller)
    assert all(answer.created for answer in answers)
    assert await stored(store) == set()
    assert await payloads(listener) == []
    await call(caller.commit)
    assert await stored(store) == {job.id for job in jobs}
    assert await payloads(listener) == ["runnable:default"]


async def test_rolled_back_they_never_existed(
    store: PostgresStore, caller: Callers, listener: psycopg.AsyncConnection[Any]
) -> None:
    job = new_job(unique_key="once")
    await store.spawn([job], actor="client:test", connection=caller)
    await call(caller.rollback)
    assert await stored(store) == set()
    assert await store.history(job.id) == []
    assert await payloads(listener) == []
    [answer] = await store.spawn([new_job(unique_key="once")], actor="client:test")
    assert answer.created


async def test_a_savepoint_takes_back_what_is_within(
    store: PostgresStore, caller: Callers, listener: psycopg.AsyncConnection[Any]
) -> None:
    before, within, kept, after = new_job(queue="a"), new_job(queue="b"), new_job(queue="c"), new_job(queue="d")
    await store.spawn([before], actor="client:test", connection=caller)
    with suppress(ChangedMind):
        async with savepoint(caller):
            await store.spawn([within], actor="client:test", connection=caller)
            raise ChangedMind
    async with savepoint(caller):
        await store.spawn([kept], actor="client:test", connection=caller)
    await store.spawn([after], actor="client:test", connection=caller)
    assert await stored(store) == set()
    assert await payloads(listener) == []
    await call(caller.commit)
    assert await stored(store) == {before.id, kept.id, after.id}
    assert await store.history(within.id) == []
    assert await payloads(listener) == ["runnable:a", "runnable:c", "runnable:d"]
