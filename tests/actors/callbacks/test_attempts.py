"""What follows from an attempt to call back."""

from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.callbacks.attempts import (
    JITTER,
    RETRY_DELAYS_SECONDS,
    Attempt,
    CallbackOutcome,
    CallbackState,
    judge,
)

LAST = len(RETRY_DELAYS_SECONDS) + 1
draws = st.floats(0, 1)
codes = st.none() | st.integers(100, 599)


@given(st.integers(1, 30), codes, draws, st.none() | st.floats(0, 1e9), st.booleans())
def test_every_attempt_has_one_verdict(number, code, draw, retry_after, blocked):
    verdict = judge(Attempt(number, code, None, blocked, retry_after), draw)
    succeeded = not blocked and code is not None and 200 <= code < 300
    assert (verdict.state is CallbackState.DELIVERED) == succeeded == (verdict.outcome is CallbackOutcome.SUCCESS)
    goes_on = not succeeded and not blocked and code != 410 and number < LAST
    assert (verdict.state is CallbackState.PENDING) == goes_on == (verdict.outcome is CallbackOutcome.RETRY)
    if goes_on:
        least = RETRY_DELAYS_SECONDS[number - 1]
        assert least <= verdict.delay_seconds <= max(least, min(retry_after or 0, 86_400)) * (1 + JITTER)


def test_the_attempts_are_spread_over_days():
    delays = [judge(Attempt(number, 500), 0.5).delay_seconds for number in range(1, LAST)]
    assert delays == sorted(delays)
    assert 3 * 86_400 < sum(delays) < 4 * 86_400
    assert judge(Attempt(LAST, 500), 0.5).outcome is CallbackOutcome.FAILED


def test_redirects_are_failures_and_gone_is_the_end():
    assert judge(Attempt(1, 302), 0).outcome is CallbackOutcome.RETRY
    assert judge(Attempt(1, 410), 0) == (CallbackState.DEAD, CallbackOutcome.GONE, 0)
    assert judge(Attempt(1, None, "no", blocked=True), 0) == (CallbackState.DEAD, CallbackOutcome.BLOCKED, 0)
    assert judge(Attempt(1, 429, None, retry_after_seconds=60), 0).delay_seconds == 60
