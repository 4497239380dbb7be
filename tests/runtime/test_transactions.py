"""Jobs spawned in the caller's own transaction exist if and when it commits."""

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from callboard import ConfigurationError, JobRegistry, Runtime, Settings, Status, job
from callboard.persistence.engine import driver_conninfo, sqlalchemy_url

WAIT_SECONDS = 20


@pytest.fixture
def greet(registry: JobRegistry):
    @job(registry=registry)
    async def greet(name: str) -> str:
        return f"hello {name}"

    return greet


@pytest.fixture
def url(settings: Settings) -> str:
    return settings.database_url.get_secret_value()


async def test_an_sqlalchemy_session(runtime: Runtime, greet, url: str) -> None:
    engine = create_async_engine(sqlalchemy_url(url))
    async with AsyncSession(engine) as session:
        async with session.begin():
            committed = await runtime.spawn(greet, "Ada", connection=session)
            many = await runtime.spawn_many(greet, [(str(n),) for n in range(100)], connection=session)
            await session.execute(sa.text("create table customers (name text)"))
            assert await runtime.jobs() == []
        async with session.begin() as transaction:
            await runtime.spawn(greet, "nobody", connection=session)
            await transaction.rollback()
    await engine.dispose()

    assert await committed.result(WAIT_SECONDS) == "hello Ada"
    assert await many[99].result(WAIT_SECONDS) == "hello 99"
    assert len(await runtime.jobs(limit=1000)) == 101


async def test_a_psycopg_connection(runtime: Runtime, greet, url: str) -> None:
    async with await psycopg.AsyncConnection.connect(driver_conninfo(url)) as connection:
        rolled_back = await runtime.spawn(greet, "nobody", connection=connection)
        await connection.rollback()
        ref = await runtime.spawn(greet, "Ada", connection=connection)
        await connection.commit()

    assert await ref.result(WAIT_SECONDS) == "hello Ada"
    assert [record.id for record in await runtime.jobs()] == [ref.id]
    assert rolled_back.id != ref.id


async def test_a_blocking_sqlalchemy_connection(runtime: Runtime, greet, url: str) -> None:
    engine = sa.create_engine(sqlalchemy_url(url))
    with engine.begin() as connection:
        ref = await runtime.spawn(greet, "Ada", connection=connection)
    engine.dispose()
    assert await ref.result(WAIT_SECONDS) == "hello Ada"


async def test_something_else_is_refused(runtime: Runtime, greet) -> None:
    with pytest.raises(ConfigurationError, match=r"connection is a .*str; expected SQLAlchemy's AsyncSession"):
        await runtime.spawn(greet, "Ada", connection="postgresql://localhost")
    assert await runtime.jobs() == []


async def test_a_held_job_is_told_to_nobody(runtime: Runtime, greet) -> None:
    ref = await runtime.spawn(greet, "Ada", hold=True)
    assert (await ref.record()).status is Status.CREATED
