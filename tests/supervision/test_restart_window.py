"""The window against a naive model of rules E1 to E3, and the bounds of the backoff."""

from collections import deque
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.errors import ConfigurationError
from callboard.supervision.backoff import Backoff
from callboard.supervision.restart_window import RestartWindow


class NaiveWindow:
    """OTP's own words: keep the whole-second timestamps with t >= now - period, add now, count."""

    def __init__(self, intensity: int, period_seconds: int) -> None:
        self.intensity = intensity
        self.period_seconds = period_seconds
        self.restarts: list[int] = []

    def admit(self, now_seconds: float) -> bool:
        now = int(now_seconds)
        self.restarts = [at for at in self.restarts if at >= now - self.period_seconds] + [now]
        return len(self.restarts) <= self.intensity


gaps = st.lists(st.floats(0, 4) | st.sampled_from([0.0, 0.999, 1.0, 1.001, 2.0, 3.0]), max_size=60)


@given(intensity=st.integers(0, 6), period_seconds=st.integers(1, 6), start=st.floats(0, 1e6), gaps=gaps)
def test_E2_E3_window_agrees_with_the_naive_model(intensity, period_seconds, start, gaps):
    window, model = RestartWindow(intensity, period_seconds), NaiveWindow(intensity, period_seconds)
    for now in accumulate(gaps, initial=start):
        admitted = window.admit(now)
        assert admitted == model.admit(now)
        if not admitted:
            return


def test_E2_the_restart_after_the_last_allowed_one_gives_up():
    window = RestartWindow(intensity=2, period_seconds=5)
    assert [window.admit(100.0) for _ in range(3)] == [True, True, False]


def test_E2_intensity_zero_gives_up_at_the_first_restart():
    assert not RestartWindow(intensity=0, period_seconds=5).admit(0.0)


def test_E8_each_restart_is_looked_at_twice_at_most_whatever_the_intensity():
    class Counting(deque):
        looks = 0

        def __getitem__(self, index):
            self.looks += 1
            return super().__getitem__(index)

        def __iter__(self):
            raise AssertionError("a scan")

    window = RestartWindow(intensity=1_000_000, period_seconds=100)
    window._restarts = counting = Counting()
    for number in range(10_000):
        assert window.admit(number / 10)
    assert counting.looks <= 2 * 10_000
    assert len(counting) <= 1000 + 10, "what has left the window is given up"


def test_H11_other_limits_count_the_restarts_that_are_in_the_window():
    window = RestartWindow(intensity=3, period_seconds=5)
    assert [window.admit(10.0) for _ in range(2)] == [True, True]
    window.change(2, 5)
    assert not window.admit(11.0)
    window = RestartWindow(intensity=1, period_seconds=5)
    assert window.admit(10.0)
    window.change(1, 1)
    assert window.admit(12.0)
    with pytest.raises(ConfigurationError, match="intensity -1"):
        window.change(-1, 9)
    assert (window.intensity, window.period_seconds) == (1, 1)


def test_E3_a_restart_is_forgotten_only_after_period_plus_the_rest_of_its_second():
    early = RestartWindow(intensity=1, period_seconds=1)
    assert early.admit(10.0)
    assert not early.admit(11.999), "two whole seconds have not passed: 11 - 1 <= 10"
    late = RestartWindow(intensity=1, period_seconds=1)
    assert late.admit(10.999)
    assert late.admit(12.0)


@given(st.lists(st.floats(0, 1e6), max_size=20))
def test_unlimited_intensity_never_gives_up(times):
    window = RestartWindow(None, 5)
    assert all(window.admit(now) for now in sorted(times))


@pytest.mark.parametrize("intensity", [-1, 1.5, "3", True])
def test_A4_an_intensity_that_is_no_natural_number_is_refused(intensity):
    with pytest.raises(ConfigurationError, match=r"supervisor intensity .*: expected .*at least 0"):
        RestartWindow(intensity, 5)


@pytest.mark.parametrize("period_seconds", [0, -1, 0.5, None, True])
def test_A4_a_period_that_is_no_positive_number_of_seconds_is_refused(period_seconds):
    with pytest.raises(ConfigurationError, match=r"period_seconds .*: expected whole seconds"):
        RestartWindow(1, period_seconds)


def test_B8_P5_delays_double_to_the_maximum():
    backoff = Backoff(initial_seconds=3, max_seconds=30, jitter_ratio=0.2)
    assert [backoff.delay_bounds(attempt)[0] for attempt in range(1, 7)] == [3, 6, 12, 24, 30, 30]
    assert backoff.delay_bounds(5) == (30, 36)


@given(
    initial=st.floats(0.001, 100),
    spread=st.floats(1, 1000),
    factor=st.floats(1, 10),
    jitter=st.floats(0, 1),
    attempt=st.integers(1, 100_000),
)
def test_B8_delays_stay_within_their_bounds_and_never_shrink(initial, spread, factor, jitter, attempt):
    backoff = Backoff(initial, initial * spread, factor, jitter)
    shortest, longest = backoff.delay_bounds(attempt)
    assert 0 < shortest <= longest <= backoff.max_seconds * (1 + jitter)
    assert shortest >= backoff.initial_seconds * (1 - 1e-9)
    assert backoff.delay_bounds(attempt + 1)[0] >= shortest


def test_P5_a_long_life_resets_the_count():
    backoff = Backoff(initial_seconds=1, max_seconds=9)
    assert backoff.attempt_after(3, lived_seconds=4.9) == 4
    assert backoff.attempt_after(3, lived_seconds=5.0) == 1
    assert Backoff(reset_after_seconds=60).attempt_after(3, lived_seconds=59) == 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("initial_seconds", 0),
        ("max_seconds", 0.1),
        ("max_seconds", float("inf")),
        ("factor", 0.5),
        ("jitter_ratio", 1.5),
        ("reset_after_seconds", 0),
        ("initial_seconds", float("nan")),
    ],
)
def test_a_backoff_out_of_bounds_names_the_field(field, value):
    with pytest.raises(ConfigurationError, match=f"backoff {field} .*expected"):
        Backoff(**{field: value})
