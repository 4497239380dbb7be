"""What need not be kept any longer."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.jobs.retention import Partition, Retention, droppable, newest_id_before, result_expired

START = datetime(2030, 1, 7, tzinfo=UTC)
WEEKS = st.integers(0, 20).map(lambda weeks: START + timedelta(weeks=weeks))
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(st.sets(WEEKS), MOMENTS | WEEKS, st.none() | WEEKS)
def test_a_partition_goes_when_all_in_it_is_old_and_no_unfinished_job_can_be_in_it(
    ends: set[datetime], cutoff: datetime, oldest: datetime | None
) -> None:
    partitions = [Partition(end.isoformat(), end) for end in ends]
    dropped = droppable(partitions, cutoff, oldest)
    expected = [end.isoformat() for end in sorted(ends) if end <= cutoff and (oldest is None or end <= oldest)]
    assert dropped == expected


@given(MOMENTS, MOMENTS)
def test_ids_tell_who_was_spawned_before_a_moment(spawned: datetime, moment: datetime) -> None:
    milliseconds = (spawned - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    job_id = UUID(int=(milliseconds << 80) | (7 << 76) | (1 << 79) % (1 << 76) | 1)
    if job_id < newest_id_before(moment):
        assert spawned < moment
    elif spawned < moment:
        assert moment - spawned < timedelta(milliseconds=1)


def test_the_shortest_time_decides_where_to_look() -> None:
    assert Retention().shortest_seconds is None
    assert Retention(5.0, None, 1.0).shortest_seconds == 5.0
    assert Retention(5.0, 3.0).shortest_seconds == 3.0


@given(st.none() | st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_result_expires_so_long_after_the_end(ttl: float | None, age: float) -> None:
    expected = ttl is not None and timedelta(seconds=age) >= timedelta(seconds=ttl)
    assert result_expired(START, ttl, START + timedelta(seconds=age)) is expected
    assert not result_expired(None, ttl, START)
