"""How long a standby waits for an answer."""

from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.patience import Patience

seconds = st.floats(min_value=0.1, max_value=100)


def after(missed: int) -> Patience:
    patience = Patience()
    for _ in range(missed):
        patience.missed()
    return patience


def test_it_is_short_and_doubles_up_to_the_bound_until_an_answer_comes():
    patience = Patience()
    waits = []
    for _ in range(4):
        waits.append(patience.wait_seconds(2.4, 6.3))
        patience.missed()
    assert waits == [2.4, 4.8, 6.3, 6.3]
    patience.answered()
    assert patience.wait_seconds(2.4, 6.3) == 2.4


@given(st.integers(0, 2000), seconds, seconds)
def test_it_is_never_less_than_at_first_nor_more_than_the_greater_of_both(missed, first, most):
    assert first <= after(missed).wait_seconds(first, most) <= max(first, most)
    assert after(missed).wait_seconds(first, most) <= after(missed + 1).wait_seconds(first, most)
