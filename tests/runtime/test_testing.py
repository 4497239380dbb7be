"""The in-memory runtime for users' unit tests."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from callboard import JobCancelled, JobContext, JobRegistry, Retry, Settings, Status, job
from callboard.testing import FakeClock, MemoryRuntime

WAIT_SECONDS = 20


@pytest.fixture
def registry() -> JobRegistry:
    return JobRegistry()


@pytest.fixture
async def runtime(registry: JobRegistry) -> AsyncIterator[MemoryRuntime]:
    async with MemoryRuntime(registry=registry, settings=Settings(cancel_grace_seconds=0.05)) as runtime:
        yield runtime


async def test_drain_runs_everything_however_late(runtime: MemoryRuntime, registry: JobRegistry) -> None:
    @job(registry=registry, max_attempts=4)
    async def stubborn(ctx: JobContext) -> int:
        if ctx.attempt < 4:
            raise Retry("not yet", delay_seconds=3600)
        return ctx.attempt

    @job(registry=registry)
    def leaf(number: int) -> int:
        return number

    @job(registry=registry)
    async def tree(ctx: JobContext) -> int:
        return sum(await ctx.map(leaf, [(n,) for n in range(20)]))

    began = runtime.clock.now()
    retried, delayed, mapped = [
        await runtime.spawn(stubborn),
        await runtime.spawn(leaf, 7, delay_seconds=60),
        await runtime.spawn(tree),
    ]
    await runtime.drain()

    assert [await ref.result() for ref in (retried, delayed, mapped)] == [4, 7, 190]
    assert runtime.clock.now() - began == timedelta(hours=3)


async def test_drain_may_leave_the_clock_alone(runtime: MemoryRuntime, registry: JobRegistry) -> None:
    @job(registry=registry)
    async def noop() -> None: ...

    soon, later, held = [
        await runtime.spawn(noop),
        await runtime.spawn(noop, delay_seconds=60),
        await runtime.spawn(noop, hold=True),
    ]
    await runtime.drain(advance=False)
    assert [await ref.status() for ref in (soon, later, held)] == [Status.COMPLETED, Status.PENDING, Status.CREATED]
    runtime.clock.advance(61)
    await runtime.drain(advance=False)
    assert await later.status() is Status.COMPLETED


async def test_drain_gives_up_on_a_job_that_does_not_end(runtime: MemoryRuntime, registry: JobRegistry) -> None:
    @job(registry=registry)
    async def endless() -> None:
        await asyncio.Event().wait()

    ref = await runtime.spawn(endless)
    with pytest.raises(TimeoutError):
        await runtime.drain(timeout_seconds=0.05)
    await ref.cancel()
    await runtime.drain()
    with pytest.raises(JobCancelled):
        await ref.result(WAIT_SECONDS)


async def test_other_queues_are_left_alone(registry: JobRegistry) -> None:
    @job(registry=registry, queue="mail")
    async def noop() -> None: ...

    async with MemoryRuntime(registry=registry) as runtime:
        ref = await runtime.spawn(noop)
        await runtime.drain()
        assert await ref.status() is Status.PENDING
    async with MemoryRuntime(registry=registry, queues={"mail": 1}) as runtime:
        ref = await runtime.spawn(noop)
        await runtime.drain()
        assert await ref.status() is Status.COMPLETED


def test_a_fake_clock_does_not_go_back() -> None:
    clock = FakeClock()
    clock.advance(1.5)
    assert clock.monotonic() == 1.5
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
