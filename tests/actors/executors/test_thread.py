"""Jobs in threads: order, cancellation, abandonment, and what coroutines leave behind."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from callboard.actors.executors.thread import ThreadExecution, ThreadExecutor
from tests.actors.executors.ears import PATIENCE_SECONDS, Ears, call_of, wait
from tests.support.waiting import wait_until


@pytest.fixture
def executor() -> Iterator[ThreadExecutor]:
    executor = ThreadExecutor(2)
    yield executor
    executor.close(PATIENCE_SECONDS)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets blocked functions go on, at the latest when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def start(executor: ThreadExecutor, function: Callable[..., Any]) -> tuple[ThreadExecution, Ears]:
    ears = Ears()
    return executor.start(call_of(function, executor="thread"), ears.on_start, ears.on_finish), ears


def blocked(executor: ThreadExecutor, release: threading.Event) -> tuple[ThreadExecution, Ears]:
    """Start a function that ignores its context and ends only when released."""

    def stubborn() -> str:
        wait(release)
        return "too late"

    execution, ears = start(executor, stubborn)
    wait(ears.started)
    return execution, ears


def test_a_function_runs_in_another_thread_and_its_result_comes_back(executor: ThreadExecutor) -> None:
    threads: list[threading.Thread] = []

    def function() -> int:
        threads.append(threading.current_thread())
        return 5

    _, ears = start(executor, function)
    assert ears.result() == "5"
    assert threads == [ears.start_thread]
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon


def test_threads_are_made_when_needed_reused_and_bounded(executor: ThreadExecutor, release: threading.Event) -> None:
    assert (executor.idle, executor.busy) == (0, 0)
    both = [blocked(executor, release)[1] for _ in range(2)]
    assert executor.busy == 2
    _, waiting = start(executor, lambda: 3)
    assert not waiting.started.is_set()
    release.set()
    assert [ears.result() for ears in (*both, waiting)] == ['"too late"', '"too late"', "3"]
    wait_until(lambda: executor.idle == 2)
    used = {ears.start_thread for ears in (*both, waiting)}
    _, again = start(executor, lambda: 4)
    assert again.result() == "4"
    assert len(used) == 2
    assert again.start_thread in used


def test_waiting_calls_run_in_order_of_arrival(release: threading.Event) -> None:
    executor, order = ThreadExecutor(1), []
    blocked(executor, release)
    ears = [start(executor, lambda number=number: order.append(number))[1] for number in range(5)]  # type: ignore[misc]
    release.set()
    for one in ears:
        one.outcome()
    assert order == [0, 1, 2, 3, 4]
    executor.close(PATIENCE_SECONDS)


@pytest.mark.parametrize(
    "exception", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
)
@pytest.mark.parametrize("is_coroutine", [False, True])
def test_whatever_a_job_raises_is_its_outcome_and_the_thread_goes_on(
    exception: type[BaseException], is_coroutine: bool
) -> None:
    executor = ThreadExecutor(1)

    def plain() -> None:
        raise exception

    async def coroutine() -> None:
        raise exception

    _, ears = start(executor, coroutine if is_coroutine else plain)
    assert type(ears.exception()) is exception
    _, next_ears = start(executor, lambda: 1)
    assert next_ears.result() == "1"
    assert next_ears.start_thread is ears.start_thread
    executor.close(PATIENCE_SECONDS)


# Cancellation


def test_a_call_that_waits_for_a_thread_is_withdrawn(release: threading.Event) -> None:
    executor = ThreadExecutor(1)
    blocked(executor, release)
    execution, ears = start(executor, lambda: pytest.fail("a withdrawn call ran"))
    execution.cancel()
    assert isinstance(ears.exception(), asyncio.CancelledError)
    assert not execution.abandon()
    release.set()
    _, last = start(executor, lambda: 1)
    assert last.result() == "1"
    assert not ears.started.is_set()
    executor.close(PATIENCE_SECONDS)


def test_a_plain_function_is_only_asked_by_its_context(executor: ThreadExecutor) -> None:
    asked = threading.Event()

    def function() -> str:
        wait(asked)
        return "ended when asked"

    execution, ears = start(executor, function)
    wait(ears.started)
    execution.cancel()
    assert ears.heard_nothing()
    asked.set()
    assert ears.result() == '"ended when asked"'


def test_a_coroutine_is_cancelled_where_it_waits_and_may_clean_up(executor: ThreadExecutor) -> None:
    waiting, cleaned = threading.Event(), threading.Event()

    async def function() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    execution, ears = start(executor, function)
    wait(waiting)
    execution.cancel()
    assert isinstance(ears.exception(), asyncio.CancelledError)
    assert cleaned.is_set()


def test_a_coroutine_cancelled_between_its_start_and_its_first_step_does_not_run(executor: ThreadExecutor) -> None:
    async def function() -> None:
        pytest.fail("a cancelled coroutine ran")

    ears = Ears()
    started, cancelled = threading.Event(), threading.Event()

    def on_start() -> None:
        started.set()
        wait(cancelled)

    execution = executor.start(call_of(function, executor="thread"), on_start, ears.on_finish)
    wait(started)
    execution.cancel()
    cancelled.set()
    assert isinstance(ears.exception(), asyncio.CancelledError)


def test_a_cancel_after_the_end_changes_nothing(executor: ThreadExecutor) -> None:
    async def function() -> int:
        return 1

    execution, ears = start(executor, function)
    assert ears.result() == "1"
    execution.cancel()
    assert not execution.abandon()
    _, next_ears = start(executor, function)
    assert next_ears.result() == "1"
    assert ears.heard_nothing()


# Abandonment


def test_an_abandoned_call_is_counted_replaced_and_its_result_dropped(release: threading.Event) -> None:
    executor = ThreadExecutor(1)
    execution, ears = blocked(executor, release)
    _, waiting = start(executor, lambda: 2)
    assert execution.abandon()
    assert executor.abandoned == 1
    assert waiting.result() == "2"
    assert waiting.start_thread is not ears.start_thread
    assert not execution.abandon(), "abandoned twice"
    assert executor.abandoned == 1
    release.set()
    assert ears.start_thread is not None
    ears.start_thread.join(PATIENCE_SECONDS)
    assert not ears.start_thread.is_alive()
    assert executor.abandoned == 0
    assert ears.heard_nothing()
    executor.close(PATIENCE_SECONDS)


def test_after_an_abandonment_the_next_call_gets_a_new_thread(release: threading.Event) -> None:
    executor = ThreadExecutor(1)
    execution, ears = blocked(executor, release)
    assert execution.abandon()
    assert (executor.busy, executor.idle) == (0, 0)
    _, next_ears = start(executor, lambda: 2)
    assert next_ears.result() == "2"
    assert next_ears.start_thread is not ears.start_thread
    release.set()
    executor.close(PATIENCE_SECONDS)


def test_closing_does_not_wait_for_abandoned_threads(release: threading.Event) -> None:
    executor = ThreadExecutor(1)
    execution, ears = blocked(executor, release)
    execution.abandon()
    executor.close(PATIENCE_SECONDS)
    assert ears.start_thread is not None
    assert ears.start_thread.is_alive()


def test_abandonment_is_logged_with_the_kind(release: threading.Event, caplog: pytest.LogCaptureFixture) -> None:
    executor = ThreadExecutor(1)
    execution, _ = blocked(executor, release)
    execution.abandon()
    release.set()
    executor.close(PATIENCE_SECONDS)
    assert execution.call.definition.kind in caplog.text
    assert "abandoned, 1 are now" in caplog.text


# Coroutines in threads


def test_a_coroutine_has_its_threads_own_loop_which_is_closed_with_the_thread() -> None:
    executor = ThreadExecutor(1)
    loops: list[asyncio.AbstractEventLoop] = []

    async def function() -> None:
        loops.append(asyncio.get_running_loop())

    ears = [start(executor, function)[1] for _ in range(3)]
    for one in ears:
        one.outcome()
    assert len(set(loops)) == 1
    assert not loops[0].is_closed()
    executor.close(PATIENCE_SECONDS)
    assert loops[0].is_closed()


def test_an_abandoned_coroutines_loop_is_closed_too(release: threading.Event) -> None:
    executor = ThreadExecutor(1)
    loops: list[asyncio.AbstractEventLoop] = []

    async def blocks_its_loop() -> None:
        loops.append(asyncio.get_running_loop())
        wait(release)

    execution, ears = start(executor, blocks_its_loop)
    wait_until(lambda: loops)
    execution.cancel()
    assert execution.abandon()
    release.set()
    assert ears.start_thread is not None
    ears.start_thread.join(PATIENCE_SECONDS)
    assert loops[0].is_closed()
    assert ears.heard_nothing()


def test_tasks_that_a_coroutine_leaves_behind_are_ended_before_the_next_job() -> None:
    executor = ThreadExecutor(1)
    ended, left = threading.Event(), []

    async def leaves_a_task() -> str:
        async def forever() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        left.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)
        return "done"

    async def alone() -> int:
        assert ended.is_set()
        return len(asyncio.all_tasks())

    _, ears = start(executor, leaves_a_task)
    _, next_ears = start(executor, alone)
    assert ears.result() == '"done"'
    assert next_ears.result() == "1"
    assert left[0].cancelled()
    executor.close(PATIENCE_SECONDS)


# Closing


def test_a_closed_executor_takes_no_calls_and_its_threads_have_ended(executor: ThreadExecutor) -> None:
    _, ears = start(executor, lambda: 1)
    ears.outcome()
    executor.close(PATIENCE_SECONDS)
    assert ears.start_thread is not None
    assert not ears.start_thread.is_alive()
    with pytest.raises(RuntimeError, match="the executor is closed"):
        start(executor, lambda: 1)
    executor.close(PATIENCE_SECONDS)


def test_closing_answers_every_call_that_was_taken() -> None:
    executor, release = ThreadExecutor(1), threading.Event()
    _, first = blocked(executor, release)
    waiting = [start(executor, lambda: 1)[1] for _ in range(3)]
    closer = threading.Thread(target=executor.close, args=(PATIENCE_SECONDS,))
    closer.start()
    wait_until(lambda: executor._closed)  # nobody but this test needs to know
    release.set()
    closer.join(PATIENCE_SECONDS)
    assert first.result() == '"too late"'
    assert [ears.result() for ears in waiting] == ["1", "1", "1"]


def test_a_call_abandoned_while_closing_does_not_strand_those_that_wait(release: threading.Event) -> None:
    executor = ThreadExecutor(1)
    execution, _ = blocked(executor, release)
    _, waiting = start(executor, lambda: 1)
    executor.close(0)
    assert execution.abandon()
    assert waiting.result() == "1"


def test_closing_waits_no_longer_than_it_was_told(release: threading.Event) -> None:
    executor = ThreadExecutor(1)
    _, ears = blocked(executor, release)
    executor.close(0)
    assert ears.heard_nothing()


def test_many_calls_from_many_threads_all_end_once() -> None:
    executor, all_ears = ThreadExecutor(4), [Ears() for _ in range(200)]

    def some(ears: list[Ears]) -> None:
        for one in ears:
            executor.start(call_of(lambda: 1), one.on_start, one.on_finish)

    starters = [threading.Thread(target=some, args=(all_ears[n::4],)) for n in range(4)]
    for thread in starters:
        thread.start()
    assert [ears.result() for ears in all_ears] == ["1"] * 200
    for thread in starters:
        thread.join(PATIENCE_SECONDS)
    executor.close(PATIENCE_SECONDS)
