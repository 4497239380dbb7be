"""Counting running jobs against limits."""

from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.jobs.types import QueueDemand
from callboard.actors.slots import Slots


def test_what_is_free_is_what_can_be_claimed() -> None:
    slots = Slots({"a": 3, "b": 1})
    assert slots.demands(100) == [QueueDemand("a", 3), QueueDemand("b", 1)]
    slots.take("a")
    slots.take("b")
    assert slots.demands(100) == [QueueDemand("a", 2)]
    assert slots.used == {"a": 1, "b": 1}
    slots.free("b")
    assert slots.demands(100) == [QueueDemand("a", 2), QueueDemand("b", 1)]


def test_a_claim_has_a_bound_of_its_own() -> None:
    assert Slots({"a": 1000, "b": 2}).demands(5) == [QueueDemand("a", 5), QueueDemand("b", 2)]


def test_a_queue_is_worth_a_claim_when_a_quarter_is_free() -> None:
    slots = Slots({"a": 8, "b": 1})
    for _ in range(7):
        slots.take("a")
    slots.take("b")
    assert slots.worthwhile_demands(["a", "b"], 100) == []
    slots.free("a")
    slots.free("b")
    assert slots.worthwhile_demands(["a", "b"], 100) == [QueueDemand("a", 2), QueueDemand("b", 1)]
    assert slots.worthwhile_demands(["b"], 100) == [QueueDemand("b", 1)]
    assert slots.worthwhile_demands(["a", "b"], 100, {"b": 1}) == [QueueDemand("a", 2)]
    assert slots.worthwhile_demands(["a"], 100, {"a": 1}) == []


@given(st.dictionaries(st.text(), st.integers(1, 50), min_size=1), st.integers(1, 60), st.data())
def test_claims_of_all_demands_never_exceed_the_limits(
    limits: dict[str, int], at_most: int, data: st.DataObject
) -> None:
    slots = Slots(limits)
    for queue in data.draw(st.lists(st.sampled_from(sorted(limits)), max_size=40)):
        if slots.used[queue] < limits[queue]:
            slots.take(queue)
    worthwhile = slots.worthwhile_demands(limits, at_most)
    demands = slots.demands(at_most)
    assert set(worthwhile) <= set(demands)
    for queue, limit in demands:
        assert 1 <= limit <= min(at_most, limits[queue] - slots.used[queue])
