"""Whether a spawn is taken or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.errors import QueueFull
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.limits import Limit, Limits, LimitScope
from callboard.actors.jobs.quotas import QuotaCheck, quota_checks, require_room
from callboard.actors.jobs.types import NewJob


def job(queue: str = "q", owner: str | None = None) -> NewJob:
    return NewJob(uuid7(), "kind", queue, "{}", owner=owner)


def test_each_bound_is_checked_once_with_all_that_is_added_in_one_order() -> None:
    limits = Limits([Limit(LimitScope.QUEUE, "q", max_queued=5), Limit(LimitScope.OWNER, "*", max_queued=2)])
    jobs = [job(owner="b"), job(owner="a"), job(), job("free", owner="a")]
    assert quota_checks(jobs, limits) == [
        QuotaCheck(LimitScope.OWNER, "a", 2, 2),
        QuotaCheck(LimitScope.OWNER, "b", 2, 1),
        QuotaCheck(LimitScope.QUEUE, "q", 5, 3),
    ]
    assert quota_checks(jobs, Limits([Limit(LimitScope.QUEUE, "q", max_running=1)])) == []


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 50))
def test_a_spawn_is_taken_if_and_only_if_all_of_it_fits(bound: int, adding: int, queued: int) -> None:
    check = QuotaCheck(LimitScope.QUEUE, "q", bound, adding)
    if queued + adding <= bound:
        require_room(check, queued)
    else:
        with pytest.raises(QueueFull, match="queue 'q' may have") as full:
            require_room(check, queued)
        assert full.value.retry_after_seconds > 0
