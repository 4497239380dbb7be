"""What cron texts do where clocks change, as properties: over years, in zones that change at odd hours or spans."""

from __future__ import annotations

import zoneinfo
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise, takewhile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callboard.actors.schedules.recurrence import CronRecurrence, ticks

ZONES = (
    *("Europe/Berlin", "America/New_York", "Europe/Dublin", "Africa/Casablanca"),
    *("Australia/Lord_Howe",),  # by half an hour
    *("America/Havana", "Africa/Cairo", "Asia/Beirut"),  # at midnight: a day without 00:00, or with two
    *("America/Santiago",),  # at midnight back to 23:00 of the day before
    *("Asia/Kathmandu", "UTC"),  # never
)
zones = st.sampled_from(ZONES)
starts = st.dates(min_value=date(2023, 1, 1), max_value=date(2027, 6, 1))
hours, minutes = st.integers(0, 23), st.integers(0, 59)


def between(text: str, zone: str, start: date, days: int) -> list[datetime]:
    """Return the ticks of some local days."""
    tzinfo = zoneinfo.ZoneInfo(zone)
    first = datetime(start.year, start.month, start.day, tzinfo=tzinfo).astimezone(UTC)
    last = start + timedelta(days=days)
    until = datetime(last.year, last.month, last.day, tzinfo=tzinfo).astimezone(UTC)
    recurrence = CronRecurrence(text, zone)
    tick = recurrence.after(first - timedelta(microseconds=1))
    assert tick is not None
    return list(takewhile(lambda moment: moment < until, ticks(recurrence, tick)))


def changes(zone: str, start: date, days: int) -> list[tuple[datetime, timedelta]]:
    """Return when the zone's clocks change in some days, and by how much."""
    tzinfo = zoneinfo.ZoneInfo(zone)
    step = timedelta(minutes=5)
    moment = datetime(start.year, start.month, start.day, tzinfo=UTC)
    found = []
    for _ in range(days * 24 * 12):
        offsets = [at.astimezone(tzinfo).utcoffset() for at in (moment, moment + step)]
        assert None not in offsets
        if offsets[0] != offsets[1]:
            found.append((moment + step, offsets[1] - offsets[0]))  # type: ignore[operator]
        moment += step
    return found


@given(zones, starts, hours, minutes)
@example("Europe/Berlin", date(2026, 3, 1), 2, 30)
@example("Europe/Berlin", date(2026, 10, 1), 2, 30)
@example("Africa/Cairo", date(2026, 4, 1), 0, 0)
@example("America/Havana", date(2026, 10, 20), 0, 30)
@example("America/Santiago", date(2026, 4, 1), 23, 30)
@example("Australia/Lord_Howe", date(2026, 9, 20), 2, 15)
def test_what_comes_daily_comes_once_on_every_day(zone: str, start: date, hour: int, minute: int) -> None:
    """On a day that has no such time as well, and on one that has it twice."""
    days = 60
    tzinfo = zoneinfo.ZoneInfo(zone)
    found = between(f"{minute} {hour} * * *", zone, start, days)
    per_day = Counter(tick.astimezone(tzinfo).date() for tick in found)
    assert per_day == {start + timedelta(days=number): 1 for number in range(days)}


@given(zones, starts, hours, minutes)
def test_a_daily_tick_is_at_its_time_or_at_the_end_of_the_gap_that_swallowed_it(
    zone: str, start: date, hour: int, minute: int
) -> None:
    tzinfo = zoneinfo.ZoneInfo(zone)
    for tick in between(f"{minute} {hour} * * *", zone, start, 60):
        local = tick.astimezone(tzinfo)
        if (local.hour, local.minute) == (hour, minute):
            assert local.fold == 0, "of two such times it is the first"
            continue
        wanted = local.replace(hour=hour, minute=minute)
        assert wanted.astimezone(UTC).astimezone(tzinfo).time() != wanted.time(), "there was no such time"
        before = (tick - timedelta(seconds=1)).astimezone(tzinfo)
        assert before.utcoffset() != local.utcoffset(), "the clocks have just been changed"


@given(zones, starts, st.sampled_from([2, 3, 4, 6, 8, 12]))
@example("Australia/Lord_Howe", date(2026, 4, 1), 3)
@example("Australia/Lord_Howe", date(2026, 10, 1), 3)
def test_what_comes_every_few_hours_leaves_out_none_that_the_clock_shows(zone: str, start: date, step: int) -> None:
    tzinfo = zoneinfo.ZoneInfo(zone)
    found = {tick.astimezone(tzinfo).replace(tzinfo=None) for tick in between(f"0 */{step} * * *", zone, start, 10)}
    wanted = [
        datetime(start.year, start.month, start.day) + timedelta(hours=hour)  # noqa: DTZ001 - on the wall
        for hour in range(0, 240, step)
    ]
    shown = [
        wall
        for wall in wanted
        if wall.replace(tzinfo=tzinfo).astimezone(UTC).astimezone(tzinfo).replace(tzinfo=None) == wall
    ]
    assert set(shown) <= found


@given(zones, starts, st.sampled_from([1, 5, 10, 15, 30]))
def test_what_comes_every_few_minutes_goes_on_through_every_change(zone: str, start: date, step: int) -> None:
    found = between(f"*/{step} * * * *", zone, start, 10)
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=step)}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("text", ["30 2 * * *", "0 0 * * *", "*/20 * * * *", "0 */3 * * *", "15 1,2,3 * * *"])
def test_the_ticks_do_not_depend_on_the_moment_of_asking(zone: str, text: str) -> None:
    """A leader that begins in the middle of the hour that comes twice goes on as one that has led all along."""
    start = date(2026, 1, 1)
    recurrence = CronRecurrence(text, zone)
    for change, _ in changes(zone, start, 365):
        first = recurrence.after(change - timedelta(hours=30))
        assert first is not None
        every = list(takewhile(lambda tick: tick < change + timedelta(hours=30), ticks(recurrence, first)))  # noqa: B023
        moment = change - timedelta(hours=4)
        while moment < change + timedelta(hours=4):
            assert recurrence.after(moment) == next(tick for tick in every if tick > moment)
            moment += timedelta(minutes=7, seconds=13)
