"""A beat wakes who waits, not who comes later."""

import asyncio

from callboard.actors.pulse import Pulse


async def test_a_beat_wakes_everybody_who_waits() -> None:
    pulse = Pulse()
    waits = [asyncio.create_task(pulse.wait(60)) for _ in range(3)]
    await asyncio.sleep(0)
    pulse.beat()
    assert await asyncio.gather(*waits) == [True, True, True]


async def test_a_beat_before_the_wait_does_not_count() -> None:
    pulse = Pulse()
    pulse.beat()
    assert not await pulse.wait(0)


async def test_each_wait_needs_a_beat_of_its_own() -> None:
    pulse = Pulse()
    first = asyncio.create_task(pulse.wait(60))
    await asyncio.sleep(0)
    pulse.beat()
    assert await first
    assert not await pulse.wait(0)


async def test_a_wait_can_be_cancelled() -> None:
    pulse = Pulse()
    first, second = (asyncio.create_task(pulse.wait(60)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    pulse.beat()
    assert await second
    await asyncio.wait([first])
    assert first.cancelled()
