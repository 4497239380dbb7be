"""One leads, in a term of its own; in memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from callboard.actors.errors import StaleTerm, StoreUnavailable
from callboard.actors.jobs.retention import Pruned, Retention
from callboard.actors.leadership import Standing
from callboard.actors.ports import LeaderLock, LeaderSession
from callboard.persistence.stores import StoreParts

OpenSession = Callable[[], Awaitable[LeaderSession]]
RETENTION = Retention(completed_seconds=1.0)


@pytest.fixture
def lock(parts: StoreParts) -> LeaderLock:
    return parts.leader_lock


@pytest.fixture
async def open_session(lock: LeaderLock) -> AsyncIterator[OpenSession]:
    opened: list[LeaderSession] = []

    async def open_one() -> LeaderSession:
        opened.append(await lock.open(answer_limit_seconds=10.0))
        return opened[-1]

    yield open_one
    for session in opened:
        await session.close()


async def campaign(session: LeaderSession, node: str = "alice") -> Standing:
    return await session.campaign(node, silence_limit_seconds=9.0)


async def test_the_first_leads_and_the_second_is_told_who(open_session: OpenSession) -> None:
    alice, bob = await open_session(), await open_session()
    won = await campaign(alice)
    assert (won.won, won.term, won.holder) == (True, 1, "alice")
    lost = await campaign(bob, "bob")
    assert (lost.won, lost.term, lost.holder, lost.silent_too_long) == (False, 1, "alice", False)
    assert lost.silent_seconds is not None
    assert 0 <= lost.silent_seconds < 9


async def test_l8_of_many_at_once_exactly_one_wins_whatever_the_store_is(open_session: OpenSession) -> None:
    sessions = [await open_session() for _ in range(8)]
    standings = await asyncio.gather(*(campaign(session, f"node-{n}") for n, session in enumerate(sessions)))
    [winner] = [number for number, standing in enumerate(standings) if standing.won]
    assert standings[winner].term == 1
    # The others may have asked before its term was committed; the next answer has it.
    losers = [session for number, session in enumerate(sessions) if number != winner]
    lost = await asyncio.gather(*(campaign(session) for session in losers))
    assert {(standing.won, standing.term, standing.holder) for standing in lost} == {(False, 1, f"node-{winner}")}


@pytest.mark.parametrize("end", ["resign", "close"])
async def test_who_waits_gets_the_lock_and_the_next_term(open_session: OpenSession, end: str) -> None:
    alice, bob = await open_session(), await open_session()
    await campaign(alice)
    waiting = asyncio.ensure_future(campaign(bob, "bob"))
    await asyncio.sleep(0)
    await (alice.resign(1) if end == "resign" else alice.close())
    standing = await waiting
    if not standing.won:  # its wait was over a moment too early
        standing = await campaign(bob, "bob")
    assert (standing.won, standing.term, standing.holder) == (True, 2, "bob")


async def test_l7_who_has_led_can_lead_again(open_session: OpenSession) -> None:
    alice = await open_session()
    for term in (1, 2, 3):
        assert (await campaign(alice)).term == term
        await alice.resign(term)


async def test_a_leader_proves_itself_and_nobody_else_does(open_session: OpenSession) -> None:
    alice, bob = await open_session(), await open_session()
    await campaign(alice)
    assert await alice.prove(1) is False
    for session, term in ((bob, 1), (alice, 2), (alice, 0)):
        with pytest.raises(StaleTerm, match=f"term {term} is over"):
            await session.prove(term)
    assert await alice.prove(1) is False


async def test_nobody_can_resign_for_another(open_session: OpenSession, lock: LeaderLock) -> None:
    alice, bob = await open_session(), await open_session()
    await campaign(alice)
    with pytest.raises(StaleTerm):
        await bob.resign(1)
    assert (await lock.read()).holder == "alice"
    assert await alice.prove(1) is False


async def test_a_leader_that_shows_signs_of_life_is_not_deposed(open_session: OpenSession) -> None:
    alice, bob = await open_session(), await open_session()
    await campaign(alice)
    assert await bob.depose(1) == "unneeded"
    assert await alice.prove(1) is False


async def test_a_leader_is_asked_to_step_down_once(open_session: OpenSession, lock: LeaderLock) -> None:
    alice = await open_session()
    assert await lock.ask_to_step_down() is None
    await campaign(alice)
    assert await lock.ask_to_step_down() == 1
    assert await alice.prove(1) is True
    await alice.resign(1)
    assert await lock.ask_to_step_down() is None
    await campaign(alice)
    assert await alice.prove(2) is False


async def test_the_record_tells_who_leads(open_session: OpenSession, lock: LeaderLock) -> None:
    empty = await lock.read()
    assert (empty.term, empty.holder, empty.lock_held, empty.silent_seconds) == (0, None, False, None)
    alice = await open_session()
    await campaign(alice)
    record = await lock.read()
    assert (record.term, record.holder, record.lock_held, record.silence_limit_seconds) == (1, "alice", True, 9.0)
    assert record.acquired_at is not None
    assert record.heartbeat_at is not None
    await alice.resign(1)
    after = await lock.read()
    assert (after.term, after.holder, after.lock_held, after.acquired_at) == (1, None, False, None)


async def test_a_closed_session_is_of_no_use(open_session: OpenSession) -> None:
    alice = await open_session()
    await alice.close()
    await alice.close()
    with pytest.raises(StoreUnavailable):
        await campaign(alice)


async def test_promise_5_a_write_needs_the_current_term(open_session: OpenSession, parts: StoreParts) -> None:
    await parts.store.open()
    alice, bob = await open_session(), await open_session()
    await campaign(alice)
    assert await parts.store.prune(RETENTION, term=1) == Pruned()
    await alice.close()
    while not (await campaign(bob, "bob")).won:
        pass
    with pytest.raises(StaleTerm, match="term 1 is over"):
        await parts.store.prune(RETENTION, term=1)
    assert await parts.store.prune(RETENTION, term=2) == Pruned()
    await parts.store.close()
