"""Whose key keeps a new job out, and what becomes of the two."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.jobs.options import SpawnOptions
from callboard.actors.jobs.state import TERMINAL, UNFINISHED, Status
from callboard.actors.jobs.types import OnConflict
from callboard.actors.jobs.uniqueness import Resolution, holds_key, resolve, spanned_statuses

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "statuses"),
    [
        ({}, None),
        ({"unique_seconds": 60}, UNFINISHED | {Status.COMPLETED}),
        ({"on_conflict": "raise"}, UNFINISHED),
        ({"unique_statuses": ["pending"], "unique_seconds": 60, "on_conflict": "replace"}, {Status.PENDING}),
    ],
)
def test_what_a_key_spans(options: dict[str, object], statuses: set[Status] | None) -> None:
    spanned = spanned_statuses(SpawnOptions().override(options))
    assert (None if spanned is None else set(spanned)) == statuses


@given(st.sampled_from(Status), st.integers(0, 3), st.sampled_from(OnConflict))
def test_only_a_job_that_has_not_begun_is_changed(status: Status, token: int, on_conflict: OnConflict) -> None:
    resolution = resolve(status, token, on_conflict)
    if on_conflict is OnConflict.RAISE:
        assert resolution is Resolution.REFUSE
    elif status is Status.RUNNING or status in TERMINAL or token or on_conflict is OnConflict.RETURN:
        assert resolution is Resolution.KEEP
    else:
        assert resolution.value == on_conflict.value


@given(st.sampled_from(Status), st.sets(st.sampled_from(Status), min_size=1), st.integers(0, 9), st.integers(1, 9))
def test_a_key_is_held_within_its_window_and_statuses(
    status: Status, statuses: set[Status], age: int, window: int
) -> None:
    created_at = NOW - timedelta(seconds=age)
    assert holds_key(status, created_at, NOW, tuple(statuses), None) == (status in statuses)
    assert holds_key(status, created_at, NOW, tuple(statuses), float(window)) == (status in statuses and age < window)
