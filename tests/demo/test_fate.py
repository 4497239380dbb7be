"""Whether a job's end is told from its record and its history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard import Reason, Status
from callboard.demo.fate import ABORTED, CANCELLED, COMPLETED, Fate, completed, difference, exhausted, timed_out

from .histories import make_history, make_record

FATES = [COMPLETED, ABORTED, CANCELLED, completed(failures=2), exhausted(4), timed_out(2)]
fates = pytest.mark.parametrize("fate", FATES, ids=lambda fate: f"{fate.reasons[-1]}-{fate.attempts}")


def test_fates_tell_their_history() -> None:
    assert completed(failures=1).reasons == ("spawned", "claimed", "error", "claimed", "succeeded")
    assert exhausted(2).reasons == ("spawned", "claimed", "error", "claimed", "attempts_exhausted")
    assert timed_out(2).reasons == ("spawned", "claimed", "timeout", "claimed", "timeout")


@fates
def test_an_attempt_is_a_claim(fate: Fate) -> None:
    assert fate.attempts == fate.reasons.count(Reason.CLAIMED)


@fates
def test_a_job_that_met_its_fate_differs_in_nothing(fate: Fate) -> None:
    assert difference(fate, make_record(fate.status, fate.attempts), make_history(*fate.reasons)) is None


@fates
@given(data=st.data())
def test_attempts_given_back_do_not_count(fate: Fate, data: st.DataObject) -> None:
    reasons = list(fate.reasons)
    for _ in range(data.draw(st.integers(0, 3))):
        claim = data.draw(st.sampled_from([i for i, reason in enumerate(reasons) if reason is Reason.CLAIMED]))
        reasons[claim:claim] = [Reason.CLAIMED, data.draw(st.sampled_from([Reason.PARKED, Reason.SHUTDOWN]))]
    assert difference(fate, make_record(fate.status, fate.attempts), make_history(*reasons)) is None


@pytest.mark.parametrize(
    ("status", "attempt", "reasons", "expected"),
    [
        (Status.FAILED, 1, COMPLETED.reasons, "is failed, expected completed"),
        (Status.RUNNING, 1, COMPLETED.reasons[:2], "is running, expected completed"),
        (
            Status.COMPLETED,
            2,
            COMPLETED.reasons,
            "took 2 attempts (spawned > claimed > succeeded), expected 1",
        ),
        (
            Status.COMPLETED,
            1,
            ("spawned", "claimed", "error", "claimed", "succeeded"),
            "took 1 attempts (spawned > claimed > error > claimed > succeeded), expected 1 (spawned",
        ),
        (Status.COMPLETED, 1, ("parked", "succeeded"), "took 1 attempts (parked > succeeded), expected 1 (spawned"),
        (Status.COMPLETED, 1, (), "took 1 attempts (), expected 1 (spawned > claimed > succeeded)"),
    ],
)
def test_every_difference_is_named(status: Status, attempt: int, reasons: tuple[str, ...], expected: str) -> None:
    found = difference(COMPLETED, make_record(status, attempt), make_history(*map(Reason, reasons)))
    assert found is not None
    assert found.startswith(expected)


def test_a_job_whose_worker_died_may_take_more_attempts_but_each_is_in_its_history() -> None:
    history = make_history(
        Reason.SPAWNED,
        Reason.CLAIMED,
        Reason.LEASE_EXPIRED,
        Reason.CLAIMED,
        Reason.PARKED,
        Reason.CLAIMED,
        Reason.SUCCEEDED,
    )
    assert difference(COMPLETED, make_record(attempt=2), history) is None
    assert difference(COMPLETED, make_record(attempt=1), history) == (
        "took 1 attempts (spawned > claimed > lease_expired > claimed > succeeded), expected 2"
    )
    assert difference(COMPLETED, make_record(Status.FAILED, 2), history) == "is failed, expected completed"
