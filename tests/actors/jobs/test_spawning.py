"""From calls to rows; what does not fit is refused before there is a row."""

import itertools
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from callboard.actors.errors import ConfigurationError, InvalidArguments, PayloadTooLarge
from callboard.actors.jobs.definition import JobRegistry, job
from callboard.actors.jobs.spawning import Spawning
from callboard.actors.jobs.state import Status


@job(kind="greet", registry=JobRegistry(), queue="post", max_attempts=5)
def greet(name: str, times: int = 1) -> str:
    return name * times


@job(kind="prior", registry=JobRegistry())
def prior(priority: str) -> str:
    return priority


@pytest.fixture
def spawning() -> Spawning:
    numbers = itertools.count(1)
    return Spawning(lambda count: [UUID(int=next(numbers)) for _ in range(count)], payload_limit_bytes=1000)


def test_arguments_and_options_are_told_apart(spawning: Spawning) -> None:
    row = spawning.one(greet, ("ä",), {"times": 2, "priority": -3, "tags": ("a", "b"), "metadata": {"k": [1]}})
    assert row.arguments == '{"name":"ä","times":2}'
    assert (row.id, row.kind, row.queue, row.max_attempts) == (UUID(int=1), "greet", "post", 5)
    assert (row.priority, row.tags, row.metadata) == (-3, ("a", "b"), '{"k":[1]}')
    assert row.status is Status.PENDING


def test_a_parameter_wins_over_an_option_of_its_name(spawning: Spawning) -> None:
    row = spawning.one(prior, (), {"priority": "mine"})
    assert (row.arguments, row.priority) == ('{"priority":"mine"}', 0)
    assert spawning.one(prior.options(priority=4), (), {"priority": "mine"}).priority == 4


def test_a_spawn_wins_over_configured_options_and_those_over_the_jobs(spawning: Spawning) -> None:
    configured = greet.options(queue="configured", priority=1)
    assert spawning.one(configured, ("a",), {}).queue == "configured"
    assert spawning.one(configured, ("a",), {"queue": "spawn"}).queue == "spawn"
    assert spawning.one(configured, ("a",), {"queue": "spawn"}).priority == 1
    assert spawning.one(greet, ("a",), {}).queue == "post"


def test_every_option_reaches_the_row(spawning: Spawning) -> None:
    at = datetime(2026, 5, 5, tzinfo=UTC)
    options = {
        "queue": "q",
        "priority": 1,
        "max_attempts": 2,
        "timeout_seconds": 3.0,
        "delay_seconds": 4.0,
        "run_at": at,
        "deadline_seconds": 5.0,
        "unique_key": "u",
        "owner": "o",
        "tags": ("t",),
    }
    row = spawning.one(greet, ("a",), {**options, "hold": True, "metadata": {"m": 1}})
    assert {name: getattr(row, name) for name in options} == options
    assert (row.status, row.metadata) == (Status.CREATED, '{"m":1}')


def test_many_calls_share_their_options_and_have_ids_of_their_own(spawning: Spawning) -> None:
    rows = spawning.many(greet, [("a",), {"name": "b", "times": 2}], {"queue": "q"})
    assert [row.arguments for row in rows] == ['{"name":"a"}', '{"name":"b","times":2}']
    assert [row.id.int for row in rows] == [1, 2]
    assert {row.queue for row in rows} == {"q"}
    assert spawning.many(greet, (), {}) == []


@pytest.mark.parametrize(
    ("call", "error", "substance"),
    [
        ((1,), InvalidArguments, r"call 1: greet\(.*name: got int"),
        ((), InvalidArguments, r"call 1: greet\(.*missing a required argument: 'name'"),
        ({"nam": "x"}, InvalidArguments, r"call 1: greet\("),
        ("abc", InvalidArguments, r"call 1: expected a tuple or a mapping of arguments, got str; .*\(value,\)"),
        (5, InvalidArguments, r"call 1: expected a tuple or a mapping of arguments, got int"),
        (("x" * 2000,), PayloadTooLarge, r"call 1: the arguments of greet take 2,011 bytes"),
    ],
)
def test_a_bad_call_among_many_is_named(call: Any, error: type[Exception], substance: str, spawning: Spawning) -> None:
    with pytest.raises(error, match=substance):
        spawning.many(greet, [("a",), call, ("c",)], {})


def test_a_unique_key_fits_one_job_only(spawning: Spawning) -> None:
    with pytest.raises(ConfigurationError, match="unique_key fits one job: use spawn"):
        spawning.many(greet.options(unique_key="u"), [("a",)], {})


@pytest.mark.parametrize("what", [lambda: None, "greet", None, 5])
def test_only_a_job_can_be_spawned(what: Any, spawning: Spawning) -> None:
    with pytest.raises(ConfigurationError, match=f"expects a job, got {type(what).__name__}.*@job"):
        spawning.one(what, (), {})
    with pytest.raises(ConfigurationError, match="expects a job"):
        spawning.many(what, [()], {})


def test_an_unknown_keyword_is_neither_argument_nor_option(spawning: Spawning) -> None:
    with pytest.raises(InvalidArguments, match="prioritty"):
        spawning.one(greet, ("a",), {"prioritty": 1})


@pytest.mark.parametrize(("character", "bytes_each"), [("x", 1), ("ä", 2), ("\u20ac", 3), ("\U0001f680", 4)])
def test_the_limit_counts_bytes_and_is_exact(character: str, bytes_each: int, spawning: Spawning) -> None:
    around = len('{"name":""}')
    fits = (1000 - around) // bytes_each
    padding = "x" * (1000 - around - fits * bytes_each)
    assert len(spawning.one(greet, (character * fits + padding,), {}).arguments.encode()) == 1000
    with pytest.raises(PayloadTooLarge, match=r"1,001 bytes of JSON; at most 1,000 .*CALLBOARD_PAYLOAD_LIMIT_BYTES"):
        spawning.one(greet, (character * fits + padding + "x",), {})
