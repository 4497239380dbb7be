"""Jobs as tasks on the runtime's loop."""

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any

import pytest

from callboard.actors.executors.event_loop import EventLoopExecution, EventLoopExecutor
from callboard.actors.jobs.call import Outcome, Raised, Returned
from tests.actors.executors.ears import call_of


class Ears:
    """Hears on the loop."""

    def __init__(self) -> None:
        self.started = 0
        self.ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def on_start(self) -> None:
        self.started += 1

    async def exception(self) -> BaseException:
        outcome = await self.ended
        assert isinstance(outcome, Raised), outcome
        return outcome.exception


@pytest.fixture
async def executor() -> EventLoopExecutor:
    return EventLoopExecutor(asyncio.get_running_loop())


def start(executor: EventLoopExecutor, function: object) -> tuple[EventLoopExecution, Ears]:
    ears = Ears()
    return executor.start(call_of(function), ears.on_start, ears.ended.set_result), ears  # type: ignore[arg-type]


async def test_a_coroutine_runs_on_the_loop_and_its_result_comes_back(executor: EventLoopExecutor) -> None:
    async def function() -> bool:
        return asyncio.get_running_loop() is loop

    loop = asyncio.get_running_loop()
    _, ears = start(executor, function)
    assert ears.started == 1
    assert await ears.ended == Returned("true")


async def test_an_eager_task_is_told_to_begin_before_it_ends() -> None:
    class EagerLoop:
        """As a loop with ``asyncio.eager_task_factory``, which Python 3.11 has not."""

        def create_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Future[None]:
            with pytest.raises(StopIteration):
                coroutine.send(None)
            return asyncio.get_running_loop().create_future()

    async def function() -> None:
        pass

    heard: list[str] = []
    EventLoopExecutor(EagerLoop()).start(  # type: ignore[arg-type]
        call_of(function), lambda: heard.append("begin"), lambda _: heard.append("end")
    )
    assert heard == ["begin", "end"]


@pytest.mark.parametrize(
    "exception", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
)
async def test_whatever_a_job_raises_is_its_outcome(
    exception: type[BaseException], executor: EventLoopExecutor
) -> None:
    async def function() -> None:
        await asyncio.sleep(0)
        raise exception

    _, ears = start(executor, function)
    assert type(await ears.exception()) is exception


async def test_a_cancelled_task_may_clean_up_and_then_ends(executor: EventLoopExecutor) -> None:
    waiting, cleaned = asyncio.Event(), asyncio.Event()

    async def function() -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    execution, ears = start(executor, function)
    await waiting.wait()
    execution.cancel()
    assert isinstance(await ears.exception(), asyncio.CancelledError)
    assert cleaned.is_set()


async def test_a_task_cancelled_before_its_first_step_is_cancelled(executor: EventLoopExecutor) -> None:
    async def function() -> None:
        pytest.fail("a cancelled task ran")

    execution, ears = start(executor, function)
    execution.cancel()
    assert isinstance(await ears.exception(), asyncio.CancelledError)


async def test_a_task_that_ignores_its_cancellation_is_abandoned(
    executor: EventLoopExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    waiting, release, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stubborn() -> str:
        while not release.is_set():
            try:
                waiting.set()
                await release.wait()
            except asyncio.CancelledError:
                continue
        ended.set()
        return "too late"

    execution, ears = start(executor, stubborn)
    await waiting.wait()
    waiting.clear()
    execution.cancel()
    await waiting.wait()
    assert execution.abandon()
    assert executor.abandoned == 1
    assert "ignores its cancellation" in caplog.text
    del execution
    gc.collect()
    release.set()
    await ended.wait()
    while executor.abandoned:
        await asyncio.sleep(0)
    assert not ears.ended.done()


async def test_an_ended_task_is_not_abandoned(executor: EventLoopExecutor) -> None:
    async def function() -> None: ...

    execution, ears = start(executor, function)
    await ears.ended
    assert not execution.abandon()
    execution.cancel()
    assert executor.abandoned == 0
    executor.close(0)
