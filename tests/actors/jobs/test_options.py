"""What a spawn may say besides the arguments."""

from datetime import UTC, datetime
from typing import Any

import pytest

from callboard.actors.errors import ConfigurationError
from callboard.actors.jobs.options import OPTION_NAMES, SpawnOptions


def test_what_is_said_wins_over_what_was_said_and_the_rest_stays() -> None:
    first = SpawnOptions().override({"queue": "cpu", "priority": -5})
    second = first.override({"priority": 7})
    assert (second.queue, second.priority, second.max_attempts) == ("cpu", 7, 3)
    assert (first.priority, SpawnOptions().queue) == (-5, "default")


def test_nothing_said_changes_nothing() -> None:
    options = SpawnOptions(tags=("a",))
    assert options.override({}) is options


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("queue", ""),
        ("queue", "a\nb"),
        ("queue", "q" * 101),
        ("priority", 2**15),
        ("priority", "high"),
        ("max_attempts", 0),
        ("timeout_seconds", 0),
        ("timeout_seconds", float("inf")),
        ("timeout_seconds", float("nan")),
        ("delay_seconds", -1),
        ("delay_seconds", 1e12),
        ("run_at", datetime(2026, 1, 1)),  # noqa: DTZ001 - a moment without a zone is the point
        ("deadline_seconds", -1),
        ("unique_key", ""),
        ("owner", "o" * 201),
        ("tags", ["t"] * 51),
        ("tags", [""]),
        ("unique_key", "a\0b"),
        ("owner", "\ud800"),
        ("tags", ["fine", "a\0b"]),
        ("metadata", {"a": "\ud800"}),
        ("metadata", {"a": float("nan")}),
        ("metadata", [1]),
        ("hold", "perhaps"),
        ("prioritty", 1),
    ],
)
def test_what_does_not_fit_is_named_with_what_came_and_the_known_options(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        SpawnOptions().override({option: value})
    message = str(refused.value)
    assert option in message
    assert "got " in message or "Extra inputs" in message
    assert "max_attempts" in message


def test_a_moment_with_a_zone_is_accepted() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert SpawnOptions().override({"run_at": moment}).run_at == moment


def test_the_names_are_sorted_and_complete() -> None:
    assert set(OPTION_NAMES) == set(SpawnOptions.model_fields)
    assert list(OPTION_NAMES) == sorted(OPTION_NAMES)
