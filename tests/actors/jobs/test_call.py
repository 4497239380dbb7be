"""One call of a function: whatever happens is an outcome."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from callboard.actors.errors import InvalidArguments, InvalidResult, PayloadTooLarge
from callboard.actors.jobs.call import Call, Judged, Outcome, Raised, Returned, was_cancelled
from callboard.actors.jobs.context import JobContext
from callboard.actors.jobs.definition import JobRegistry, job
from callboard.actors.jobs.judgement import Failure
from tests.actors.jobs.builders import Services, claimed

LIMIT = 1000


def run(function: Callable[..., Any], arguments: str = "{}") -> Outcome:
    """Run it both ways, as a plain function and as a coroutine function; the outcomes are alike."""

    async def as_coroutine(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    as_coroutine.__annotations__ = function.__annotations__
    as_coroutine.__signature__ = __import__("inspect").signature(function)  # type: ignore[attr-defined]
    attempt = claimed(arguments=arguments)
    context = JobContext(attempt, Services())
    blocking = Call(job(registry=JobRegistry())(function), context, attempt, LIMIT).run_blocking()
    ended: list[Outcome] = []
    asyncio.run(Call(job(registry=JobRegistry())(as_coroutine), context, attempt, LIMIT).run(ended.append))
    [awaited] = ended
    assert type(blocking) is type(awaited)
    if isinstance(blocking, Raised) and isinstance(awaited, Raised):
        assert type(blocking.exception) is type(awaited.exception)
    else:
        assert blocking == awaited
    return blocking


def raised(outcome: Outcome) -> BaseException:
    assert isinstance(outcome, Raised), outcome
    return outcome.exception


def test_arguments_in_result_out() -> None:
    def add(a: int, b: int = 2) -> int:
        return a + b

    assert run(add, '{"a":1}') == Returned("3")


@pytest.mark.parametrize("exception", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_the_function_raises_is_an_outcome(exception: BaseException) -> None:
    def fail() -> None:
        raise exception

    assert raised(run(fail)) is exception


def test_arguments_that_do_not_fit_are_an_outcome_and_the_function_is_not_called() -> None:
    called = []

    def function(a: int) -> None:
        called.append(a)

    assert isinstance(raised(run(function, '{"a":"many"}')), InvalidArguments)
    assert called == []


@pytest.mark.parametrize(
    "value",
    [threading.Lock(), object(), "\ud800", b"\xff", (value := [1], value.append(value), value)[2]],  # type: ignore[func-returns-value,list-item]
)
def test_a_result_that_cannot_be_stored_says_which_type_came_and_what_to_do(value: Any) -> None:
    def function():  # type: ignore[no-untyped-def]
        return value

    exception = raised(run(function))
    assert isinstance(exception, InvalidResult)
    assert f"returned {type(value).__name__}, which cannot be stored" in str(exception)
    assert "Return what its annotation says" in str(exception)


def test_a_result_that_is_not_what_the_annotation_says() -> None:
    def function() -> int:
        return "many"  # type: ignore[return-value]

    assert "returned str" in str(raised(run(function)))


@pytest.mark.parametrize("character", ["x", "ä", "\U0001f680"])
def test_the_limit_of_results_counts_bytes_and_is_exact(character: str) -> None:
    fits = character * ((LIMIT - 2) // len(character.encode()))
    fits += "x" * (LIMIT - 2 - len(fits.encode()))

    def within() -> str:
        return fits

    def beyond() -> str:
        return fits + "x"

    assert run(within) == Returned(f'"{fits}"')
    exception = raised(run(beyond))
    assert isinstance(exception, PayloadTooLarge)
    assert "returned 1,001 bytes of JSON; at most 1,000" in str(exception)


def test_was_cancelled() -> None:
    assert was_cancelled(Raised(asyncio.CancelledError()))
    assert was_cancelled(Judged(Failure({}, was_cancelled=True)))
    assert not was_cancelled(Judged(Failure({})))
    assert not was_cancelled(Raised(ValueError()))
    assert not was_cancelled(Returned(None))
