"""Priorities with aging: what an order that is fixed at the beginning guarantees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from callboard.actors.jobs.turn import is_delayed, turn

moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
priorities = st.integers(-32768, 32767)
agings = st.floats(0.001, 86_400)


@given(moments, moments, priorities, agings)
def test_within_a_priority_the_earlier_is_first(one: datetime, other: datetime, priority: int, aging: float) -> None:
    first, second = sorted([one, other])
    assert turn(first, priority, aging) <= turn(second, priority, aging)


@given(moments, priorities, priorities, agings)
def test_of_those_that_come_together_the_lower_number_is_first(
    moment: datetime, one: int, other: int, aging: float
) -> None:
    assume(one < other)
    assert turn(moment, one, aging) < turn(moment, other, aging)


@given(moments, priorities, priorities, agings, st.timedeltas(timedelta(0), timedelta(days=36_500)))
def test_a_job_overtakes_exactly_what_came_within_its_advantage(
    moment: datetime, high: int, low: int, aging: float, earlier: timedelta
) -> None:
    assume(high < low)
    advantage = timedelta(seconds=(low - high) * aging)
    assume(abs(advantage - earlier) > timedelta(milliseconds=1))  # a microsecond is what a datetime tells apart
    overtakes = turn(moment, high, aging) < turn(moment - earlier, low, aging)
    assert overtakes == (earlier < advantage)


@given(priorities, agings)
def test_the_ends_of_time_are_in_order(priority: int, aging: float) -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert first <= turn(first, priority, aging) <= turn(last, priority, aging) <= last


@given(moments, moments)
def test_a_job_is_delayed_until_its_moment(run_at: datetime, now: datetime) -> None:
    assert is_delayed(run_at, now) == (run_at > now)
