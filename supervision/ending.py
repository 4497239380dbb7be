"""How a supervisor ends a child: ask, wait, kill, and give up what cannot be killed (rules G2 to G7)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

from callboard.actors.future import EventFuture
from callboard.actors.messages import KILLED, NORMAL, SHUTDOWN, Terminated
from callboard.actors.ref import EventRef
from callboard.actors.system import ActorSystem

from .child_spec import ChildSpec

_logger = logging.getLogger(__name__)

KILL_AGAIN_SECONDS: Final = 1.0
KILLS: Final = 3
"""A coroutine may swallow its cancellation. After so many it is abandoned: it goes on, but its actor has ended."""


async def end_child(system: ActorSystem, ref: EventRef[Any], spec: ChildSpec) -> None:
    """End a child as its specification says; return once it is dead."""
    await end_children(system, [ref], spec)


async def end_children(system: ActorSystem, refs: Sequence[EventRef[Any]], spec: ChildSpec) -> None:
    """End children of one specification beside each other, with one time limit for all (G7)."""
    alive = {ref: ref.termination() for ref in refs}
    if spec.shutdown_seconds != "brutal_kill":
        for ref in alive:
            ref.shutdown()
        limit = None if isinstance(spec.shutdown_seconds, str) else spec.shutdown_seconds
        if await _ended_within(system, list(alive.values()), limit):
            _report_all(alive.values(), spec)
            return
    await _kill(system, [ref for ref, end in alive.items() if not end.is_done], spec)
    await _ended_within(system, list(alive.values()), None)
    _report_all(alive.values(), spec)


async def _kill(system: ActorSystem, refs: Sequence[EventRef[Any]], spec: ChildSpec) -> None:
    if spec.shutdown_seconds != "brutal_kill" and refs:
        _logger.warning("child %r: %d did not stop within %s s: killed", spec.id, len(refs), spec.shutdown_seconds)
    ends = [ref.termination() for ref in refs]
    for time in range(1, KILLS + 1):
        for ref in refs:
            kill_or_abandon(ref, time)
        if await _ended_within(system, ends, KILL_AGAIN_SECONDS):
            return
        _logger.warning("child %r was killed and does not end", spec.id)
    for ref in refs:
        kill_or_abandon(ref, KILLS + 1)


def kill_or_abandon(ref: EventRef[Any], time: int) -> None:
    """Kill an actor for the first, second, ... time; one that has survived ``KILLS`` is abandoned."""
    if time > KILLS:
        ref.abandon()
    else:
        ref.kill()


async def _ended_within(system: ActorSystem, ends: Sequence[Any], seconds: float | None) -> bool:
    """Wait for the ends of actors; False if the time, by the system's clock, is over first."""
    if seconds is None:
        await _all_ended(ends)
        return True
    waiting = asyncio.ensure_future(_all_ended(ends))
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    timer = system.schedule(seconds, lambda: loop.call_soon_threadsafe(_set, over))
    try:
        await asyncio.wait((waiting, over), return_when=asyncio.FIRST_COMPLETED)
        return waiting.done()
    finally:
        timer.cancel()
        waiting.cancel()


async def _all_ended(ends: Sequence[Any]) -> None:
    for end in ends:
        await end


def _set(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


def _report_all(ends: Iterable[EventFuture[Terminated]], spec: ChildSpec) -> None:
    """Log the ends for other reasons than were asked for, one line a reason (G5 and G7)."""
    unexpected: dict[str, list[Terminated]] = {}
    for future in ends:
        end: Terminated = future.get(timeout=0)
        if not _is_expected(end, spec):
            unexpected.setdefault(end.reason, []).append(end)
    for reason, alike in unexpected.items():
        level = logging.INFO if reason in (NORMAL, SHUTDOWN) else logging.WARNING
        _logger.log(
            level, "child %r: %d ended by %s (%r) when told to stop", spec.id, len(alike), reason, alike[0].exception
        )


def _is_expected(end: Terminated, spec: ChildSpec) -> bool:
    expected = KILLED if spec.shutdown_seconds == "brutal_kill" else SHUTDOWN
    return end.reason == expected or (spec.restart != "permanent" and not end.abnormal)
