"""Jobs from spawn to end, on a real database."""

import asyncio
import threading
from dataclasses import dataclass
from datetime import timedelta

import pytest
from tenacity import RetryCallState
from tenacity.wait import wait_base

from callboard import (
    Abort,
    JobCancelled,
    JobContext,
    JobFailed,
    JobNotFound,
    JobRegistry,
    ProgressEvent,
    Reason,
    Retry,
    Runtime,
    Settings,
    Snooze,
    Status,
    TransitionEvent,
    job,
)
from callboard.actors.jobs.identifier import uuid7

WAIT_SECONDS = 20


@dataclass
class Summary:
    title: str
    words: int


async def reasons(ref) -> list[Reason]:
    return [row.reason for row in await ref.history()]


async def test_an_async_job_returns_a_typed_result(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry)
    async def summarize(ctx: JobContext, document: int, style: str = "short") -> Summary:
        return Summary(f"{style} {document} {ctx.attempt}", 7)

    ref = await runtime.spawn(summarize, 42, style="long")

    assert await ref.result(WAIT_SECONDS) == Summary("long 42 1", 7)
    assert await reasons(ref) == [Reason.SPAWNED, Reason.CLAIMED, Reason.SUCCEEDED]
    assert await (await runtime.get(ref.id)).result(WAIT_SECONDS) == {"title": "long 42 1", "words": 7}


async def test_plain_functions_and_coroutines_run_in_threads(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry)
    def blocking() -> str:
        return threading.current_thread().name

    @job(registry=registry, executor="thread")
    async def coroutine() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    for definition in (blocking, coroutine):
        ref = await runtime.spawn(definition)
        assert (await ref.result(WAIT_SECONDS)).startswith("callboard-job-")


async def test_a_failing_job_is_retried_until_it_succeeds(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry, max_attempts=3)
    async def third_time_lucky(ctx: JobContext) -> int:
        if ctx.attempt < 3:
            raise ConnectionError("try again")
        return ctx.attempt

    ref = await runtime.spawn(third_time_lucky)

    assert await ref.result(WAIT_SECONDS) == 3
    assert await reasons(ref) == [
        Reason.SPAWNED,
        *[Reason.CLAIMED, Reason.ERROR] * 2,
        Reason.CLAIMED,
        Reason.SUCCEEDED,
    ]


async def test_a_job_that_always_fails_ends_with_its_error(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry, max_attempts=2)
    async def hopeless() -> None:
        raise ValueError("no such document")

    ref = await runtime.spawn(hopeless)
    with pytest.raises(JobFailed, match="ValueError: no such document") as failed:
        await ref.result(WAIT_SECONDS)

    assert failed.value.stop_reason == Reason.ATTEMPTS_EXHAUSTED
    assert "raise ValueError" in failed.value.error["traceback"]
    assert (await ref.record()).attempt == 2


async def test_answers_other_than_a_result(runtime: Runtime, registry: JobRegistry) -> None:
    calls: dict[str, int] = {}

    def first_call(name: str) -> bool:
        calls[name] = calls.get(name, 0) + 1
        return calls[name] == 1

    @job(registry=registry)
    async def retries() -> None:
        if first_call("retries"):
            raise Retry("not yet", delay_seconds=0)

    @job(registry=registry)
    async def snoozes() -> None:
        if first_call("snoozes"):
            raise Snooze(0)

    @job(registry=registry)
    async def aborts() -> None:
        raise Abort("pointless")

    @job(registry=registry, retry_on=ConnectionError)
    async def cannot_be_mended() -> None:
        raise KeyError("x")

    ref = await runtime.spawn(retries)
    await ref.result(WAIT_SECONDS)
    assert (await ref.record()).attempt == 2
    ref = await runtime.spawn(snoozes)
    await ref.result(WAIT_SECONDS)
    assert (await ref.record()).attempt == 1
    for definition in (aborts, cannot_be_mended):
        ref = await runtime.spawn(definition)
        with pytest.raises(JobFailed) as failed:
            await ref.result(WAIT_SECONDS)
        assert failed.value.stop_reason == Reason.NOT_RETRYABLE


