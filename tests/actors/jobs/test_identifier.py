"""UUIDv7 ids."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise
from uuid import RFC_4122

from callboard.actors.jobs.identifier import Uuid7Source, uuid7


def test_version_and_variant_are_those_of_rfc_9562() -> None:
    for _ in range(100):
        value = uuid7()
        assert (value.version, value.variant) == (7, RFC_4122)


def test_the_first_48_bits_are_unix_milliseconds() -> None:
    moment = int(datetime(2030, 1, 2, tzinfo=UTC).timestamp() * 1000)
    value = Uuid7Source(lambda: moment * 1_000_000 + 123_456)()
    assert value.int >> 80 == moment
    assert (value.int >> 64) & 0xFFF == 123_456 * 4096 // 1_000_000


def test_ids_grow_when_the_clock_stands_still_and_when_it_steps_back() -> None:
    readings = iter([10**18, 10**18, 10**18, 10**18 - 10**12, 10**18 + 5])
    source = Uuid7Source(lambda: next(readings))
    values = [source() for _ in range(5)]
    assert all(earlier < later for earlier, later in pairwise(values))


def test_ids_of_one_thread_grow_and_those_of_all_differ() -> None:
    def make(_: int) -> list[object]:
        return [uuid7() for _ in range(2_000)]

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(8)))
    assert all(values == sorted(values) for values in made)  # type: ignore[type-var]
    assert len({value for values in made for value in values}) == 16_000


def test_more_ids_than_fit_into_a_millisecond_go_on_into_the_next() -> None:
    source = Uuid7Source(lambda: 10**18)
    first, *_, last = [source() for _ in range(5_000)]
    assert (last.int >> 80) - (first.int >> 80) >= 1


def test_many_ids_grow_and_come_before_those_made_later() -> None:
    source = Uuid7Source(lambda: 10**18)
    values = [source(), *source.many(5_000), source()]
    assert all(earlier < later for earlier, later in pairwise(values))
    assert {(value.version, value.variant) for value in values} == {(7, RFC_4122)}
    assert len({value.int & (2**62 - 1) for value in values}) == 5_002
    assert source.many(0) == []
