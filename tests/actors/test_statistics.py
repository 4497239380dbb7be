"""Counters that are read by other threads while they are counted."""

from typing import Any

from callboard.actors.statistics import ClassCounters


class Growing(list[int]):
    """Buckets that a snapshot may be taken of after every single change."""

    def __setitem__(self, place: Any, count: Any) -> None:
        assert count >= self[place]
        super().__setitem__(place, count)


def test_no_bucket_goes_down_while_slow_messages_are_counted() -> None:
    counters = ClassCounters()
    counters.buckets = Growing(counters.buckets)
    counters.add_handled(3, 0.5, [0.002, 0.3])
    counters.add_handled(1, 2.0, [2.0])
    counters.add_handled(2, 0.0001, None)
    assert counters.buckets == [3, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0]