async def test_a_retry_strategy_that_raises_gives_way_to_the_default(
    runtime: Runtime, registry: JobRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(wait_base):
        def __call__(self, retry_state: RetryCallState) -> float:
            raise ZeroDivisionError("a defect in a strategy")

    @job(registry=registry, retry=Broken(), max_attempts=2)
    async def second_time_lucky(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            raise ConnectionError
        return ctx.attempt

    assert await (await runtime.spawn(second_time_lucky)).result(WAIT_SECONDS) == 2
    assert "a defect in a strategy" in caplog.text


async def test_promise_6_a_timeout_ends_the_code_and_frees_the_slot(runtime: Runtime, registry: JobRegistry) -> None:
    released = threading.Event()
    cleaned_up = asyncio.Event()

    @job(registry=registry, max_attempts=1, timeout_seconds=0.05, queue="other")
    async def sleeps() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.set()

    @job(registry=registry, max_attempts=1, timeout_seconds=0.05, queue="other")
    def blocks() -> str:
        released.wait(WAIT_SECONDS)
        return "nobody wants to know"

    try:
        for definition in (sleeps, blocks):
            ref = await runtime.spawn(definition)
            with pytest.raises(JobFailed, match=r"longer than timeout_seconds=0\.05"):
                await ref.result(WAIT_SECONDS)
        assert cleaned_up.is_set()
        await asyncio.wait_for(runtime._worker.running.wait_empty(), WAIT_SECONDS)
        assert runtime._worker.threads.abandoned == 1
        assert runtime._worker.running.slots.used["other"] == 0
    finally:
        released.set()
    assert (await ref.record()).result is None


async def test_a_deadline_ends_a_job_that_runs_and_one_that_waits(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry, deadline_seconds=0.1, max_attempts=5)
    async def endless() -> None:
        await asyncio.Event().wait()

    ref = await runtime.spawn(endless)
    with pytest.raises(JobFailed) as failed:
        await ref.result(WAIT_SECONDS)
    assert failed.value.stop_reason == Reason.DEADLINE
    late = await runtime.spawn(endless, delay_seconds=1000)
    with pytest.raises(JobFailed) as failed:
        await late.result(WAIT_SECONDS)
    assert failed.value.stop_reason == Reason.DEADLINE
    assert (await late.record()).attempt == 0


async def test_promise_3_a_cancel_is_final_for_running_and_waiting_jobs(
    runtime: Runtime, registry: JobRegistry
) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    @job(registry=registry)
    async def runs() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    running = await runtime.spawn(runs)
    waiting = await runtime.spawn(runs, delay_seconds=1000)
    held = await runtime.spawn(runs, hold=True)
    await started.wait()

    for ref in (running, waiting, held):
        assert await ref.cancel()
        assert await ref.status() is Status.CANCELLED
        assert not await ref.cancel()
        with pytest.raises(JobCancelled):
            await ref.result(WAIT_SECONDS)
    await asyncio.wait_for(ended.wait(), WAIT_SECONDS)
    await asyncio.wait_for(runtime._worker.running.wait_empty(), WAIT_SECONDS)
    assert await running.status() is Status.CANCELLED


async def test_a_thread_job_sees_that_it_is_cancelled(runtime: Runtime, registry: JobRegistry) -> None:
    started, saw = threading.Event(), threading.Event()

    @job(registry=registry)
    def works(ctx: JobContext) -> None:
        started.set()
        if ctx.wait_cancelled(WAIT_SECONDS):
            saw.set()

    ref = await runtime.spawn(works)
    await asyncio.to_thread(started.wait, WAIT_SECONDS)
    assert await ref.cancel()
    assert await asyncio.to_thread(saw.wait, WAIT_SECONDS)
    await asyncio.wait_for(runtime._worker.running.wait_empty(), WAIT_SECONDS)


async def test_a_finish_after_a_cancel_is_refused(runtime: Runtime, registry: JobRegistry) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @job(registry=registry)
    async def stubborn() -> str:
        started.set()
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    ref = await runtime.spawn(stubborn)
    await started.wait()
    await ref.cancel()
    go_on.set()
    await asyncio.wait_for(runtime._worker.running.wait_empty(), WAIT_SECONDS)

    record = await ref.record()
    assert (record.status, record.result) == (Status.CANCELLED, None)


async def test_unique_jobs_share_one_row(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry)
    async def once() -> int:
        return 1

    first = await runtime.spawn(once, unique_key="a", delay_seconds=1000)
    second = await runtime.spawn(once, unique_key="a")
    other = await runtime.spawn(once, unique_key="b")

    assert (first.created, second.created, other.created) == (True, False, True)
    assert first == second != other
    await runtime.cancel([first.id])
    assert (await runtime.spawn(once, unique_key="a")).created


async def test_held_and_delayed_jobs_wait(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry)
    async def noted() -> str:
        return "done"

    held = await runtime.spawn(noted, hold=True)
    delayed = await runtime.spawn(noted, delay_seconds=1000)
    assert await held.status() is Status.CREATED
    with pytest.raises(TimeoutError):
        await delayed.result(0.05)

    assert await held.release()
    assert not await held.release()
    assert await held.result(WAIT_SECONDS) == "done"
    assert await runtime.run_now([delayed.id]) == 1
    assert await delayed.result(WAIT_SECONDS) == "done"


async def test_a_job_maps_over_children_without_holding_its_slot(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry, queue="other")
    def square(number: int) -> int:
        return number * number

    @job(registry=registry, queue="other")
    async def total(ctx: JobContext, count: int) -> int:
        squares = await ctx.map(square, [(number,) for number in range(count)], key="squares")
        cubes = await ctx.map(square, [(number,) for number in squares], key="again")
        return sum(cubes)

    refs = await runtime.spawn_many(total, [(30,)] * 6)  # more parents than the queue has slots

    expected = sum(number**4 for number in range(30))
    assert [await ref.result(60) for ref in refs] == [expected] * 6
    assert (await refs[0].record()).attempt == 1
    assert (await reasons(refs[0])).count(Reason.PARKED) == 2


async def test_a_failed_child_fails_its_parent_unless_it_asked(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry, max_attempts=1)
    async def odd_fails(number: int) -> int:
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number

    @job(registry=registry, max_attempts=1)
    async def strict(ctx: JobContext) -> list[int]:
        return await ctx.map(odd_fails, [(0,), (1,)])

    @job(registry=registry, max_attempts=1)
    async def lenient(ctx: JobContext) -> list[str]:
        return [str(r) for r in await ctx.map(odd_fails, [(0,), (1,)], return_exceptions=True)]

    with pytest.raises(JobFailed, match="1 is odd"):
        await (await runtime.spawn(strict)).result(WAIT_SECONDS)
    zero, one = await (await runtime.spawn(lenient)).result(WAIT_SECONDS)
    assert zero == "0"
    assert "1 is odd" in one


async def test_events_tell_transitions_and_progress(runtime: Runtime, registry: JobRegistry) -> None:
    go_on = asyncio.Event()

    @job(registry=registry)
    async def reports(ctx: JobContext) -> None:
        ctx.progress(1, 2, phase="reading")
        await go_on.wait()
        ctx.progress(2, 2, phase="done")

    ref = await runtime.spawn(reports)
    statuses, progress = [], []
    async with asyncio.timeout(WAIT_SECONDS):
        async for event in ref.events():
            match event:
                case TransitionEvent(row):
                    statuses.append(row.to_status)
                case ProgressEvent(report):
                    progress.append(report["phase"])
                    go_on.set()

    assert statuses == [Status.PENDING, Status.RUNNING, Status.COMPLETED]
    assert progress == ["reading", "done"]


async def test_spawn_many_is_all_or_none_and_keeps_the_order(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry)
    async def double(number: int) -> int:
        return 2 * number

    refs = await runtime.spawn_many(double, [(1,), {"number": 2}, (3,)], tags=("batch",))
    assert [await ref.result(WAIT_SECONDS) for ref in refs] == [2, 4, 6]
    assert await runtime.spawn_many(double, []) == []


async def test_asking_for_what_is_not_there(runtime: Runtime) -> None:
    with pytest.raises(JobNotFound, match="never spawned here"):
        await runtime.get(uuid7())
    assert await runtime.cancel([uuid7()]) == 0


async def test_options_are_stored(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry, queue="other", tags=("a",))
    async def anything(priority: int) -> None: ...

    ref = await runtime.spawn(
        anything.options(priority=-7, owner="alice", metadata={"trace": "x"}, delay_seconds=1000), priority=3
    )
    record = await ref.record()

    assert (record.queue, record.priority, record.owner) == ("other", -7, "alice")
    assert (record.tags, record.metadata, record.arguments) == (("a",), {"trace": "x"}, '{"priority":3}')
    assert timedelta(seconds=990) < record.run_at - record.created_at <= timedelta(seconds=1000)


async def test_maps_in_a_task_group_wait_together(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry)
    async def square(number: int) -> int:
        return number * number

    @job(registry=registry, max_attempts=1)
    async def both(ctx: JobContext) -> int:
        async with asyncio.TaskGroup() as group:
            left = group.create_task(ctx.map(square, [(1,), (2,)], key="left"))
            right = group.create_task(ctx.map(square, [(3,)], key="right"))
        return sum(left.result()) + sum(right.result())

    assert await (await runtime.spawn(both)).result(WAIT_SECONDS) == 14


async def test_two_maps_need_two_keys(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry)
    async def square(number: int) -> int:
        return number * number

    @job(registry=registry)
    async def careless(ctx: JobContext) -> list[int]:
        first = await ctx.map(square, [(1,)])
        return first + await ctx.map(square, [(2,)])

    with pytest.raises(JobFailed, match="called twice with the key ''"):
        await (await runtime.spawn(careless)).result(WAIT_SECONDS)


async def test_a_report_that_cannot_be_stored_fails_its_job_and_nothing_else(
    runtime: Runtime, registry: JobRegistry
) -> None:
    @job(registry=registry, max_attempts=1)
    async def bad(ctx: JobContext) -> None:
        ctx.progress(what=object())

    with pytest.raises(JobFailed, match="JSON cannot hold the report"):
        await (await runtime.spawn(bad)).result(WAIT_SECONDS)
    assert not runtime._given_up.is_set()


async def test_a_thread_that_looks_and_returns_at_a_shutdown_goes_back(
    runtime: Runtime, registry: JobRegistry, settings: Settings
) -> None:
    started = threading.Event()

    @job(registry=registry)
    def cooperative(ctx: JobContext) -> str:
        started.set()
        ctx.wait_cancelled(WAIT_SECONDS)
        return "half done"

    ref = await runtime.spawn(cooperative)
    await asyncio.to_thread(started.wait, WAIT_SECONDS)
    await runtime.stop(drain_timeout_seconds=0)
    async with Runtime(settings, work=False) as client:
        record = await (await client.get(ref.id)).record()
    assert (record.status, record.attempt, record.result) == (Status.PENDING, 0, None)
