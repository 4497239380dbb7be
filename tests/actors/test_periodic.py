import asyncio

import pytest

from callboard.actors.periodic import Periodic, Tick
from callboard.actors.ref import EventRef
from callboard.actors.system import ActorSystem
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.supervisor import Supervisor
from callboard.tree import RESTART_BACKOFF
from tests.actors.stores import unavailable
from tests.supervision.theatre import TimerClock
from tests.support.waiting import settle


class Chore:
    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = False
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> None:
        self.calls += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.failures:
            raise self.failures.pop(0)


@pytest.fixture
def chore() -> Chore:
    return Chore()


def spawn(system: ActorSystem, chore: Chore, **options: float) -> EventRef[Periodic]:
    return system.spawn(Periodic, chore, interval_seconds=10, **options)


async def test_it_acts_at_its_start_and_a_pause_after_each_end(
    timed_system: ActorSystem, timer_clock: TimerClock, chore: Chore
) -> None:
    spawn(timed_system, chore)
    for calls in (1, 2, 3):
        await settle()
        assert chore.calls == calls
        timer_clock.advance(9.9)
        await settle()
        assert chore.calls == calls
        timer_clock.advance(0.1)


async def test_jitter_only_shortens_the_pause(timed_system: ActorSystem, timer_clock: TimerClock, chore: Chore) -> None:
    spawn(timed_system, chore, jitter=0.5)
    for _ in range(20):
        await settle()
        (delay,) = timer_clock.delays()
        assert 5 <= delay <= 10
        timer_clock.advance(delay + 0.001)


async def test_a_tick_acts_at_once_and_is_not_forgotten_while_it_acts(timed_system: ActorSystem, chore: Chore) -> None:
    periodic = spawn(timed_system, chore)
    await settle()
    chore.gate.clear()
    for _ in range(3):
        periodic.send(Tick())
    await settle()
    assert chore.calls == 2
    chore.gate.set()
    await settle()
    assert chore.calls == 3


async def test_an_unreachable_database_does_not_make_it_wait_for_its_next_turn(
    timed_system: ActorSystem, timer_clock: TimerClock, chore: Chore
) -> None:
    chore.failures = [unavailable(), unavailable()]
    spec = ChildSpec("chore", Periodic, (chore,), {"interval_seconds": 3600})
    timed_system.spawn(Supervisor, [spec], intensity=0, backoff=RESTART_BACKOFF)
    for _ in range(3):
        await settle()
        timer_clock.advance(5)
    await settle()
    assert chore.calls == 3


async def test_another_error_crashes_it(timed_system: ActorSystem, chore: Chore) -> None:
    chore.failures = [ValueError("a defect")]
    ended = await spawn(timed_system, chore).termination()
    assert isinstance(ended.exception, ValueError)


async def test_its_end_ends_what_it_does(timed_system: ActorSystem, chore: Chore) -> None:
    chore.gate.clear()
    periodic = spawn(timed_system, chore)
    await settle()
    periodic.shutdown()
    await periodic.termination()
    await settle()
    assert chore.cancelled
