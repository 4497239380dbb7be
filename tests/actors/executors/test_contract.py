"""What holds wherever a job's code runs: on the event loop, in a thread, in a child process."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from callboard.actors.jobs.call import Returned, was_cancelled
from callboard.actors.jobs.decide import Fail, Snooze
from callboard.actors.jobs.types import AttemptKey
from tests.actors.executors.contract_jobs import RELEASE
from tests.actors.executors.places import DEFAULT_DELAY_SECONDS, Place, make_place
from tests.support.waiting import wait_until

PLACES = [
    pytest.param(("async", True), id="coroutine-on-the-loop"),
    pytest.param(("thread", False), id="function-in-a-thread"),
    pytest.param(("thread", True), id="coroutine-in-a-thread"),
    pytest.param(("process", False), id="function-in-a-process"),
    pytest.param(("process", True), id="coroutine-in-a-process"),
]


# One executor for the tests of each place, as for the jobs of a worker: what one leaves behind, the next ones meet.
@pytest.fixture(scope="module", params=PLACES)
def shared_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    name, is_coroutine = request.param
    with make_place(name, is_coroutine=is_coroutine) as place:
        yield place


@pytest.fixture
def place(shared_place: Place) -> Iterator[Place]:
    RELEASE.clear()
    yield shared_place
    RELEASE.set()
    wait_until(lambda: shared_place.executor.abandoned == 0)


@pytest.fixture
def no_thread_is_left() -> None:
    """The executor's own stay for the next test; the session's own guard looks when the last one is over."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (0, "0"),
        ("ä\U0001f680", '"ä\U0001f680"'),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ("x" * 4_000_000, '"' + "x" * 4_000_000 + '"'),
    ],
    ids=["none", "zero", "text", "nested", "four-megabytes"],
)
def test_arguments_arrive_and_results_come_back(place: Place, value: Any, text: str | None) -> None:
    attempt = place.start("echo", value=value)
    assert attempt.result() == text
    assert attempt.started.is_set()


def test_a_generator_is_its_items(place: Place) -> None:
    assert place.start("numbers").result() == "[0,1,2]"


def test_a_result_that_does_not_fit_fails_for_good(place: Place) -> None:
    event = place.start("typed").event()
    assert isinstance(event, Fail)
    assert not event.retryable
    assert "returned str" in event.error["message"]


def test_arguments_that_do_not_fit_fail_for_good(place: Place) -> None:
    event = place.start("failing", wrong=1).event()
    assert isinstance(event, Fail)
    assert (event.error["type"], event.retryable) == ("callboard.actors.errors.InvalidArguments", False)


@pytest.mark.parametrize(
    ("name", "type_", "delay", "retryable"),
    [
        ("os_error", "OSError", DEFAULT_DELAY_SECONDS, True),
        ("value_error", "ValueError", 0.0, False),
        ("unpicklable", "tests.actors.executors.contract_jobs.Unpicklable", 0.0, False),
        ("local", "tests.actors.executors.contract_jobs.Local", 0.0, False),
        ("group", "ExceptionGroup", 0.0, False),
        ("system_exit", "SystemExit", DEFAULT_DELAY_SECONDS, True),
        ("keyboard_interrupt", "KeyboardInterrupt", DEFAULT_DELAY_SECONDS, True),
        ("cancelled", "asyncio.CancelledError", DEFAULT_DELAY_SECONDS, True),
        ("retry", "callboard.actors.jobs.control.Retry", 7.5, True),
        ("retry_by_strategy", "callboard.actors.jobs.control.Retry", DEFAULT_DELAY_SECONDS, True),
        ("abort", "callboard.actors.jobs.control.Abort", 0.0, False),
    ],
)
def test_whatever_the_code_raises_is_a_failed_attempt(
    place: Place, name: str, type_: str, delay: float, retryable: bool
) -> None:
    event = place.start("failing", name=name).event()
    assert isinstance(event, Fail)
    assert (event.error["type"], event.retry_delay_seconds, event.retryable) == (type_, delay, retryable)
    if name != "cancelled":  # which says nothing of where
        assert "contract_jobs.py" in event.error["traceback"].splitlines()[1], "our own frames are left out"
        assert "raise_by_name(name)" in event.error["traceback"]
    assert place.start("echo", value=1).result() == "1", "what comes next is not touched"


