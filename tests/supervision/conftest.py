from collections.abc import AsyncIterator

import pytest

from callboard.actors.loop_dispatcher import LoopDispatcher
from callboard.actors.system import ActorSystem
from tests.supervision.theatre import TimerClock, Troupe


@pytest.fixture
async def troupe() -> AsyncIterator[Troupe]:
    clock = TimerClock()
    system = ActorSystem("theatre", loop_dispatcher=LoopDispatcher.attach(), clock=clock)
    yield Troupe(system, clock)
    await system.aclose(grace_seconds=1)
