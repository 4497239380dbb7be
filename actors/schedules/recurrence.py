"""When a schedule ticks: the moments that a cron text or an interval names.

Moments go in and come out in UTC. Two ticks of a recurrence are never the same moment.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from cronsim import CronSim

from callboard.actors.errors import ConfigurationError

LONGEST_INTERVAL_SECONDS: Final = 366 * 86_400.0
_FIELDS: Final = (5, 6)
_LONGEST_CHANGE: Final = timedelta(hours=3)
"""By which a clock is changed. Most are by one, some by half an hour, a few were by two."""
_MONDAY_2000: Final = datetime(2000, 1, 3, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CronRecurrence:
    """What a cron text names, in a time zone.

    Five fields (minute, hour, day of month, month, day of week) or six, with seconds first. Where the clocks change, it
    follows Debian's cron: times of day that the zone leaves out come at the end of the gap, those that it has twice
    come the first time only. Texts whose minute or hour begins with ``*``, and those that name several seconds, follow
    the clock on the wall instead: nothing in a gap, all of it twice in an overlap.

    Attributes:
        text: the cron text.
        zone: an IANA time zone, such as ``Europe/Berlin``.

    Raises:
        ConfigurationError: the text is no cron text, names no moment, or the zone is unknown.
    """

    text: str
    zone: str = "UTC"
    _fields: str = field(init=False, repr=False, compare=False)
    _second: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields, second = self.text.split() if isinstance(self.text, str) else [], 0
        if len(fields) not in _FIELDS:
            raise _bad_cron(self.text, f"it has {len(fields)} fields")
        _require_zone(self.zone)
        if len(fields) == 6 and fields[0].isascii() and fields[0].isdigit() and int(fields[0]) < 60:
            # One second of the minute: as without it, and so much later, the change of the clocks included.
            second = int(fields.pop(0))
        object.__setattr__(self, "_fields", " ".join(fields))
        object.__setattr__(self, "_second", second)
        try:
            first = self.after(_MONDAY_2000)
        except Exception as error:  # whatever its parser stumbles over; it raises more than its own error
            raise _bad_cron(self.text, str(error) or "a field has something that it cannot have") from error
        if first is None:
            raise _bad_cron(self.text, "it names no moment in 50 years")

    def after(self, moment: datetime) -> datetime | None:
        """Return the first tick after a moment, in UTC; None if there is none within 50 years."""
        offset = timedelta(seconds=self._second)
        zone = zoneinfo.ZoneInfo(self.zone)
        find = self._next_on_the_clock if self._follows_the_clock else self._next_of_the_day
        found = find(moment - offset, zone)
        return None if found is None else found + offset

    @property
    def _follows_the_clock(self) -> bool:
        fields = self._fields.split()
        return len(fields) == 6 or any(field.startswith("*") for field in fields[:2])

    def _next_of_the_day(self, moment: datetime, zone: zoneinfo.ZoneInfo) -> datetime | None:
        wall = moment.astimezone(zone).replace(tzinfo=None) - _LONGEST_CHANGE
        for time in CronSim(self._fields, wall):
            tick = _happens(time, zone)
            if tick > moment:
                return tick
        return None

    def _next_on_the_clock(self, moment: datetime, zone: zoneinfo.ZoneInfo) -> datetime | None:
        """Go by what the clock shows until it is changed, and from there on anew."""
        since, wall = moment, moment.astimezone(zone).replace(tzinfo=None)
        while True:
            time = next(CronSim(self._fields, wall), None)
            if time is None:
                return None
            tick = (time - _offset(since, zone)).replace(tzinfo=UTC)
            change = _change_between(since, tick, zone)
            if change is None or tick < change:
                return tick
            since = change
            wall = change.astimezone(zone).replace(tzinfo=None) - timedelta(seconds=1)  # perhaps a tick is right there


@dataclass(frozen=True, slots=True)
class IntervalRecurrence:
    """Every so many seconds, from a moment on. The ticks stay on their grid, whenever the jobs ran.

    Attributes:
        seconds: between two ticks.
        anchor: one of the ticks.
    """

    seconds: float
    anchor: datetime

    def after(self, moment: datetime) -> datetime | None:
        """Return the first tick after a moment, in UTC."""
        step = timedelta(seconds=self.seconds)
        return self.anchor + ((moment - self.anchor) // step + 1) * step


Recurrence: TypeAlias = CronRecurrence | IntervalRecurrence


def _happens(time: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """Return when a clock shows a time first; one that it leaves out counts as shown at the end of the gap."""
    moment = time.replace(tzinfo=zone).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == time:
        return moment
    return _change_between(moment - _LONGEST_CHANGE, moment, zone) or moment


def _change_between(first: datetime, last: datetime, zone: zoneinfo.ZoneInfo) -> datetime | None:
    """Return when the clock is changed first between two moments; None if it never is.

    It is looked at soon after the first moment, and at the last one: two changes within a few hours do not happen.
    """
    before = _offset(first, zone)
    for end in (min(first + _LONGEST_CHANGE, last), last):
        if _offset(end, zone) != before:
            break
    else:
        return None
    while end - first > timedelta(seconds=1):
        middle = first + (end - first) / 2
        if _offset(middle, zone) == before:
            first = middle
        else:
            end = middle
    return end.replace(microsecond=0)


def _offset(moment: datetime, zone: zoneinfo.ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


def ticks(recurrence: Recurrence, first: datetime) -> Iterator[datetime]:
    """Yield a tick and all that follow it."""
    tick: datetime | None = first
    while tick is not None:
        yield tick
        tick = recurrence.after(tick)


def latest_ticks(recurrence: Recurrence, first: datetime, until: datetime, most: int) -> list[datetime]:
    """Return the latest ticks from ``first`` to ``until``, oldest first, at most so many.

    However long ago ``first`` was, it looks at few more than it returns: it goes back from the end by ever longer steps
    until they have enough.

    Args:
        recurrence: what ticks.
        first: a tick.
        until: the end, included.
        most: how many at most.
    """
    span = timedelta(minutes=1)
    while until - span > first:
        found = _between(recurrence, recurrence.after(until - span), until)
        if len(found) >= most:
            return found[-most:]
        span *= 2
    return _between(recurrence, first, until)[-most:]


def _between(recurrence: Recurrence, first: datetime | None, until: datetime) -> list[datetime]:
    found: list[datetime] = []
    while first is not None and first <= until:
        found.append(first)
        first = recurrence.after(first)
    return found


def _require_zone(zone: str) -> None:
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"zone: got {zone!r}, expected the name of an IANA time zone, such as 'Europe/Berlin' or 'UTC'"
        ) from error


def _bad_cron(text: object, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"cron: got {text!r}: {why}. Expected 5 fields, minute hour day-of-month month day-of-week, such as "
        f"'*/5 * * * *', or 6 with the second first"
    )
