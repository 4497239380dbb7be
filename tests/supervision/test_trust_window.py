"""The arithmetic of trust: a leader stops acting before anybody may depose it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.errors import ConfigurationError, NotLeader
from callboard.actors.settings import Settings
from callboard.supervision.leadership import CurrentLeadership, Leadership
from callboard.supervision.trust_window import TrustWindow
from callboard.testing import FakeClock
from callboard.tree import RESTART_BACKOFF

windows = st.floats(min_value=0.01, max_value=3600).map(TrustWindow)
seconds = st.floats(min_value=0, max_value=10_000)


def test_the_default_is_within_what_is_promised():
    window = TrustWindow(6)
    assert (window.proof_interval_seconds, window.answer_limit_seconds, window.silence_limit_seconds) == (1.5, 4.5, 9)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_window_is_more_than_nothing(value):
    with pytest.raises(ConfigurationError, match=f"trust window {value}: expected seconds, more than 0"):
        TrustWindow(value)


@given(windows, seconds, seconds, seconds)
def test_nobody_trusts_a_proof_of_a_leader_that_may_be_deposed(window, asked_at, travels, later):
    """The heartbeat is written when the question has arrived: later than it was asked, never earlier."""
    heartbeat_at = asked_at + travels
    now = heartbeat_at + later
    if now - heartbeat_at > window.silence_limit_seconds:
        assert not window.trusts(asked_at, now)


@given(windows, seconds)
def test_a_proof_comes_in_time_or_not_at_all(window, asked_at):
    latest_answer = asked_at + window.proof_interval_seconds + window.answer_limit_seconds
    assert latest_answer == pytest.approx(window.expires_at(asked_at))


@given(windows, seconds, seconds)
def test_trust_ends_once_and_for_all(window, asked_at, later):
    assert window.trusts(asked_at, asked_at + later) == (asked_at + later < asked_at + window.seconds)


@given(windows, st.floats(0, 10), st.floats(0, 10))
def test_nobody_takes_over_before_the_old_leader_distrusts_itself(window, answer, restart):
    """Not even at once: the sum begins with more than the window."""
    assert window.seconds < window.takeover_seconds(answer) <= window.unlucky_takeover_seconds(answer, restart)


def test_promise_5_the_default_times_add_up_to_less_than_15_seconds():
    """With a database that takes a quarter of a second for each answer, and the delays of the runtime's own tree."""
    window = TrustWindow(Settings().leader_trust_window_seconds)
    _, longest_restart = RESTART_BACKOFF.delay_bounds(1)
    assert window.takeover_seconds(0.25) == pytest.approx(10.65)
    assert window.takeover_seconds(1.7) <= 15
    assert window.unlucky_takeover_seconds(0.25, longest_restart) == pytest.approx(14.75)


def test_a_leadership_hands_its_term_out_while_it_is_trusted(clock: FakeClock):
    leadership = Leadership(7, clock.monotonic(), TrustWindow(6), clock)
    assert leadership.fence() == 7
    clock.advance(5)
    asked_at = clock.monotonic()
    clock.advance(0.5)
    assert leadership.prove(asked_at)
    clock.advance(5)
    assert leadership.fence() == 7
    clock.advance(0.5)
    with pytest.raises(NotLeader, match="term 7"):
        leadership.fence()
    assert not leadership.prove(clock.monotonic()), "a term that has lapsed is not taken up again"
    assert not leadership.trusted


def test_an_ended_leadership_hands_nothing_out(clock: FakeClock):
    current = CurrentLeadership()
    assert not current.leads()
    leadership = Leadership(7, clock.monotonic(), TrustWindow(6), clock)
    current.begin(leadership)
    assert current.leads()
    current.end()
    current.end()
    assert not current.leads()
    with pytest.raises(NotLeader):
        leadership.fence()
