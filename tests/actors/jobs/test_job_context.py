"""What a function can ask of its context."""

import asyncio
import threading
from typing import Any
from uuid import UUID

import pytest

from callboard.actors.batches.state import ItemStatus
from callboard.actors.batches.types import BatchResult
from callboard.actors.errors import (
    InvalidArguments,
    InvalidResult,
    JobCancelled,
    JobFailed,
    LlmRequestFailed,
    PayloadTooLarge,
    ResultExpired,
)
from callboard.actors.jobs.context import JobContext
from callboard.actors.jobs.control import Parked
from callboard.actors.jobs.definition import JobRegistry, job
from callboard.actors.jobs.ended import Ended, ended_from
from callboard.actors.jobs.state import Status, WaitingOn
from callboard.actors.jobs.types import AttemptKey
from tests.actors.jobs.builders import JOB_ID, NOW, Services, claimed, record


@job(kind="tests.kind", registry=JobRegistry())
def child(number: int) -> int:
    return number


FAILED = {"status": Status.FAILED, "stop_reason": "not_retryable", "error": {"type": "E", "message": "m"}}
CANCELLED = {"status": Status.CANCELLED, "stop_reason": "cancelled"}


def test_it_tells_about_the_attempt() -> None:
    context = JobContext(claimed(attempt=2, owner="me", deadline=NOW), Services())
    assert (context.job_id, context.kind, context.queue) == (JOB_ID, "tests.kind", "default")
    assert (context.attempt, context.max_attempts, context.token) == (2, 3, 7)
    assert (context.owner, context.deadline) == ("me", NOW)


def test_progress_carries_the_attempt_and_only_what_was_said() -> None:
    services = Services()
    context = JobContext(claimed(), services)
    context.progress(0, 10)
    context.progress(note="half", done=5.5)
    context.progress()
    attempt = AttemptKey(JOB_ID, 7)
    assert services.reports == [
        (attempt, {"done": 0, "total": 10}),
        (attempt, {"done": 5.5, "note": "half"}),
        (attempt, {}),
    ]


def test_a_thread_that_waits_wakes_when_it_should_end() -> None:
    context = JobContext(claimed(), Services())
    assert not context.cancelled
    assert not context.wait_cancelled(0)
    woke: list[bool] = []
    thread = threading.Thread(target=lambda: woke.append(context.wait_cancelled(60)))
    thread.start()
    context.ask_to_end()
    thread.join(10)
    assert woke == [True]
    assert context.cancelled


async def test_map_of_nothing_asks_nobody() -> None:
    services = Services(asyncio.get_running_loop())
    assert await JobContext(claimed(), services).map(child, []) == []
    assert services.asked == []


async def test_map_parks_until_every_child_has_ended() -> None:
    services = Services(asyncio.get_running_loop())
    services.answer = [record(result="1"), record(status=Status.RUNNING)]
    with pytest.raises(Parked) as parked:
        await JobContext(claimed(), services).map(child, [(1,), (2,)], key="k")
    assert parked.value.waiting_on is WaitingOn.CHILDREN
    assert services.asked == [("k", [(1,), (2,)])]


async def test_map_parks_past_a_functions_own_except() -> None:
    services = Services(asyncio.get_running_loop())
    services.answer = [record(status=Status.PENDING)]

    async def careless() -> str:
        try:
            await JobContext(claimed(), services).map(child, [(1,)])
        except Exception:  # noqa: BLE001 - as functions do
            return "swallowed"
        return "went on"

    with pytest.raises(Parked):
        await careless()


async def test_map_returns_results_in_order_once_all_have_ended() -> None:
    services = Services(asyncio.get_running_loop())
    services.answer = [record(result="2"), record(result="1")]
    context = JobContext(claimed(), services)
    assert await context.map(child, [(2,), (1,)]) == [2, 1]
    assert await context.map(child.options(priority=1), ((n,) for n in (2, 1)), key="b") == [2, 1]


@pytest.mark.parametrize(("ended", "error"), [(FAILED, JobFailed), (CANCELLED, JobCancelled)])
async def test_a_child_without_a_result_raises_or_takes_its_place(
    ended: dict[str, Any], error: type[Exception]
) -> None:
    services = Services(asyncio.get_running_loop())
    services.answer = [record(result="2"), record(**ended)]
    context = JobContext(claimed(), services)
    with pytest.raises(error):
        await context.map(child, [(2,), (1,)])
    first, second = await context.map(child, [(2,), (1,)], key="b", return_exceptions=True)
    assert first == 2
    assert isinstance(second, error)


