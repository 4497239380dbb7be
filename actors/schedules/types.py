"""What is written about a schedule, by its user and in the store."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Any, Final, NamedTuple
from uuid import UUID

from callboard.actors.errors import ConfigurationError

from .firing import Firing, Misfire, fire
from .recurrence import LONGEST_INTERVAL_SECONDS, CronRecurrence, IntervalRecurrence, Recurrence, ticks

LARGEST_CATCH_UP: Final = 1000
LEAST_INTERVAL_SECONDS: Final = 1.0


class ScheduleSource(StrEnum):
    """Who has made a schedule."""

    CODE = "code"
    """``@job(schedule=...)``: workers keep it as their code says."""
    RUNTIME = "runtime"
    """``runtime.schedules.create`` or ``callboard schedule create``: no worker touches it."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a job is spawned again and again: by a cron text or by an interval.

    Attributes:
        cron: five fields, or six with the second first: ``*/5 * * * *``.
        zone: the IANA time zone of the cron text; default UTC.
        interval_seconds: the interval instead; at least 1. The first tick comes one interval after the creation.
        jitter_seconds: each job is spawned up to so much later, at random, so that not everything starts at the full
            minute; default 0.
        misfire: what becomes of ticks that nobody took in time; default ``once``. See ``Misfire``.
        misfire_grace_seconds: how late a tick may be and still count as in time, for ``skip``; default 60.
        max_catch_up: most jobs that ``all`` spawns at a time; default 100.
        arguments: keyword arguments of the job; only in ``@job(schedule=Schedule(...))``.

    Raises:
        ConfigurationError: a field is wrong; names it.
    """

    cron: str | None = None
    zone: str = "UTC"
    interval_seconds: float | None = None
    jitter_seconds: float = 0.0
    misfire: Misfire = Misfire.ONCE
    misfire_grace_seconds: float = 60.0
    max_catch_up: int = 100
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.cron is None) == (self.interval_seconds is None):
            raise ConfigurationError(
                f"schedule: got cron={self.cron!r} and interval_seconds={self.interval_seconds!r}, expected one of the "
                f"two"
            )
        if self.cron is not None:
            CronRecurrence(self.cron, self.zone)
        else:
            _require_number("interval_seconds", self.interval_seconds, LEAST_INTERVAL_SECONDS, LONGEST_INTERVAL_SECONDS)
            if self.zone != "UTC":
                raise ConfigurationError(f"zone: got {self.zone!r} with an interval, which has none; leave it out")
        _require_number("jitter_seconds", self.jitter_seconds, 0, self.interval_seconds or LONGEST_INTERVAL_SECONDS)
        _require_number("misfire_grace_seconds", self.misfire_grace_seconds, 0, LONGEST_INTERVAL_SECONDS)
        if type(self.max_catch_up) is not int or not 1 <= self.max_catch_up <= LARGEST_CATCH_UP:
            raise ConfigurationError(
                f"max_catch_up: got {self.max_catch_up!r}, expected a whole number from 1 to {LARGEST_CATCH_UP}"
            )
        try:
            object.__setattr__(self, "misfire", Misfire(self.misfire))
        except ValueError:
            raise ConfigurationError(f"misfire: got {self.misfire!r}, expected one of {', '.join(Misfire)}") from None

    def recurrence(self, anchor: datetime) -> Recurrence:
        """Return when it ticks; an interval from a tick of its own on."""
        if self.cron is not None:
            return CronRecurrence(self.cron, self.zone)
        assert self.interval_seconds is not None
        return IntervalRecurrence(self.interval_seconds, anchor)

    def first_tick(self, now: datetime) -> datetime:
        """Return the first tick of a schedule that begins, or goes on after a pause, now."""
        tick = self.recurrence(now).after(now)
        if tick is None:
            raise ConfigurationError(f"cron: {self.cron!r} names no moment in the next 50 years")
        return tick


class NewSchedule(NamedTuple):
    """A schedule to store, already validated."""

    name: str
    kind: str
    queue: str
    schedule: Schedule
    arguments: str
    """The job's arguments as a JSON object text."""
    options: str
    """Its spawn options, those that were given, as a JSON object text."""
    source: ScheduleSource = ScheduleSource.RUNTIME


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """A schedule as stored."""

    name: str
    kind: str
    queue: str
    schedule: Schedule
    arguments: str
    options: str
    source: ScheduleSource
    paused: bool
    next_tick: datetime | None
    """The next nominal moment; None: its cron text names none any more."""
    next_fire_at: datetime | None
    """That, and the jitter that was drawn for it."""
    last_tick: datetime | None
    """The latest tick that spawned a job."""
    last_job_id: UUID | None
    changed_at: datetime
    changed_by: str

    def upcoming(self, count: int) -> list[datetime]:
        """Return the next nominal moments, oldest first; none of a paused schedule."""
        if self.next_tick is None or self.paused:
            return []
        return list(islice(ticks(self.schedule.recurrence(self.next_tick), self.next_tick), count))

    def fire(self, now: datetime) -> Firing:
        """Return what is to happen now."""
        if self.next_tick is None:
            return Firing((), None)
        return fire(
            self.schedule.recurrence(self.next_tick),
            self.next_tick,
            now,
            misfire=self.schedule.misfire,
            misfire_grace_seconds=self.schedule.misfire_grace_seconds + self.schedule.jitter_seconds,
            max_catch_up=self.schedule.max_catch_up,
        )


class Fired(NamedTuple):
    """What a schedule has done."""

    schedule: str
    kind: str
    queue: str
    ticks: tuple[datetime, ...]
    jobs: tuple[UUID, ...]
    """Those that exist now because of it; a unique_key that is held leaves a tick without one."""
    error: Exception | None = None
    """Why it did nothing, and will be asked again."""


class Synchronised(NamedTuple):
    """What became of the schedules in a worker's code."""

    created: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    """Their names belong to schedules that were made at run time."""


def _require_number(name: str, value: object, least: float, most: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not least <= value <= most:  # type: ignore[operator]
        raise ConfigurationError(f"{name}: got {value!r}, expected a number of seconds from {least:g} to {most:g}")
