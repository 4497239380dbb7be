"""What a schedule does when its time has come, or has come long ago."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

from .recurrence import Recurrence, latest_ticks


class Misfire(StrEnum):
    """What becomes of ticks that nobody took in time: because no leader was there, or no database."""

    SKIP = "skip"
    """Nothing: only a tick that is at most ``misfire_grace_seconds`` late spawns a job."""
    ONCE = "once"
    """The latest of them spawns a job, for all of them."""
    ALL = "all"
    """Each of them spawns one, the latest ``max_catch_up`` of them at most."""


class Firing(NamedTuple):
    """What is to happen now, in one transaction."""

    ticks: tuple[datetime, ...]
    """Those that spawn a job each, oldest first."""
    next_tick: datetime | None
    """The first one after now; None: there is none any more."""


def fire(
    recurrence: Recurrence,
    next_tick: datetime,
    now: datetime,
    *,
    misfire: Misfire,
    misfire_grace_seconds: float,
    max_catch_up: int,
) -> Firing:
    """Return which ticks spawn jobs, and when the schedule goes on.

    Args:
        recurrence: when it ticks.
        next_tick: the first tick that was not looked at yet.
        now: the time.
        misfire: what to do with ticks that are over.
        misfire_grace_seconds: how late a tick may be and still count as taken in time.
        max_catch_up: most jobs for ticks that are over.
    """
    if next_tick > now:
        return Firing((), next_tick)
    due = latest_ticks(recurrence, next_tick, now, max_catch_up if misfire is Misfire.ALL else 1)
    if misfire is Misfire.SKIP:
        due = [tick for tick in due if (now - tick).total_seconds() <= misfire_grace_seconds]
    return Firing(tuple(due), recurrence.after(now))


def tick_job_id(schedule: str, tick: datetime) -> UUID:
    """Return the id of the job that a tick spawns: a UUIDv7 of the tick's time whose other bits name the schedule.

    So the primary key of jobs has no room for a second job of one schedule and tick.
    """
    milliseconds = int(tick.timestamp() * 1000)
    digest = int.from_bytes(sha256(f"{schedule}\0{tick.isoformat()}".encode()).digest())
    bits = (milliseconds << 80) | (digest & ((1 << 80) - 1))
    return UUID(int=(bits & ~(0xF << 76) & ~(0b11 << 62)) | (0x7 << 76) | (0b10 << 62))
