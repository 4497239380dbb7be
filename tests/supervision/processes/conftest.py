"""The stage of each test is empty when it is over."""

from collections.abc import AsyncIterator

import pytest

from callboard.actors.loop_dispatcher import LoopDispatcher
from callboard.actors.system import ActorSystem

from .stage import FOREVER, Stage, until


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage(ActorSystem("processes", loop_dispatcher=LoopDispatcher.attach(), ask_timeout_seconds=FOREVER))
    yield stage
    if stage.spare is not None:
        stage.spare.begin_end()
        stage.spare.kill("the test is over")
    for place in stage.places:
        place.begin_end()
        for process in place.processes:
            process.kill("the test is over")
    await stage.system.aclose(grace_seconds=5)
    await until(lambda: not any(place.processes for place in stage.places))
    await until(lambda: stage.spare is None or stage.spare.process is None)
