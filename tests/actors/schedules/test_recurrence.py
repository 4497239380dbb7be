"""When schedules tick: cron texts, changes of the clocks, intervals."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard import ConfigurationError
from callboard.actors.schedules.recurrence import CronRecurrence, IntervalRecurrence, latest_ticks, ticks

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca")
TEXTS = (
    *("* * * * *", "*/7 * * * *", "30 2 * * *", "0,30 1-3 * * *", "15 */2 * * *", "0 0 1 * *", "0 12 * * MON#1"),
    *("59 23 L * *", "*/20 * * * * *", "30 15 2 * * *", "0 3 * 3,10,11 SUN"),
)
moments = st.datetimes(min_value=datetime(2023, 1, 1), max_value=datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
crons = st.builds(CronRecurrence, st.sampled_from(TEXTS), st.sampled_from(ZONES))
intervals = st.builds(IntervalRecurrence, st.floats(1, 1e6), moments)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def following(text: str, zone: str, start: str, count: int) -> list[str]:
    recurrence = CronRecurrence(text, zone)
    first = recurrence.after(moment(start))
    assert first is not None
    return [tick.isoformat() for tick in islice(ticks(recurrence, first), count)]


@given(crons | intervals, moments)
def test_the_next_tick_is_later_and_none_lies_between(recurrence, start):
    tick = recurrence.after(start)
    assert tick is not None
    assert tick > start
    assert tick.tzinfo is UTC
    before = tick - timedelta(microseconds=1)
    if before > start:
        assert recurrence.after(before) == tick
        assert recurrence.after(start + (tick - start) / 2) == tick


@given(crons | intervals, moments, st.integers(1, 20), st.floats(0, 4))
def test_the_latest_ticks_are_the_end_of_all_ticks(recurrence, start, most, days):
    first = recurrence.after(start)
    until = first + timedelta(days=days) / (1 if getattr(recurrence, "seconds", 0) > 60 else 10)
    every = []
    for tick in ticks(recurrence, first):
        if tick > until:
            break
        every.append(tick)
    assert latest_ticks(recurrence, first, until, most) == every[-most:]


def test_the_latest_of_a_hundred_years_is_found_at_once():
    recurrence = CronRecurrence("* * * * * *")
    first, until = moment("1926-01-01T00:00:00+00:00"), moment("2026-01-01T00:00:00+00:00")
    assert latest_ticks(recurrence, first, until, 2) == [until - timedelta(seconds=1), until]


def test_seconds_are_optional():
    assert following("*/5 * * * *", "UTC", "2026-11-25T10:03:20+00:00", 2) == [
        "2026-11-25T10:05:00+00:00",
        "2026-11-25T10:10:00+00:00",
    ]
    assert following("*/30 * * * * *", "UTC", "2026-11-25T10:03:20+00:00", 2) == [
        "2026-11-25T10:03:30+00:00",
        "2026-11-25T10:04:00+00:00",
    ]
    assert following("45 0 9 * * *", "Europe/Berlin", "2026-11-25T10:03:20+00:00", 1) == ["2026-11-26T08:00:45+00:00"]


@pytest.mark.parametrize("second", ["", "20 "])
def test_a_time_that_the_clocks_leave_out_comes_at_the_end_of_the_gap(second):
    # Berlin, 29 March 2026: 02:00 is 03:00.
    offset = "20" if second else "00"
    assert following(f"{second}30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+00:00", 3) == [
        f"2026-03-29T01:00:{offset}+00:00",  # 03:00
        f"2026-03-30T00:30:{offset}+00:00",
        f"2026-03-31T00:30:{offset}+00:00",
    ]


@pytest.mark.parametrize("second", ["", "20 "])
def test_a_time_that_the_clocks_have_twice_comes_the_first_time_only(second):
    # Berlin, 25 October 2026: 03:00 is 02:00.
    offset = "20" if second else "00"
    assert following(f"{second}30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+00:00", 2) == [
        f"2026-10-25T00:30:{offset}+00:00",
        f"2026-10-26T01:30:{offset}+00:00",
    ]
    # Asked in the second 02:10, the 02:30 that comes next is not one of its ticks.
    assert following("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00+00:00", 1) == ["2026-10-26T01:30:00+00:00"]


def test_what_goes_by_minutes_or_hours_goes_on_through_a_change_of_the_clocks():
    assert following("0 * * * *", "Europe/Berlin", "2026-03-28T23:30:00+00:00", 4) == [
        f"2026-03-29T0{hour}:00:00+00:00" for hour in range(4)
    ]
    found = following("*/20 * * * *", "Europe/Berlin", "2026-10-24T23:59:00+00:00", 12)
    times = [moment(tick) for tick in found]
    assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(minutes=20)}


@pytest.mark.parametrize(
    "text",
    [
        *("", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8"),
        *("*/0 * * * *", "5-1 * * * *", "a * * * *", "* * 30 2 *", "² * * * *", "@daily", "1#2/3 * * * *"),
        *("* * L/3,1/ * *", None, 5),
    ],
)
def test_a_wrong_cron_text_is_refused_by_name(text):
    with pytest.raises(ConfigurationError, match=r"cron: got .*Expected 5 fields"):
        CronRecurrence(text)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime", "Europe", None, 5])
def test_a_wrong_zone_is_refused_by_name(zone):
    with pytest.raises(ConfigurationError, match=r"zone: got .*expected the name of an IANA time zone"):
        CronRecurrence("* * * * *", zone)
