"""Every status × every event, and what holds for all of them."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.errors import InvalidTransition
from callboard.actors.jobs.decide import (
    Cancel,
    DeadlinePass,
    Event,
    Fail,
    LeaseExpire,
    Park,
    Policy,
    Release,
    Snooze,
    SoftStop,
    Succeed,
    TimeOut,
    Transition,
    UnknownKind,
    decide,
)
from callboard.actors.jobs.state import EDGES, UNCOUNTED, Reason, Status, WaitingOn
from tests.actors.jobs.builders import JOB_ID, NOW, Job

POLICY = Policy(unknown_kind_grace_seconds=100, unknown_kind_delay_seconds=15)
ERROR = {"type": "ValueError", "message": "no", "traceback": None}

EVENTS: dict[str, Event] = {
    "release": Release(),
    "succeed": Succeed('{"a": 1}'),
    "fail": Fail(ERROR, 5.0),
    "fail for good": Fail(ERROR, 5.0, retryable=False),
    "time out": TimeOut(ERROR, 5.0),
    "lease expire": LeaseExpire(5.0),
    "soft stop": SoftStop(),
    "snooze": Snooze(60.0),
    "park": Park(WaitingOn.CHILDREN),
    "cancel": Cancel(),
    "deadline pass": DeadlinePass(),
    "unknown kind, young": UnknownKind(99.9),
    "unknown kind, old": UnknownKind(100.0),
}

CREATED, PENDING, RUNNING = Status.CREATED, Status.PENDING, Status.RUNNING
COMPLETED, FAILED, CANCELLED = Status.COMPLETED, Status.FAILED, Status.CANCELLED

EXPECTED: dict[tuple[Status, str], tuple[Status, Reason]] = {
    (CREATED, "release"): (PENDING, Reason.RELEASED),
    (CREATED, "cancel"): (CANCELLED, Reason.CANCELLED),
    (CREATED, "deadline pass"): (FAILED, Reason.DEADLINE),
    (CREATED, "unknown kind, old"): (FAILED, Reason.UNKNOWN_KIND),
    (PENDING, "cancel"): (CANCELLED, Reason.CANCELLED),
    (PENDING, "deadline pass"): (FAILED, Reason.DEADLINE),
    (PENDING, "unknown kind, old"): (FAILED, Reason.UNKNOWN_KIND),
    (RUNNING, "succeed"): (COMPLETED, Reason.SUCCEEDED),
    (RUNNING, "fail"): (PENDING, Reason.ERROR),
    (RUNNING, "fail for good"): (FAILED, Reason.NOT_RETRYABLE),
    (RUNNING, "time out"): (PENDING, Reason.TIMEOUT),
    (RUNNING, "lease expire"): (PENDING, Reason.LEASE_EXPIRED),
    (RUNNING, "soft stop"): (PENDING, Reason.SHUTDOWN),
    (RUNNING, "snooze"): (PENDING, Reason.SNOOZED),
    (RUNNING, "park"): (PENDING, Reason.PARKED),
    (RUNNING, "cancel"): (CANCELLED, Reason.CANCELLED),
    (RUNNING, "deadline pass"): (FAILED, Reason.DEADLINE),
    (RUNNING, "unknown kind, young"): (PENDING, Reason.UNKNOWN_KIND),
    (RUNNING, "unknown kind, old"): (FAILED, Reason.UNKNOWN_KIND),
}
"""Of a job in its first of three attempts, without a deadline. Whatever is not here is an InvalidTransition."""


def test_the_examples_have_every_kind_of_event() -> None:
    assert {type(event) for event in EVENTS.values()} == set(Event.__args__)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("name", EVENTS)
def test_every_status_and_every_event(status: Status, name: str) -> None:
    job = Job(status=status)
    expected = EXPECTED.get((status, name))
    if expected is None:
        with pytest.raises(InvalidTransition) as refused:
            decide(job, EVENTS[name], POLICY, NOW)
        assert refused.value.job_id == JOB_ID
        assert refused.value.actual_status == status
        assert type(EVENTS[name]).__name__ in str(refused.value)
    else:
        transition = decide(job, EVENTS[name], POLICY, NOW)
        assert (transition.to_status, transition.reason) == expected
        assert transition[:2] == (JOB_ID, status)
        assert transition.token == job.token


@pytest.mark.parametrize("status", [CREATED, PENDING, COMPLETED, FAILED, CANCELLED])
@pytest.mark.parametrize("name", ["fail", "time out", "lease expire", "snooze"])
def test_a_late_report_does_not_fail_a_waiting_job_by_its_deadline(status: Status, name: str) -> None:
    with pytest.raises(InvalidTransition):
        decide(Job(status=status, deadline=NOW), EVENTS[name], POLICY, NOW)


# What a transition carries


def test_success_carries_the_result() -> None:
    assert decide(Job(), Succeed("[1]"), POLICY, NOW) == Transition(
        JOB_ID, RUNNING, COMPLETED, 7, Reason.SUCCEEDED, counted=True, result="[1]"
    )


@pytest.mark.parametrize(
    ("event", "reason", "last_reason"),
    [
        (Fail(ERROR, 5.0), Reason.ERROR, Reason.ATTEMPTS_EXHAUSTED),
        (TimeOut(ERROR, 5.0), Reason.TIMEOUT, Reason.TIMEOUT),
        (LeaseExpire(5.0), Reason.LEASE_EXPIRED, Reason.LEASE_EXPIRED),
    ],
)
def test_a_failed_attempt_is_tried_again_until_the_last(event: Event, reason: Reason, last_reason: Reason) -> None:
    again = decide(Job(attempt=2), event, POLICY, NOW)
    assert (again.to_status, again.reason, again.counted, again.delay_seconds) == (PENDING, reason, True, 5.0)
    last = decide(Job(attempt=3), event, POLICY, NOW)
    assert (last.to_status, last.reason, last.counted) == (FAILED, last_reason, True)
    assert again.error is not None
    assert last.error is not None


def test_an_expired_lease_says_whose_it_was() -> None:
    error = decide(Job(attempt=2), LeaseExpire(), POLICY, NOW).error
    assert error == {
        "type": "LeaseExpired",
        "message": "the worker of attempt 2 died or stopped answering",
        "traceback": None,
    }


@pytest.mark.parametrize(
    ("event", "delay"),
    [
        (SoftStop(), 0.0),
        (Snooze(60.0), 60.0),
        (Park(WaitingOn.CHILDREN), 0.0),
        (UnknownKind(0.0), POLICY.unknown_kind_delay_seconds),
    ],
)
def test_what_is_not_the_jobs_fault_gives_the_attempt_back(event: Event, delay: float) -> None:
    transition = decide(Job(attempt=3, max_attempts=3), event, POLICY, NOW)
    assert (transition.to_status, transition.counted, transition.delay_seconds) == (PENDING, False, delay)


def test_parking_says_for_what() -> None:
    assert decide(Job(), Park(WaitingOn.CHILDREN), POLICY, NOW).waiting_on is WaitingOn.CHILDREN


# Deadlines


@pytest.mark.parametrize("event", [Fail(ERROR, 10.0), TimeOut(ERROR, 10.0), LeaseExpire(10.0), Snooze(10.0)])
@pytest.mark.parametrize(("left", "fails"), [(-1.0, True), (9.0, True), (10.0, True), (10.001, False)])
def test_a_try_that_could_only_start_past_the_deadline_is_not_made(event: Event, left: float, fails: bool) -> None:
    transition = decide(Job(deadline=NOW + timedelta(seconds=left)), event, POLICY, NOW)
    if fails:
        assert (transition.to_status, transition.reason) == (FAILED, Reason.DEADLINE)
        assert transition.error is not None
    else:
        assert transition.to_status is PENDING


def test_the_error_of_the_last_try_survives_the_deadline() -> None:
    assert decide(Job(deadline=NOW), Fail(ERROR, 1.0), POLICY, NOW).error == ERROR


def test_success_past_the_deadline_is_success() -> None:
    assert decide(Job(deadline=NOW - timedelta(days=1)), Succeed(None), POLICY, NOW).to_status is COMPLETED


# For all of them

errors: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({"type": st.text(), "message": st.text()})
delays = st.floats(0, 1e6)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Release),
    st.builds(Succeed, st.none() | st.text()),
    st.builds(Fail, errors, delays, st.booleans()),
    st.builds(TimeOut, errors, delays),
    st.builds(LeaseExpire, delays),
    st.builds(SoftStop),
    st.builds(Snooze, delays),
    st.builds(Park, st.sampled_from(WaitingOn)),
    st.builds(Cancel),
    st.builds(DeadlinePass),
    st.builds(UnknownKind, delays),
)
deadlines: st.SearchStrategy[datetime | None] = st.none() | st.integers(-1000, 1000).map(
    lambda seconds: NOW + timedelta(seconds=seconds)
)
jobs = st.builds(
    Job,
    status=st.sampled_from(Status),
    attempt=st.integers(0, 40),
    max_attempts=st.integers(1, 40),
    token=st.integers(0, 2**31),
    deadline=deadlines,
)


@given(jobs, events)
def test_every_transition_is_an_edge_and_terminal_is_final(job: Job, event: Event) -> None:
    try:
        transition = decide(job, event, POLICY, NOW)
    except InvalidTransition:
        return
    assert transition.from_status is job.status
    assert not job.status.is_terminal
    assert transition.reason in EDGES[transition.from_status, transition.to_status]
    assert transition.token == job.token


@given(jobs, events)
def test_only_these_reasons_give_an_attempt_back_and_only_of_a_job_that_goes_on(job: Job, event: Event) -> None:
    try:
        transition = decide(job, event, POLICY, NOW)
    except InvalidTransition:
        return
    gives_back = transition.to_status is PENDING and transition.reason in UNCOUNTED
    assert transition.counted is not gives_back


@given(jobs, events)
def test_an_ended_job_has_no_delay_and_a_failed_one_says_why(job: Job, event: Event) -> None:
    try:
        transition = decide(job, event, POLICY, NOW)
    except InvalidTransition:
        return
    if transition.to_status.is_terminal:
        assert transition.delay_seconds == 0.0
    assert (transition.error is not None) or transition.to_status is not FAILED
    assert (transition.result is None) or transition.to_status is COMPLETED


@given(jobs, events)
def test_a_failed_attempt_never_waits_beyond_the_deadline(job: Job, event: Event) -> None:
    try:
        transition = decide(job, event, POLICY, NOW)
    except InvalidTransition:
        return
    if isinstance(event, Fail | TimeOut | LeaseExpire | Snooze) and transition.to_status is PENDING and job.deadline:
        assert NOW + timedelta(seconds=transition.delay_seconds) < job.deadline


@given(st.integers(1, 8), deadlines, st.lists(events, max_size=60))
def test_over_any_life_attempts_stay_within_their_bound(
    max_attempts: int, deadline: datetime | None, life: list[Event]
) -> None:
    """Claims between events, as a store makes them: the attempt counts up at a claim, down where it is given back."""
    job = Job(status=CREATED, attempt=0, max_attempts=max_attempts, token=0, deadline=deadline)
    counted = 0
    for event in life:
        if job.status is PENDING:
            job = replace(job, status=RUNNING, attempt=job.attempt + 1, token=job.token + 1)
        assert 0 <= job.attempt <= max_attempts
        try:
            transition = decide(job, event, POLICY, NOW)
        except InvalidTransition:
            continue
        ended_attempt = job.status is RUNNING
        counted += ended_attempt and transition.counted
        job = replace(job, status=transition.to_status, attempt=job.attempt - (not transition.counted))
        assert job.attempt == counted
    assert counted <= max_attempts
