"""Which jobs may start under limits; what a token bucket holds."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.jobs.limits import Candidate, Limit, Limits, LimitScope, admit, refill, requirements

NAMES = st.sampled_from(["a", "b"])
BOUNDS = st.one_of(st.none(), st.integers(0, 4))


@st.composite
def some_limits(draw: st.DrawFn) -> Limits:
    limits = []
    for scope in LimitScope:
        for name in ("a", "*"):
            max_running, rate = draw(BOUNDS), draw(BOUNDS)
            if max_running is not None or rate is not None:
                limits.append(Limit(scope, name, max_running=max_running, rate=rate))
    return Limits(limits)


@st.composite
def some_candidates(draw: st.DrawFn) -> list[Candidate]:
    def one(number: int) -> Candidate:
        key = draw(st.one_of(st.none(), NAMES))
        bound = draw(st.integers(1, 3)) if key is not None else None
        return Candidate(UUID(int=number), draw(NAMES), draw(NAMES), draw(st.one_of(st.none(), NAMES)), key, bound)

    return [one(number) for number in range(draw(st.integers(0, 12)))]


def permits(job: Candidate, limits: Limits) -> list[str]:
    return [one.permit for one in requirements(job, limits)]


@given(some_candidates(), some_limits(), st.dictionaries(NAMES, st.integers(0, 3)), st.integers(0, 8))
def test_no_limit_is_exceeded_and_nobody_is_hindered_without_cause(
    candidates: list[Candidate], limits: Limits, used: dict[str, int], room: int
) -> None:
    running = {f"{scope.value}:{name}": count for scope in LimitScope for name, count in used.items()}
    tokens = {name: float(count) for name, count in running.items()}
    at_most = {"a": room, "b": room}
    admission = admit(candidates, limits, running, tokens, at_most)

    started: list[Candidate] = []
    for job in candidates:
        if job.id in admission.permits:
            started.append(job)
            continue
        # Whom it leaves out, some limit or its queue leaves no room for, given those that started before.
        taken = Counter(name for other in started for name in permits(other, limits))
        full = [
            (one.max_running is not None and running.get(one.permit, 0) + taken[one.permit] >= one.max_running)
            or (one.rate is not None and tokens.get(one.permit, one.rate) - taken[one.permit] < 1)
            for one in requirements(job, limits)
        ]
        assert any(full) or sum(other.queue == job.queue for other in started) == room

    taken = Counter(name for job in started for name in permits(job, limits))
    for job in started:
        for one in requirements(job, limits):
            if one.rate is not None:
                assert taken[one.permit] <= tokens.get(one.permit, one.rate)
    for limit in limits:
        if limit.name != "*" and limit.max_running is not None and limit.scope is not LimitScope.KEY:
            name = f"{limit.scope.value}:{limit.name}"
            assert taken[name] <= max(0, limit.max_running - running.get(name, 0))
    assert set(admission.spent) <= set(taken)
    assert list(admission.permits) == [job.id for job in started]


@given(some_candidates(), some_limits())
def test_who_is_admitted_does_not_depend_on_those_behind(candidates: list[Candidate], limits: Limits) -> None:
    room = {"a": 99, "b": 99}
    whole = admit(candidates, limits, {}, {}, room).permits
    half = admit(candidates[: len(candidates) // 2], limits, {}, {}, room).permits
    assert list(whole)[: len(half)] == list(half)


def test_a_job_that_one_limit_hinders_takes_nothing_of_the_others() -> None:
    limits = Limits([Limit(LimitScope.OWNER, "o", max_running=1), Limit(LimitScope.KEY, "k", max_running=0)])
    hindered = Candidate(UUID(int=1), "q", "x", "o", "k", 1)
    free = Candidate(UUID(int=2), "q", "x", "o", None, None)
    admission = admit([hindered, free], limits, {}, {}, {"q": 9})
    assert admission.permits == {free.id: ("owner:o",)}
    assert admission.exhausted == {"key:k"}


def test_whom_a_rate_hinders_is_told_from_whom_a_limit_hinders() -> None:
    limits = Limits(
        [
            Limit(LimitScope.KIND, "x", rate=2),
            Limit(LimitScope.OWNER, "o", max_running=1),
            Limit(LimitScope.QUEUE, "r", rate=1),
        ]
    )
    jobs = [Candidate(UUID(int=number), "q", "x", None, None, None) for number in range(3)]
    admission = admit(jobs, limits, {}, {"kind:x": 2.5}, {"q": 9})
    assert (len(admission.permits), admission.rate_limited) == (2, {"kind:x"})
    assert admit(jobs[:2], limits, {}, {"kind:x": 2.5}, {"q": 9}).rate_limited == frozenset()
    both = [Candidate(UUID(int=number), "q", "y", "o", None, None) for number in range(3)]
    admission = admit(both, limits, {}, {}, {"q": 9})
    assert (admission.exhausted, admission.rate_limited) == ({"owner:o"}, frozenset())


@given(
    st.floats(0, 100),
    st.floats(-10, 1e6),
    st.integers(0, 1000),
    st.floats(1, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
)
def test_a_bucket_fills_steadily_and_never_overflows(
    tokens: float, elapsed: float, rate: int, period: float, first: float, second: float
) -> None:
    level = refill(tokens, elapsed, rate, period)
    assert min(tokens, rate) <= level <= rate
    whole = refill(0.0, first + second, rate, period)
    assert abs(refill(refill(0.0, first, rate, period), second, rate, period) - whole) <= 1e-6 * max(1.0, rate)


@given(st.lists(st.floats(0, 3), max_size=50), st.integers(1, 10), st.floats(1, 5))
def test_over_any_time_no_more_start_than_the_rate_and_one_full_bucket(
    pauses: list[float], rate: int, period: float
) -> None:
    tokens, started = float(rate), 0
    for pause in pauses:
        tokens = refill(tokens, pause, rate, period)
        started += int(tokens)
        tokens -= int(tokens)
    assert started <= rate + sum(pauses) * rate / period + 1e-6


def test_only_what_bounds_starts_slows_a_queue() -> None:
    waiting = Limits([Limit(LimitScope.QUEUE, "a", max_queued=1), Limit(LimitScope.OWNER, "*", max_queued=1)])
    assert not waiting.bounds_queue("a")
    assert Limits([Limit(LimitScope.QUEUE, "a", rate=1)]).bounds_queue("a")
    assert not Limits([Limit(LimitScope.QUEUE, "a", rate=1)]).bounds_queue("b")
    assert Limits([Limit(LimitScope.QUEUE, "*", max_running=1)]).bounds_queue("b")
    assert Limits([Limit(LimitScope.KIND, "x", max_running=1)]).bounds_queue("b")
    assert not Limits([Limit(LimitScope.KEY, "k", max_running=1)]).bounds_queue("b")
