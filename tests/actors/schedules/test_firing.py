"""What a schedule does when its time has come, or has come long ago."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.schedules.firing import Misfire, fire, tick_job_id
from callboard.actors.schedules.recurrence import CronRecurrence, IntervalRecurrence

START = datetime(2026, 3, 28, tzinfo=UTC)
recurrences = st.sampled_from(
    [CronRecurrence("*/10 * * * *", "Europe/Berlin"), CronRecurrence("30 2 * * *", "Europe/Berlin")]
) | st.builds(IntervalRecurrence, st.floats(1, 4000), st.just(START))


def fired(recurrence, late_seconds, misfire, grace=60.0, most=5):
    first = recurrence.after(START)
    now = first + timedelta(seconds=late_seconds)
    answer = fire(recurrence, first, now, misfire=misfire, misfire_grace_seconds=grace, max_catch_up=most)
    return first, now, answer


@given(recurrences, st.floats(0, 1e5), st.sampled_from(Misfire), st.floats(0, 1e4), st.integers(1, 9))
def test_whatever_the_policy_ticks_are_due_in_order_and_never_taken_twice(recurrence, late, misfire, grace, most):
    first, now, firing = fired(recurrence, late, misfire, grace, most)
    assert list(firing.ticks) == sorted(set(firing.ticks))
    assert all(first <= tick <= now for tick in firing.ticks)
    assert len(firing.ticks) <= (most if misfire is Misfire.ALL else 1)
    assert firing.next_tick > now
    assert firing.next_tick == recurrence.after(now)
    again = fire(
        recurrence,
        firing.next_tick,
        now,
        misfire=misfire,
        misfire_grace_seconds=grace,
        max_catch_up=most,
    )
    assert again == ((), firing.next_tick)


@given(recurrences, st.floats(0, 1e5))
def test_once_takes_the_latest_tick_however_late(recurrence, late):
    _, now, firing = fired(recurrence, late, Misfire.ONCE)
    [tick] = firing.ticks
    assert recurrence.after(tick) > now


@given(recurrences, st.floats(0, 1e5), st.floats(0, 1e4))
def test_skip_takes_the_latest_tick_if_it_is_not_late(recurrence, late, grace):
    _, now, firing = fired(recurrence, late, Misfire.SKIP, grace)
    [latest] = fired(recurrence, late, Misfire.ONCE)[2].ticks
    assert firing.ticks == ((latest,) if (now - latest).total_seconds() <= grace else ())


def test_all_takes_each_up_to_the_bound():
    every_minute = IntervalRecurrence(60, START)
    first, _, firing = fired(every_minute, 150, Misfire.ALL)
    assert firing.ticks == tuple(first + timedelta(minutes=number) for number in range(3))
    first, _, firing = fired(every_minute, 60 * 100, Misfire.ALL)
    assert firing.ticks == tuple(first + timedelta(minutes=number) for number in range(96, 101))


def test_before_its_time_nothing_happens():
    recurrence = IntervalRecurrence(60, START)
    assert fired(recurrence, -0.001, Misfire.ALL)[2] == ((), START + timedelta(minutes=1))


names = st.text(min_size=1, max_size=20)
times = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(st.tuples(names, times), st.tuples(names, times))
def test_a_schedule_and_a_tick_have_one_job_id_and_no_other_has_it(one, other):
    job_id = tick_job_id(*one)
    assert (job_id == tick_job_id(*other)) == (one == other)
    assert job_id.version == 7
    assert job_id.int >> 80 == int(one[1].timestamp() * 1000)
