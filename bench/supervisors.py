"""Supervisors with few, more and many children in one run: the rates must not fall with their number (rule K1)."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from callboard.actors.actor import EventActor
from callboard.actors.loop_dispatcher import LoopDispatcher
from callboard.actors.ref import EventRef
from callboard.actors.system import ActorSystem
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.dynamic_supervisor import DynamicSupervisor
from callboard.supervision.supervisor import Supervisor
from callboard.supervision.supervisor_messages import CountChildren, GetChildSpec, StartDynamicChild, TerminateChild

LOOK_UPS: Final = 500
"""So many children are looked at, or ended one by one, at each size."""

STARTS_TIMEOUT_SECONDS: Final = 600

Measure = Callable[[ActorSystem, int], Coroutine[Any, Any, dict[str, float]]]


class Idle(EventActor):
    """A child that only lives."""


def sizes(largest: int) -> tuple[int, ...]:
    """Return the numbers of children to compare: a hundredth, a tenth and all, of 1,000 at least."""
    return tuple(max(largest, 1000) // divisor for divisor in (100, 10, 1))


def run(largest: int) -> dict[int, dict[str, float]]:
    """Return rates per second with each number of children, a hundredth of ``largest`` first."""
    _measure(_static, sizes(largest)[0])  # warms up
    return {
        size: {
            f"{kind}_{name}": rate
            for kind, measure in (("static", _static), ("dynamic", _dynamic))
            for name, rate in _measure(measure, size).items()
        }
        for size in sizes(largest)
    }


def linearity(rates: dict[int, dict[str, float]]) -> dict[str, float]:
    """Return each rate at the largest number divided by the one at the smallest: 1 is linear, 0.01 quadratic."""
    smallest, largest = rates[min(rates)], rates[max(rates)]
    return {
        f"{name.removesuffix('_per_second')}_largest_to_smallest": largest[name] / rate
        for name, rate in smallest.items()
    }


def _measure(measure: Measure, size: int) -> dict[str, float]:
    async def measured() -> dict[str, float]:
        system = ActorSystem(loop_dispatcher=LoopDispatcher.attach(), ask_timeout_seconds=STARTS_TIMEOUT_SECONDS)
        gc.collect()
        figures = await measure(system, size)
        await system.aclose()
        return figures

    return asyncio.run(measured())


async def _static(system: ActorSystem, size: int) -> dict[str, float]:
    specs = [ChildSpec(f"child {number}", Idle) for number in range(size)]
    begin = time.perf_counter()
    supervisor = system.spawn(Supervisor, specs)
    await supervisor.ask(CountChildren(), block=False)
    start = size / (time.perf_counter() - begin)
    begin = time.perf_counter()
    for number in range(LOOK_UPS):
        await supervisor.ask(GetChildSpec(f"child {number * size // LOOK_UPS}"), block=False)
    look_up = LOOK_UPS / (time.perf_counter() - begin)
    return {"start_per_second": start, "look_up_per_second": look_up, "stop_per_second": await _stop(supervisor, size)}


async def _dynamic(system: ActorSystem, size: int) -> dict[str, float]:
    # Without a limit: they have one for all, and a slow machine would measure kills instead of stops.
    spec = ChildSpec("child", Idle, restart="temporary", shutdown_seconds="infinity")
    supervisor = system.spawn(DynamicSupervisor, spec)
    begin = time.perf_counter()
    refs = [(await supervisor.ask(StartDynamicChild(), block=False)).ref for _ in range(size)]
    start = size / (time.perf_counter() - begin)
    ended = refs[:: max(2, size // LOOK_UPS)]
    begin = time.perf_counter()
    for ref in ended:
        await supervisor.ask(TerminateChild(ref), block=False)
    terminate = len(ended) / (time.perf_counter() - begin)
    del refs
    stop = await _stop(supervisor, size - len(ended))
    return {"start_per_second": start, "terminate_per_second": terminate, "stop_per_second": stop}


async def _stop(supervisor: EventRef[Any], children: int) -> float:
    begin = time.perf_counter()
    end = supervisor.termination()
    supervisor.shutdown()
    await end
    return children / (time.perf_counter() - begin)
