"""When a process has run its last job."""

from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.executors.process_limits import ProcessLimits, has_room, is_worn_out

LIMITS = ProcessLimits(max_jobs=10, max_memory_bytes=1000)


def test_worn_out_by_jobs_or_by_memory() -> None:
    assert not is_worn_out(9, 1000, LIMITS)
    assert is_worn_out(10, 0, LIMITS)
    assert is_worn_out(1, 1001, LIMITS)


@given(st.integers(0, 10**6), st.integers(0, 2**40), st.integers(1, 2**40))
def test_a_fresh_process_has_room_for_everybody_and_a_used_one_for_half(
    jobs_run: int, memory_bytes: int, limit_bytes: int
) -> None:
    assert has_room(0, memory_bytes, limit_bytes)
    assert has_room(jobs_run + 1, memory_bytes, limit_bytes) == (memory_bytes * 2 <= limit_bytes)
