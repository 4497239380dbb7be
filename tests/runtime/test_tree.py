"""The runtime's tree: what stands in it, and who is disturbed by whose end."""

import asyncio
from typing import Any

import pytest

from callboard import Runtime, Settings
from callboard.supervision.supervisor_messages import WhichChildren
from callboard.tree import MAX_RESTARTS, MAX_RESTARTS_OF_WORK, RESTART_BACKOFF, RESTART_PERIOD_SECONDS

WAIT_SECONDS = 30
EVERYBODY = [
    *("heart", "result_watcher", "writer", "progress", "rescuer", "housekeeper"),
    *("work", "store_check", "listener", "leader"),
]


async def refs(runtime: Runtime) -> dict[str, Any]:
    """Return the incarnation of each child, in starting order."""
    children = {}
    for supervisor in ("root", "work"):
        ref = runtime._system.registry.get(supervisor)
        if ref is not None:
            answer = await ref.ask(WhichChildren(), block=False)
            children |= {child.id: child.ref for child in reversed(answer)}
    return children


async def test_what_stands_in_it(runtime: Runtime) -> None:
    assert list(await refs(runtime)) == [*EVERYBODY, "jobs", "claimer"]


async def test_a_client_has_no_part_that_works(settings: Settings) -> None:
    async with Runtime(settings, work=False) as client:
        assert list(await refs(client)) == ["heart", "result_watcher", "listener"]


@pytest.mark.parametrize("victim", [*EVERYBODY, "jobs", "claimer"])
async def test_who_is_restarted_with_whom(runtime: Runtime, victim: str) -> None:
    before = await refs(runtime)
    before[victim].kill()
    expected = {"jobs": {"jobs", "claimer"}, "work": {"work", "jobs", "claimer"}}.get(victim, {victim})
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            after = await refs(runtime)
            if after.keys() == before.keys() and None not in after.values() and after[victim] is not before[victim]:
                break
            await asyncio.sleep(0.01)
    assert {name for name in before if after[name] is not before[name]} == expected


def test_a_claimer_that_always_crashes_ends_the_process_within_the_period() -> None:
    longest = sum(RESTART_BACKOFF.delay_bounds(attempt)[1] for attempt in range(1, MAX_RESTARTS_OF_WORK + 1))
    of_work = sum(RESTART_BACKOFF.delay_bounds(attempt)[1] for attempt in range(1, MAX_RESTARTS + 1))
    assert (MAX_RESTARTS + 1) * longest + of_work < RESTART_PERIOD_SECONDS
