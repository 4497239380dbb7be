"""The leader actor and its duties, over the lock of the memory store, with a clock that tests move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from callboard.actors.errors import ConfigurationError, NotLeader, StaleTerm, StoreUnavailable
from callboard.actors.leadership import Deposition, Standing
from callboard.actors.messages import Terminated
from callboard.actors.ref import EventRef
from callboard.persistence.memory_leader_lock import MemoryLeaderLock, MemoryLeaderSession
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.duty import duty
from callboard.supervision.leader import MAX_DUTY_RESTARTS, Candidate, Leader
from callboard.supervision.leadership import CurrentLeadership, Leadership
from callboard.supervision.trust_window import TrustWindow
from tests.support.waiting import settle

from .theatre import PATIENCE_SECONDS, Journal, Player, Troupe

WINDOW = TrustWindow(6)


class Session(MemoryLeaderSession):
    """One whose proofs are asked for by the test, and whose answers the test may choose."""

    def __init__(self, lock: Lock) -> None:
        super().__init__(lock)
        self.lock = lock

    async def watch(self, seconds: float) -> None:
        assert seconds == WINDOW.proof_interval_seconds
        await self.lock.proof_due.wait()
        self.lock.proof_due.clear()
        if self.lock.failure is not None:
            raise self.lock.failure

    async def campaign(self, node: str, *, silence_limit_seconds: float) -> Standing:
        assert silence_limit_seconds == WINDOW.silence_limit_seconds
        if self.lock.standings:
            return self.lock.standings.pop(0)
        return await super().campaign(node, silence_limit_seconds=silence_limit_seconds)

    async def depose(self, term: int) -> Deposition:
        self.lock.journal.write(f"depose {term}")
        return self.lock.deposition


class Lock(MemoryLeaderLock):
    """The memory lock, in a test's hands."""

    def __init__(self, clock: Any, journal: Journal) -> None:
        super().__init__(clock)
        self.journal = journal
        self.proof_due = asyncio.Event()
        self.failure: Exception | None = None
        self.refusal: Exception | None = None
        self.standings: list[Standing] = []
        self.deposition = Deposition.ENDED

    async def open(self, *, answer_limit_seconds: float) -> Session:
        assert answer_limit_seconds == WINDOW.answer_limit_seconds
        if self.refusal is not None:
            self.journal.write("refused")
            raise self.refusal
        return Session(self)


