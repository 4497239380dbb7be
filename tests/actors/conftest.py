from collections.abc import AsyncIterator, Iterator

import pytest

from callboard.actors.loop_dispatcher import LoopDispatcher
from callboard.actors.pool_dispatcher import PoolDispatcher
from callboard.actors.system import ActorSystem
from tests.supervision.theatre import TimerClock


@pytest.fixture
async def system() -> AsyncIterator[ActorSystem]:
    """A system on the test's own event loop."""
    system = ActorSystem("test", loop_dispatcher=LoopDispatcher.attach(), ask_timeout_seconds=10)
    yield system
    await system.aclose(grace_seconds=2)


@pytest.fixture
def threaded_system() -> Iterator[ActorSystem]:
    """A system with threads of its own: one for its loop, and four for its pool."""
    pool = PoolDispatcher(max_threads=4, max_stand_ins=8)
    system = ActorSystem("threaded", pool_dispatcher=pool, ask_timeout_seconds=10)
    yield system
    system.close(grace_seconds=2)
    pool.close()


@pytest.fixture
def timer_clock() -> TimerClock:
    return TimerClock()


@pytest.fixture
async def timed_system(timer_clock: TimerClock) -> AsyncIterator[ActorSystem]:
    """A system on the test's own event loop, whose timers follow ``timer_clock``."""
    system = ActorSystem("timed", loop_dispatcher=LoopDispatcher.attach(), clock=timer_clock)
    yield system
    await system.aclose(grace_seconds=2)