def test_text_that_no_database_takes_is_told_otherwise(place: Place) -> None:
    event = place.start("failing", name="value_error").event()
    assert isinstance(event, Fail)
    assert event.error["message"] == "it's broken \\ud800 \\0"


def test_a_snooze_is_no_failure(place: Place) -> None:
    assert place.start("failing", name="snooze").event() == Snooze(30.0)


def test_the_jobs_own_retry_strategy_sees_the_exception(place: Place) -> None:
    event = place.start("patient", seconds="12.5").event()
    assert isinstance(event, Fail)
    assert event.retry_delay_seconds == 12.5


def test_the_context_tells_of_the_attempt(place: Place) -> None:
    changes = {
        "attempt": 2,
        "token": 9,
        "queue": "cpu",
        "owner": "somebody",
        "deadline": datetime(2027, 1, 1, tzinfo=UTC),
    }
    attempt = place.start("context", changes)
    outcome = attempt.outcome()
    assert isinstance(outcome, Returned)
    for text in ('"attempt":2', '"token":9', '"queue":"cpu"', '"owner":"somebody"', '"max_attempts":3', "2027-01-01"):
        assert text in (outcome.result or "")
    assert f'"job_id":"{attempt.call.claimed.id}"' in (outcome.result or "")
    assert '"cancelled":false' in (outcome.result or "")


def test_progress_is_there_before_the_end(place: Place) -> None:
    attempt = place.start("reporting")
    assert attempt.result() == '"reported"'
    key = AttemptKey(attempt.call.claimed.id, attempt.call.claimed.token)
    assert attempt.services.reports == [(key, {"done": done, "total": 3, "note": "ä\ud800"}) for done in range(3)]


def test_code_that_is_asked_to_end_may_clean_up(place: Place) -> None:
    attempt = place.start("obedient")
    assert attempt.next_report() == {"note": "waiting"}
    attempt.ask_to_end()
    assert attempt.next_report() == {"note": "cleaned up"}
    outcome = attempt.outcome()
    if place.is_coroutine:
        assert was_cancelled(outcome)
    else:
        assert outcome == Returned('"asked"')
        assert attempt.call.context.saw_cancelled, "a shutdown puts the job back, as it has not done its work"
    assert not attempt.abandon(), "it has ended"
    assert place.executor.abandoned == 0


def test_who_is_asked_before_the_first_step_does_not_wait(place: Place) -> None:
    attempt = place.start("obedient")
    attempt.ask_to_end()
    outcome = attempt.outcome()
    assert was_cancelled(outcome) or outcome == Returned('"asked"')


def test_code_that_does_not_end_is_given_up_and_the_next_runs(place: Place) -> None:
    attempt = place.start("stubborn")
    attempt.next_report()
    attempt.ask_to_end()
    assert attempt.abandon()
    assert not attempt.abandon(), "given up twice"
    assert place.start("echo", value="next").result() == '"next"'
    if place.is_process:
        assert place.executor.abandoned == 0, "its code has really ended"
    else:
        assert place.executor.abandoned == 1
    RELEASE.set()
    wait_until(lambda: place.executor.abandoned == 0)
    assert attempt.heard_nothing()


def test_a_cancel_after_the_end_changes_nothing(place: Place) -> None:
    attempt = place.start("echo", value=1)
    assert attempt.result() == "1"
    attempt.ask_to_end()
    assert not attempt.abandon()
    again = place.start("echo", value=2)
    assert again.result() == "2"
    assert attempt.heard_nothing()


def test_a_call_that_waits_is_withdrawn(place: Place) -> None:
    if place.executor_name == "async":
        pytest.skip("on the loop nobody waits for a place")
    first = place.start("obedient")
    first.next_report()
    second = place.start("echo", value="must not run")
    second.ask_to_end()
    assert was_cancelled(second.outcome())
    assert not second.started.is_set()
    first.ask_to_end()
    first.outcome()


def test_many_at_a_time_all_get_their_own_answer(place: Place) -> None:
    attempts = [place.start("echo", value=number) for number in range(50)]
    assert [attempt.result() for attempt in attempts] == [str(number) for number in range(50)]