class Telemetry:
    """Writes down what it is told."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def election_ended(self, outcome: str) -> None:
        self._journal.write(outcome)

    def leader_changed(self) -> None:
        self._journal.write("changed")

    def term_seen(self, term: int) -> None:
        pass

    def lock_acquired(self, at: datetime) -> None:
        pass

    def lock_proved(self, at: datetime) -> None:
        self._journal.write("proved")

    def lock_lost(self, reason: str) -> None:
        self._journal.write(reason)


class Stage:
    """A candidate, its lock and what happened."""

    def __init__(self, troupe: Troupe) -> None:
        self.troupe = troupe
        self.clock = troupe.clock
        self.journal = Journal()
        self.lock = Lock(troupe.clock, self.journal)
        self.current = CurrentLeadership()

    def enter(self, *duties: Callable[[Leadership], ChildSpec]) -> EventRef[Leader]:
        return self.troupe.system.spawn(
            Leader,
            self.lock,
            Candidate("ada", WINDOW, 480.0),
            duties or (self.player,),
            self.current,
            telemetry=Telemetry(self.journal),
            name="leader",
        )

    def player(self, leadership: Leadership) -> ChildSpec:
        return ChildSpec("player", Player, (f"player {leadership.term}", self.journal))

    async def prove(self) -> None:
        """Let the next proof happen."""
        proofs = self.journal.entries.count("proved")
        self.lock.proof_due.set()
        await self.journal.until("proved", proofs + 1)

    async def ended(self, ref: EventRef[Leader]) -> Terminated:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await ref.termination()

    async def end(self, ref: EventRef[Leader]) -> None:
        ref.shutdown()
        await self.ended(ref)


@pytest.fixture
def stage(troupe: Troupe) -> Stage:
    return Stage(troupe)


async def test_a_term_has_its_duties_and_a_shutdown_ends_them_before_the_lock_is_free(stage: Stage) -> None:
    ref = stage.enter()
    await stage.journal.until("start player 1")
    assert stage.current.leads()
    ref.shutdown()
    assert not (await stage.ended(ref)).abnormal
    assert stage.journal.entries == ["won", "start player 1", "stop player 1", "resigned"]
    assert not stage.current.leads()
    record = await stage.lock.read()
    assert (record.holder, record.lock_held) == (None, False)


async def test_proofs_keep_a_term_alive(stage: Stage) -> None:
    ref = stage.enter()
    await stage.journal.until("start player 1")
    for _ in range(5):
        stage.clock.advance(3)
        await stage.prove()
    assert stage.current.leads()
    await stage.end(ref)


async def test_l3_without_a_proof_in_time_the_term_ends_and_a_new_one_begins(stage: Stage) -> None:
    ref = stage.enter()
    await stage.journal.until("start player 1")
    stage.clock.advance(6)
    assert not stage.current.leads(), "at once, whatever the actor does"
    await stage.journal.until("start player 2")
    assert stage.journal.entries[2:] == ["stop player 1", "expired", "changed", "won", "start player 2"]
    await stage.end(ref)


async def test_the_end_of_the_session_is_the_end_of_the_actor_and_its_duties(stage: Stage) -> None:
    ref = stage.enter()
    await stage.journal.until("start player 1")
    stage.lock.failure = StoreUnavailable("the session has ended")
    stage.lock.proof_due.set()
    ended = await stage.ended(ref)
    assert ended.exception is stage.lock.failure
    assert stage.journal.entries[2:] == ["stop player 1", "connection_lost"]
    assert not stage.current.leads()


async def test_a_deposed_leader_ends(stage: Stage) -> None:
    ref = stage.enter()
    await stage.journal.until("start player 1")
    stage.lock.failure = StaleTerm(1)
    stage.lock.proof_due.set()
    assert (await stage.ended(ref)).reason == "deposed"
    assert "expired" in stage.journal.entries
    assert "stop player 1" in stage.journal.entries


async def test_who_is_asked_to_steps_down_and_stands_back_for_a_while(stage: Stage) -> None:
    ref = stage.enter()
    await stage.journal.until("start player 1")
    await stage.lock.ask_to_step_down()
    await stage.prove()
    await stage.journal.until("resigned")
    await settle()
    assert (await stage.lock.read()).holder is None
    stage.clock.advance(2)
    await stage.journal.until("start player 2")
    await stage.end(ref)


async def test_a_standby_leads_when_the_leader_has_gone(stage: Stage) -> None:
    other = MemoryLeaderSession(stage.lock)
    await other.campaign("bob", silence_limit_seconds=9)
    ref = stage.enter()
    await settle()
    assert not stage.current.leads()
    await other.close()
    await stage.journal.until("start player 2")
    await stage.end(ref)


def silent(term: int) -> Standing:
    return Standing(won=False, term=term, holder="bob", silent_seconds=10.0, silent_too_long=True)


async def test_a_standby_deposes_a_silent_leader(stage: Stage) -> None:
    stage.lock.standings = [silent(4)]
    ref = stage.enter()
    await stage.journal.until("start player 1")
    assert stage.journal.entries[:2] == ["lost", "depose 4"]
    await stage.end(ref)


async def test_a_standby_that_may_not_tries_once_a_term_and_says_so(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.lock.standings = [silent(4), silent(4), silent(4), silent(5)]
    stage.lock.deposition = Deposition.REFUSED
    ref = stage.enter()
    await stage.journal.until("start player 1")
    assert [entry for entry in stage.journal.entries if entry.startswith("depose")] == ["depose 4", "depose 5"]
    assert "grant pg_signal_backend" in caplog.text
    await stage.end(ref)


async def test_l11_a_refused_connection_is_tried_again_after_the_fallback_interval(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.lock.refusal = ConfigurationError("a transaction-mode pooler")
    ref = stage.enter()
    await stage.journal.until("error")
    await settle()
    stage.clock.advance(479)
    await settle()
    assert stage.journal.entries == ["refused", "error"]
    assert "takes no part in elections, next try in 480 s: a transaction-mode pooler" in caplog.text
    stage.lock.refusal = None
    stage.clock.advance(1)
    await stage.journal.until("start player 1")
    await stage.end(ref)


async def test_duties_that_crash_again_and_again_end_the_term(stage: Stage) -> None:
    def crashing(leadership: Leadership) -> ChildSpec:
        def fails() -> bool:
            return stage.journal.entries.count("fail player") > 0

        return ChildSpec("player", Player, ("player", stage.journal), {"fails_to_start": fails})

    ref = stage.enter(crashing)
    await stage.journal.until("start player")
    stage.journal.write("fail player")
    stage.troupe.system.registry.get("player").send("crash")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while "resigned" not in stage.journal.entries:
            await settle()
            stage.clock.advance(1.0)
            stage.lock.proof_due.set()
    assert stage.journal.entries.count("fail player") == MAX_DUTY_RESTARTS + 1
    assert (await stage.lock.read()).holder is None
    await stage.end(ref)


# Periodic duties


async def test_l9_a_duty_ends_what_it_has_begun_before_the_lock_is_given_back(stage: Stage) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    def slow(leadership: Leadership) -> ChildSpec:
        async def act() -> None:
            begun.set()
            await go_on.wait()
            leadership.fence()
            stage.journal.write("acted")

        return duty("slow", act, interval_seconds=60)

    ref = stage.enter(slow)
    await begun.wait()
    ref.shutdown()
    await settle()
    assert (await stage.lock.read()).holder == "ada"
    go_on.set()
    await stage.ended(ref)
    assert stage.journal.entries == ["won", "acted", "resigned"]


async def test_a_duty_that_does_not_end_is_cancelled_after_its_time(stage: Stage) -> None:
    def endless(leadership: Leadership) -> ChildSpec:
        async def act() -> None:
            stage.journal.write("begun")
            try:
                await asyncio.Event().wait()
            finally:
                stage.journal.write("cancelled")

        return duty("endless", act, interval_seconds=60, shutdown_seconds=3)

    ref = stage.enter(endless)
    await stage.journal.until("begun")
    ref.shutdown()
    await settle()
    stage.clock.advance(3)
    await stage.ended(ref)
    assert "cancelled" in stage.journal.entries


async def test_l10_a_turn_that_is_late_is_taken(stage: Stage) -> None:
    """A busy loop, or one that stood still, leaves no turn out."""

    def hourly(leadership: Leadership) -> ChildSpec:
        async def act() -> None:
            stage.journal.write("turn")

        return duty("hourly", act, interval_seconds=5)

    ref = stage.enter(hourly)
    await stage.journal.until("turn")
    await settle()
    stage.clock.advance(5.9)
    await stage.journal.until("turn", 2)
    await stage.end(ref)


async def test_a_duty_that_leads_no_more_stays_down_and_hurts_nobody(stage: Stage) -> None:
    def late(leadership: Leadership) -> ChildSpec:
        async def act() -> None:
            stage.journal.write("turn")
            raise NotLeader("somebody else does")

        return duty("late", act, interval_seconds=1)

    ref = stage.enter(late, stage.player)
    await stage.journal.until("turn")
    await stage.journal.until("start player 1")
    await settle()
    stage.clock.advance(2)
    await stage.prove()
    assert stage.journal.entries.count("turn") == 1
    assert stage.troupe.system.registry.get("late") is None
    assert stage.current.leads()
    await stage.end(ref)
