"""The leader's lock against PostgreSQL: what several sessions, servers, roles and poolers do to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url

from callboard.actors.errors import ConfigurationError, StaleTerm, StoreUnavailable
from callboard.actors.leadership import Deposition, Standing
from callboard.actors.patience import WAIT_SECONDS
from callboard.actors.settings import Settings
from callboard.persistence.embedded import EmbeddedServer
from callboard.persistence.engine import driver_conninfo
from callboard.persistence.fence import require_term
from callboard.persistence.leader_lock import PostgresLeaderLock, PostgresLeaderSession
from callboard.persistence.migrate import migrate
from tests.support.database_copies import DatabaseCopies
from tests.support.network import Network, Proxy
from tests.support.pgbouncer import running_pgbouncer
from tests.support.postgres import SETTINGS

SILENCE_LIMIT_SECONDS = 0.3
SHORT_ANSWER_SECONDS = 1.0

OpenSession = Callable[..., Awaitable[PostgresLeaderSession]]


@pytest.fixture
async def open_session(database_url: str) -> AsyncIterator[OpenSession]:
    opened: list[PostgresLeaderSession] = []

    async def open_one(url: str = database_url, schema: str = "callboard") -> PostgresLeaderSession:
        lock = PostgresLeaderLock(Settings(database_url=url, database_schema=schema))
        opened.append(await lock.open(answer_limit_seconds=SHORT_ANSWER_SECONDS))
        return opened[-1]

    yield open_one
    for session in opened:
        await session.close()


@pytest.fixture
async def admin(database_url: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(driver_conninfo(database_url), autocommit=True) as connection:
        yield connection


async def campaign(session: PostgresLeaderSession, node: str = "alice") -> Standing:
    return await session.campaign(node, silence_limit_seconds=SILENCE_LIMIT_SECONDS)


async def win(session: PostgresLeaderSession, node: str) -> Standing:
    """Campaign until it is won, as a leader actor does."""
    async with asyncio.timeout(30):
        while not (standing := await campaign(session, node)).won:
            pass
        return standing


async def silence(session: PostgresLeaderSession, node: str) -> Standing:
    """Campaign until the leader has been silent for too long."""
    async with asyncio.timeout(30):
        while not (standing := await campaign(session, node)).silent_too_long:
            assert not standing.won
        return standing


async def value(connection: psycopg.AsyncConnection[Any], statement: str) -> Any:
    row = await (await connection.execute(statement.encode())).fetchone()
    return row and row[0]


LOCK_HELD = "SELECT count(*) FROM callboard.leadership_lockers(callboard.leadership_key('leader'))"
PID = "SELECT backend_pid FROM callboard.leadership"


async def test_l1_the_lock_stays_with_the_session_after_its_transaction(
    open_session: OpenSession, admin: psycopg.AsyncConnection[Any]
) -> None:
    alice = await open_session()
    assert (await campaign(alice)).won
    assert await value(admin, LOCK_HELD) == 1
    assert not (await campaign(await open_session(), "bob")).won


async def test_l3_a_leader_whose_session_was_ended_finds_out_at_once_and_its_term_is_over(
    open_session: OpenSession, admin: psycopg.AsyncConnection[Any]
) -> None:
    alice, bob = await open_session(), await open_session()
    await campaign(alice)
    watching = asyncio.ensure_future(alice.watch(60.0))
    await asyncio.sleep(0)
    await admin.execute(f"SELECT pg_terminate_backend(({PID}))")
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(watching, 10)
    assert (await win(bob, "bob")).term == 2
    async with admin.transaction():
        with pytest.raises(StaleTerm):
            await require_term(admin, "callboard", 1)


async def test_l4_the_lock_is_released_on_the_session_that_has_it(
    open_session: OpenSession, admin: psycopg.AsyncConnection[Any]
) -> None:
    alice = await open_session()
    await campaign(alice)
    await alice.resign(1)
    assert await value(admin, LOCK_HELD) == 0
    with pytest.raises(StaleTerm):
        await alice.resign(1)


async def test_l5_two_schemas_of_one_database_have_leaders_of_their_own(
    open_session: OpenSession, database_url: str
) -> None:
    await asyncio.to_thread(migrate, database_url, schema="other")
    alice, bob = await open_session(), await open_session(schema="other")
    assert (await campaign(alice)).won
    assert (await campaign(bob, "bob")).won
    assert await alice.prove(1) is False
    assert await bob.prove(1) is False


@pytest.mark.parametrize("url", ["sqlite:///jobs.db", "mysql://root@127.0.0.1/jobs"])
async def test_l8_where_no_lock_can_be_held_nobody_leads(url: str) -> None:
    with pytest.raises(ConfigurationError, match="Callboard needs PostgreSQL"):
        await PostgresLeaderLock(Settings(database_url=url)).open(answer_limit_seconds=SHORT_ANSWER_SECONDS)


async def test_a_silent_leader_is_deposed_and_refused_when_it_wakes(open_session: OpenSession) -> None:
    sleeper, standby = await open_session(), await open_session()
    await campaign(sleeper, "sleeper")
    standing = await silence(standby, "standby")
    assert await standby.depose(standing.term) is Deposition.ENDED
    assert (await win(standby, "standby")).term == 2
    with pytest.raises(StoreUnavailable):
        await sleeper.prove(1)


async def test_only_the_leader_of_that_term_is_deposed(open_session: OpenSession) -> None:
    first, second = await open_session(), await open_session()
    await campaign(first)
    await first.close()
    await win(second, "second")
    await silence(await open_session(), "third")
    assert await (await open_session()).depose(1) is Deposition.UNNEEDED
    assert await second.prove(2) is False


async def test_a_new_term_ends_what_the_one_before_still_writes(
    open_session: OpenSession, database_url: str, admin: psycopg.AsyncConnection[Any]
) -> None:
    """A leader that stopped amid a transaction holds nobody up, and what it wrote comes to nothing."""
    alice, bob = await open_session(), await open_session()
    await campaign(alice)
    async with await psycopg.AsyncConnection.connect(driver_conninfo(database_url), autocommit=True) as writer:
        await writer.execute("BEGIN")
        await require_term(writer, "callboard", 1)
        await writer.execute(
            "INSERT INTO callboard.queues (name, changed_by) VALUES ('written by a deposed leader', 'alice')"
        )
        await alice.close()
        assert (await win(bob, "bob")).term == 2
        with pytest.raises(psycopg.OperationalError):
            await writer.execute("COMMIT")
    assert await value(admin, "SELECT count(*) FROM callboard.queues") == 0


async def test_a_heartbeat_does_not_wait_for_the_writes_of_its_own_term(
    open_session: OpenSession, admin: psycopg.AsyncConnection[Any]
) -> None:
    alice = await open_session()
    await campaign(alice)
    async with admin.transaction():
        await require_term(admin, "callboard", 1)
        assert await alice.prove(1) is False


async def test_a_role_that_may_not_end_the_leader_says_so_and_waits(
    open_session: OpenSession, database_url: str, admin: psycopg.AsyncConnection[Any]
) -> None:
    role = f"standby_{time.time_ns()}"
    name = sql.Identifier(role)
    await admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(name))
    try:
        for grant in ("USAGE ON SCHEMA callboard", "SELECT, UPDATE ON callboard.leadership"):
            await admin.execute(sql.SQL("GRANT {} TO {}").format(sql.SQL(grant), name))
        url = make_url(database_url).set(username=role, password="secret").render_as_string(hide_password=False)
        leader, standby = await open_session(), await open_session(url)
        await campaign(leader, "leader")
        standing = await silence(standby, "standby")
        assert await standby.depose(standing.term) is Deposition.REFUSED
        assert await leader.prove(1) is False
        # Neither may it end the leader's writes: it waits for them, and has the lock once they are over.
        async with admin.transaction():
            await require_term(admin, "callboard", 1)
            await leader.close()
            assert not (await campaign(standby, "standby")).won
            assert await value(admin, LOCK_HELD) == 0, "a term that cannot begin keeps no lock"
        assert (await win(standby, "standby")).term == 2
        await standby.close()
    finally:
        await admin.execute(sql.SQL("DROP OWNED BY {}").format(name))
        await admin.execute(sql.SQL("DROP ROLE {}").format(name))


async def test_a_term_is_on_the_disk_when_it_begins(
    open_session: OpenSession, admin: psycopg.AsyncConnection[Any], database_copies: DatabaseCopies
) -> None:
    """The session itself does not wait for the disk, so that a slow one deposes nobody."""
    alice = await open_session()
    [(usual,)] = await (await alice._connection.execute("SHOW synchronous_commit")).fetchall()
    assert usual == "off"
    database_copies.rest()  # they flush the log, too
    before = await value(admin, "SELECT pg_current_wal_insert_lsn()")
    await campaign(alice)
    assert await value(admin, f"SELECT pg_current_wal_flush_lsn() > '{before}'")


async def test_a_wait_that_is_cancelled_leaves_no_lock(
    open_session: OpenSession, admin: psycopg.AsyncConnection[Any]
) -> None:
    alice, bob = await open_session(), await open_session()
    await campaign(alice)
    await campaign(bob, "bob")  # without waiting, as it is the session's first
    waiting = asyncio.ensure_future(campaign(bob, "bob"))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await bob.close()
    await alice.close()
    async with asyncio.timeout(10):
        while await value(admin, LOCK_HELD):
            await asyncio.sleep(0.01)


async def test_a_cut_network_is_found_out_within_the_answer_limit(database_url: str, open_session: OpenSession) -> None:
    async with Proxy(database_url) as network:
        alice = await open_session(network.url)
        await campaign(alice)
        network.cut(Network.BLACKHOLE)
        with pytest.raises(StoreUnavailable, match="no answer within 1 s"):
            await alice.prove(1)


async def test_a_standby_gives_a_dead_session_up_soon_and_is_more_patient_with_the_next_one(
    database_url: str, open_session: OpenSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.persistence.leader_lock.WAIT_SECONDS", 0.1)
    monkeypatch.setattr("callboard.persistence.leader_lock.ANSWER_SECONDS", 0.3)
    await campaign(await open_session())
    async with Proxy(database_url) as network:
        lock = PostgresLeaderLock(Settings(database_url=network.url))
        for limit in ("0.4", "0.8"):
            network.heal()
            standby = await lock.open(answer_limit_seconds=4.5)
            network.cut(Network.DEAF)
            with pytest.raises(StoreUnavailable, match=f"no answer within {limit} s"):
                await campaign(standby, "standby")
            await standby.close()
        network.heal()
        standby = await lock.open(answer_limit_seconds=4.5)
        assert not (await campaign(standby, "standby")).won
        network.cut(Network.DEAF)
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.4 s"):
            await campaign(standby, "standby")
        await standby.close()


async def test_a_new_session_asks_how_things_stand_before_it_waits(open_session: OpenSession) -> None:
    alice, bob = await open_session(), await open_session()
    await campaign(alice)
    began = time.monotonic()
    assert (await campaign(bob, "bob")).holder == "alice"
    at_once = time.monotonic() - began
    await campaign(bob, "bob")
    assert at_once < WAIT_SECONDS <= time.monotonic() - began


@pytest.mark.chaos
async def test_terms_go_on_after_a_restart_of_the_server() -> None:
    with EmbeddedServer(settings=SETTINGS) as server:
        url = server.create_database("leaders")
        migrate(url)
        lock = PostgresLeaderLock(Settings(database_url=url))
        alice = await lock.open(answer_limit_seconds=SHORT_ANSWER_SECONDS)
        assert (await campaign(alice)).term == 1
        await asyncio.to_thread(server.restart, "immediate")
        with pytest.raises(StoreUnavailable):
            await alice.prove(1)
        await alice.close()
        bob = await lock.open(answer_limit_seconds=SHORT_ANSWER_SECONDS)
        assert (await win(bob, "bob")).term == 2
        await bob.close()


async def test_l11_a_transaction_mode_pooler_is_refused_with_a_message(database_url: str) -> None:
    with running_pgbouncer(database_url, "transaction") as url:
        lock = PostgresLeaderLock(Settings(database_url=url))
        with pytest.raises(ConfigurationError, match=r"transaction-mode pooler.*CALLBOARD_DIRECT_DATABASE_URL"):
            await lock.open(answer_limit_seconds=SHORT_ANSWER_SECONDS)


async def test_l11_the_direct_url_leads_past_the_pooler(database_url: str) -> None:
    with running_pgbouncer(database_url, "transaction") as url:
        lock = PostgresLeaderLock(Settings(database_url=url, direct_database_url=database_url))
        session = await lock.open(answer_limit_seconds=SHORT_ANSWER_SECONDS)
        assert (await campaign(session)).won
        await session.close()


async def test_a_session_mode_pooler_is_a_session(database_url: str) -> None:
    with running_pgbouncer(database_url, "session") as url:
        lock = PostgresLeaderLock(Settings(database_url=url))
        alice = await lock.open(answer_limit_seconds=SHORT_ANSWER_SECONDS)
        bob = await lock.open(answer_limit_seconds=SHORT_ANSWER_SECONDS)
        assert (await campaign(alice)).won
        assert not (await campaign(bob, "bob")).won
        assert await alice.prove(1) is False
        await alice.close()
        await bob.close()
