import asyncio
from collections.abc import Callable

import pytest

from callboard.actors.listener import Listener
from callboard.actors.system import ActorSystem
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.supervisor import Supervisor
from callboard.tree import RESTART_BACKOFF
from tests.actors.stores import unavailable
from tests.supervision.theatre import TimerClock
from tests.support.waiting import settle


class WakeUps:
    """A connection that listens until the test breaks it."""

    def __init__(self) -> None:
        self.connections = 0
        self.listening = False
        self.on_hint: Callable[[str, str], None]
        self.broken: asyncio.Future[None]

    async def run(self, on_hint: Callable[[str, str], None]) -> None:
        self.connections += 1
        self.listening, self.on_hint = True, on_hint
        on_hint("listening", "")
        self.broken = asyncio.get_running_loop().create_future()
        try:
            await self.broken
        finally:
            self.listening = False


@pytest.fixture
def hints() -> list[tuple[str, str]]:
    return []


async def test_hints_are_passed_on_and_a_gap_is_told(
    timed_system: ActorSystem, timer_clock: TimerClock, hints: list[tuple[str, str]]
) -> None:
    wake_ups = WakeUps()
    listener = ChildSpec("listener", Listener, (wake_ups, lambda topic, detail: hints.append((topic, detail))))
    timed_system.spawn(Supervisor, [listener], intensity=0, backoff=RESTART_BACKOFF)
    await settle()
    wake_ups.on_hint("runnable", "default")
    for connections in (2, 3):
        wake_ups.broken.set_exception(unavailable())
        await settle()
        assert not wake_ups.listening
        timer_clock.advance(5)
        await settle()
        assert wake_ups.connections == connections
    wake_ups.on_hint("ended", "")
    wake_ups.on_hint("ended", "")
    heard = ("listening", "")
    assert hints == [heard, ("runnable", "default"), heard, heard, ("ended", ""), ("ended", "")]


@pytest.mark.parametrize("defect", [ValueError("a defect"), None])
async def test_another_end_crashes_it(timed_system: ActorSystem, defect: Exception | None) -> None:
    wake_ups = WakeUps()
    listener = timed_system.spawn(Listener, wake_ups, lambda *_: None)
    await settle()
    if defect is None:
        wake_ups.broken.set_result(None)
    else:
        wake_ups.broken.set_exception(defect)
    ended = await listener.termination()
    assert isinstance(ended.exception, ValueError if defect else RuntimeError)


async def test_its_end_ends_the_listening(timed_system: ActorSystem) -> None:
    wake_ups = WakeUps()
    listener = timed_system.spawn(Listener, wake_ups, lambda *_: None)
    await settle()
    listener.shutdown()
    await listener.termination()
    await settle()
    assert not wake_ups.listening