async def test_map_from_another_loop_asks_on_the_runtimes() -> None:
    """As a coroutine job in a thread does."""
    threads: list[threading.Thread] = []

    class Watching(Services):
        async def children(self, parent: object, key: str, job: object, calls: object) -> list[object]:  # type: ignore[override]
            threads.append(threading.current_thread())
            return [record(result="5")]

    context = JobContext(claimed(), Watching(asyncio.get_running_loop()))
    assert await asyncio.to_thread(lambda: asyncio.run(context.map(child, [(5,)]))) == [5]
    assert threads == [threading.current_thread()]


@pytest.mark.parametrize(
    ("status", "expected"),
    [(Status.COMPLETED, None), (Status.FAILED, JobFailed), (Status.CANCELLED, JobCancelled)],
)
def test_how_a_job_ended_is_an_exception_but_for_success(status: Status, expected: type[Exception] | None) -> None:
    error = {"type": "ValueError", "message": "why", "traceback": None}
    failure = Ended(UUID(int=1), "kind", status, None, "the_reason", error).failure()
    if expected is None:
        assert failure is None
    else:
        assert isinstance(failure, expected)
        assert str(UUID(int=1)) in str(failure)
        assert "(the_reason): ValueError: why" in str(failure)


def test_a_result_that_was_not_to_be_kept_any_longer_is_an_exception() -> None:
    expired = record(stop_reason="succeeded", result=None, result_ttl_seconds=60.0, result_expired=True)
    failure = ended_from(expired).failure()
    assert isinstance(failure, ResultExpired)
    assert str(failure).startswith(f"the result of job {JOB_ID} was kept for 60 s after its end")
    assert ended_from(record(result=None, result_ttl_seconds=60.0)).failure() is None


def test_ended_from_a_record() -> None:
    assert ended_from(record(result="[1]", stop_reason="succeeded")) == Ended(
        JOB_ID, "tests.kind", Status.COMPLETED, "[1]", "succeeded", None
    )


@pytest.mark.parametrize(
    ("report", "error", "message"),
    [
        ({"what": object()}, InvalidArguments, "JSON cannot hold the report"),
        ({"what": float("nan")}, InvalidArguments, "JSON cannot hold the report"),
        ({"what": "x" * 70_000}, PayloadTooLarge, "at most 65,536 are stored"),
    ],
)
def test_a_report_that_cannot_be_stored_is_the_functions_own_error(report, error, message) -> None:
    services = Services()
    with pytest.raises(error, match=message):
        JobContext(claimed(), services).progress(**report)
    assert services.reports == []


def test_a_report_is_a_copy() -> None:
    services, details = Services(), {"pages": [1]}
    JobContext(claimed(), services).progress(details=details)
    details["pages"].append(2)
    assert services.reports[0][1] == {"details": {"pages": [1]}}


async def test_a_key_is_used_once() -> None:
    context = JobContext(claimed(), Services())
    assert await context.map(child, [], key="a") == []
    with pytest.raises(InvalidArguments, match="called twice with the key 'a'"):
        await context.map(child, [], key="a")


async def test_children_of_another_kind_are_not_taken_for_ours() -> None:
    services = Services(asyncio.get_running_loop())
    services.answer = [record(kind="tests.former", result="1")]
    with pytest.raises(InvalidArguments, match=r"finds children of kind tests\.former"):
        await JobContext(claimed(), services).map(child, [(1,)])


async def test_a_step_runs_once_and_gives_what_is_kept_both_times() -> None:
    services, calls = Services(asyncio.get_running_loop()), []

    async def draft(number: int, *, style: str) -> tuple[int, str]:
        calls.append(number)
        return number, style

    first = await JobContext(claimed(), services).step("draft", draft, 3, style="short")
    second = await JobContext(claimed(token=8), services).step("draft", draft, 3, style="short")
    assert first == second == [3, "short"]  # a list: as JSON gives it back
    assert calls == [3]


async def test_a_step_that_gave_nothing_is_done_as_well() -> None:
    services, calls = Services(asyncio.get_running_loop()), []
    for _ in range(2):
        assert await JobContext(claimed(), services).step("note", calls.append, 1) is None
    assert calls == [1]


