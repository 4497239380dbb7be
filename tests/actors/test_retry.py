"""Delays between attempts."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import wait_chain, wait_exception, wait_exponential, wait_fixed, wait_incrementing, wait_random
from tenacity.wait import wait_base

from callboard.actors.retry import default_wait, next_delay_seconds


class Always(wait_base):
    def __init__(self, seconds: Any) -> None:
        self.seconds = seconds

    def __call__(self, retry_state: Any) -> Any:
        return self.seconds


@pytest.mark.parametrize(
    ("wait", "delays"),
    [
        (wait_fixed(3), [3, 3, 3, 3]),
        (wait_exponential(multiplier=1, max=5), [1, 2, 4, 5]),
        (wait_incrementing(start=1, increment=2), [1, 3, 5, 7]),
        (wait_chain(wait_fixed(1), wait_fixed(9)), [1, 9, 9, 9]),
        (wait_fixed(1) + wait_fixed(2), [3, 3, 3, 3]),
    ],
)
def test_tenacitys_schedules_are_asked_for_one_delay_at_a_time(wait: wait_base, delays: list[float]) -> None:
    assert [next_delay_seconds(wait, attempt) for attempt in (1, 2, 3, 4)] == delays


def test_a_schedule_may_look_at_the_exception() -> None:
    wait = wait_exception(lambda exception: 7.0 if isinstance(exception, OSError) else 1.0)
    assert next_delay_seconds(wait, 1, OSError()) == 7.0
    assert next_delay_seconds(wait, 1, ValueError()) == 1.0


@given(st.integers(1, 10_000), st.floats(0.001, 100), st.floats(0.001, 1e5))
def test_the_default_is_full_jitter_below_its_bounds(attempt: int, initial: float, most: float) -> None:
    delay = next_delay_seconds(default_wait(initial, most), attempt)
    assert 0 <= delay <= min(most, initial * 2 ** min(attempt, 100))


def test_jobs_that_failed_together_do_not_come_back_together() -> None:
    wait = default_wait()
    assert len({next_delay_seconds(wait, 5) for _ in range(100)}) > 90


@pytest.mark.parametrize(
    ("drawn", "delay"), [(-1, 0), (math.nan, 0), (math.inf, 3_153_600_000), (1e300, 3_153_600_000)]
)
def test_whatever_a_strategy_draws_is_a_delay_that_the_database_can_hold(drawn: float, delay: float) -> None:
    assert next_delay_seconds(Always(drawn), 1) == delay


def test_random_strategies_stay_within_their_range() -> None:
    assert all(2 <= next_delay_seconds(wait_random(2, 3), 1) <= 3 for _ in range(100))
