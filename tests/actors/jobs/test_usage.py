"""How much of the limits is used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.jobs.limits import Limit, Limits, LimitScope
from callboard.actors.jobs.usage import QUOTAS, QuotaUsage, usages

QUEUE, KIND, OWNER, KEY = LimitScope
NAMES = st.sampled_from(["a", "b", "c"])
COUNTS = st.dictionaries(st.tuples(st.sampled_from(LimitScope), NAMES), st.integers(1, 9))


def test_each_of_the_stars_names_is_held_against_it_and_the_highest_is_told() -> None:
    limits = Limits([Limit(OWNER, "*", max_running=4, max_queued=10), Limit(OWNER, "big", max_running=100)])
    running = {(OWNER, "a"): 1, (OWNER, "b"): 4, (OWNER, "big"): 50, (QUEUE, "q"): 99}
    queued = {(OWNER, "a"): 9, (OWNER, "big"): 1_000, (QUEUE, "q"): 99}
    assert usages(limits, running, {}, queued) == (
        QuotaUsage("owner_running", 1.0, 1),
        QuotaUsage("owner_queued", 0.9, 0),
    )


def test_a_limit_that_nobody_uses_is_at_nothing_and_one_of_nothing_is_full() -> None:
    limits = Limits([Limit(QUEUE, "idle", max_running=5), Limit(KIND, "stopped", max_running=0)])
    assert usages(limits, {}, {}, {}) == (QuotaUsage("queue_running", 0.0, 0), QuotaUsage("kind_running", 1.0, 1))


def test_a_key_has_its_jobs_own_limit_unless_one_is_set_for_it() -> None:
    running = {(KEY, "own"): 2, (KEY, "set"): 2}
    own_limits = {"own": 2, "set": 2}
    limits = Limits([Limit(KEY, "set", max_running=8)])
    assert usages(limits, running, own_limits, {}) == (QuotaUsage("key_running", 1.0, 1),)
    assert usages(Limits(), running, {}, {}) == ()


@given(COUNTS, COUNTS, st.integers(1, 9))
def test_somebody_is_at_the_limit_where_the_highest_ratio_is_one_or_more(running, queued, bound) -> None:
    limits = Limits(
        Limit(scope, "*", max_running=bound, max_queued=bound if scope in (QUEUE, OWNER) else None)
        for scope in LimitScope
    )
    found = usages(limits, running, {}, queued)
    assert {usage.quota for usage in found} <= set(QUOTAS)
    for usage in found:
        scope, _, kind = usage.quota.partition("_")
        jobs = [count for (of, _), count in (running if kind == "running" else queued).items() if of == scope]
        assert usage.max_ratio == max(jobs) / bound
        assert usage.at_limit == sum(count >= bound for count in jobs)