async def test_a_plain_step_leaves_the_runtimes_loop_alone_and_stays_in_a_jobs_own_thread() -> None:
    services = Services(asyncio.get_running_loop())
    assert await JobContext(claimed(), services).step("where", threading.get_ident) != threading.get_ident()

    def in_a_thread() -> bool:
        job_thread = asyncio.run(JobContext(claimed(), services).step("there", threading.get_ident))
        return job_thread == threading.get_ident()

    assert await asyncio.to_thread(in_a_thread)


async def test_a_plain_function_that_makes_a_coroutine_is_awaited() -> None:
    async def draft(number: int) -> int:
        return number

    assert await JobContext(claimed(), Services(asyncio.get_running_loop())).step("draft", lambda: draft(3)) == 3


async def test_a_step_that_raises_is_not_kept() -> None:
    services = Services(asyncio.get_running_loop())

    async def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await JobContext(claimed(), services).step("draft", fails)
    assert services.steps == {}


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (object(), InvalidResult, "ctx.step 'draft': the function returned object, which JSON cannot hold"),
        (float("nan"), InvalidResult, "returned float, which JSON cannot hold"),
        ("x" * 99, PayloadTooLarge, "returned 101 bytes of JSON; at most 100 are kept"),
    ],
)
async def test_what_a_step_cannot_keep_is_an_error(value: object, error: type[Exception], message: str) -> None:
    services = Services(asyncio.get_running_loop())
    with pytest.raises(error, match=message):
        await JobContext(claimed(), services).step("draft", lambda: value)
    assert services.steps == {}


async def test_two_steps_of_one_run_have_two_keys() -> None:
    context, calls = JobContext(claimed(), Services(asyncio.get_running_loop())), []
    await context.step("a", calls.append, 1)
    with pytest.raises(InvalidArguments, match=r"ctx\.step was called twice with the key 'a'"):
        await context.step("a", calls.append, 2)
    assert calls == [1]


@pytest.mark.parametrize("key", ["", "x" * 201, "a\0", None, 1])
async def test_a_step_has_a_key_that_can_be_kept(key: Any) -> None:
    with pytest.raises(InvalidArguments, match="expected a text of 1 to 200 printable characters"):
        await JobContext(claimed(), Services(asyncio.get_running_loop())).step(key, print)


async def test_a_question_without_an_answer_parks_and_with_one_returns_it() -> None:
    services = Services(asyncio.get_running_loop())
    with pytest.raises(Parked) as parked:
        await JobContext(claimed(), services).llm_batch({"model": "m"}, key="draft")
    assert parked.value.waiting_on is WaitingOn.LLM_BATCH
    services.replies["draft"] = BatchResult("draft", ItemStatus.SUCCEEDED, {"text": "hello"})
    assert await JobContext(claimed(), services).llm_batch({"model": "m"}, key="draft") == {"text": "hello"}


@pytest.mark.parametrize("status", [ItemStatus.ERRORED, ItemStatus.EXPIRED, ItemStatus.CANCELED])
async def test_a_question_that_will_have_no_answer_is_a_typed_error(status: ItemStatus) -> None:
    services = Services(asyncio.get_running_loop())
    services.replies["draft"] = BatchResult("draft", status, None, {"message": "too long"})
    with pytest.raises(LlmRequestFailed, match=f"ended {status}: .*too long.* use another key") as failed:
        await JobContext(claimed(), services).llm_batch({"model": "m"}, key="draft")
    assert (failed.value.key, failed.value.status, failed.value.error) == ("draft", status, {"message": "too long"})


@pytest.mark.parametrize("request_", [{}, None, "text", {"model": object()}, {"n": float("nan")}])
async def test_a_question_is_the_body_of_a_request(request_: Any) -> None:
    with pytest.raises(InvalidArguments, match=r"ctx\.llm_batch: request"):
        await JobContext(claimed(), Services(asyncio.get_running_loop())).llm_batch(request_, key="draft")


async def test_two_questions_of_one_run_have_two_keys() -> None:
    context = JobContext(claimed(), Services(asyncio.get_running_loop()))
    with pytest.raises(Parked):
        await context.llm_batch({"model": "m"}, key="a")
    with pytest.raises(InvalidArguments, match=r"ctx\.llm_batch was called twice with the key 'a'"):
        await context.llm_batch({"model": "m"}, key="a")
