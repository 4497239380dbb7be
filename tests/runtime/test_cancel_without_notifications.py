"""Promise 3 on another node, with every notification lost: who waits finds out by polling, what runs by its lease."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from callboard import JobCancelled, JobContext, JobRef, JobRegistry, Reason, Runtime, Settings, Status, job
from callboard.actors.ports import NoTelemetry
from callboard.persistence import stores
from callboard.persistence.stores import StoreParts

WAIT_SECONDS = 30


class Deaf:
    """Wake-ups of which every one is lost."""

    async def run(self, on_hint: Callable[[str, str], None]) -> None:
        await asyncio.Event().wait()


def deaf(settings: Settings) -> StoreParts:
    parts = stores.postgres(settings, NoTelemetry())
    return replace(parts, wake_ups=Deaf())


@pytest.fixture
async def node(settings: Settings, registry: JobRegistry) -> AsyncIterator[Runtime]:
    """The node where jobs run."""
    own = settings.model_copy(update={"lease_seconds": 2.0, "hang_limit_seconds": 1.5})
    async with Runtime(own, registry=registry, parts=deaf(own)) as runtime:
        yield runtime


@pytest.fixture
async def canceller(settings: Settings) -> AsyncIterator[Runtime]:
    """Another node, which does not even know the function."""
    async with Runtime(settings, work=False, registry=JobRegistry(), parts=deaf(settings)) as runtime:
        yield runtime


@pytest.fixture
async def waiter(settings: Settings) -> AsyncIterator[Runtime]:
    """A third one, where somebody waits for the result."""
    async with Runtime(settings, work=False, parts=deaf(settings)) as runtime:
        yield runtime


async def cancelled_elsewhere(ref: JobRef, canceller: Runtime, waiter: Runtime) -> None:
    """Cancel a running job from another node; final when that returns, and told to whoever waits."""
    result = asyncio.create_task((await waiter.get(ref.id)).result(WAIT_SECONDS))
    assert await canceller.cancel([ref.id]) == 1
    assert await ref.status() is Status.CANCELLED
    with pytest.raises(JobCancelled):
        await result


async def ended_as_cancelled(ref: JobRef) -> None:
    record = await ref.record()
    assert (record.status, record.result, record.stop_reason) == (Status.CANCELLED, None, "cancelled")
    assert [row.reason for row in await ref.history()] == [Reason.SPAWNED, Reason.CLAIMED, Reason.CANCELLED]


async def test_promise_3_a_coroutine_on_another_node_is_cancelled(
    node: Runtime, canceller: Runtime, waiter: Runtime, registry: JobRegistry
) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    @job(registry=registry)
    async def endless() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.set()
            raise

    ref = await node.spawn(endless)
    await started.wait()
    await cancelled_elsewhere(ref, canceller, waiter)
    await asyncio.wait_for(stopped.wait(), WAIT_SECONDS)
    await asyncio.wait_for(node._worker.running.wait_empty(), WAIT_SECONDS)
    await ended_as_cancelled(ref)


async def test_promise_3_a_thread_on_another_node_is_asked_to_end(
    node: Runtime, canceller: Runtime, waiter: Runtime, registry: JobRegistry
) -> None:
    started, asked = threading.Event(), threading.Event()

    @job(registry=registry)
    def endless(ctx: JobContext) -> str:
        started.set()
        if ctx.wait_cancelled(WAIT_SECONDS):
            asked.set()
        return "too late"

    ref = await node.spawn(endless)
    await asyncio.to_thread(started.wait, WAIT_SECONDS)
    await cancelled_elsewhere(ref, canceller, waiter)
    assert await asyncio.to_thread(asked.wait, WAIT_SECONDS)
    await asyncio.wait_for(node._worker.running.wait_empty(), WAIT_SECONDS)
    await ended_as_cancelled(ref)


async def test_promise_3_a_thread_that_does_not_answer_is_abandoned_and_writes_nothing(
    node: Runtime, canceller: Runtime, waiter: Runtime, registry: JobRegistry
) -> None:
    started, released, returned = threading.Event(), threading.Event(), threading.Event()

    @job(registry=registry)
    def stubborn(ctx: JobContext) -> str:
        started.set()
        released.wait(WAIT_SECONDS)
        ctx.progress(done=1)
        returned.set()
        return "too late"

    ref = await node.spawn(stubborn)
    try:
        await asyncio.to_thread(started.wait, WAIT_SECONDS)
        await cancelled_elsewhere(ref, canceller, waiter)
        await asyncio.wait_for(node._worker.running.wait_empty(), WAIT_SECONDS)
        assert node._worker.threads.abandoned == 1
    finally:
        released.set()
    assert await asyncio.to_thread(returned.wait, WAIT_SECONDS)
    await ended_as_cancelled(ref)
    assert (await ref.record()).progress is None


async def test_promise_3_a_completion_that_comes_after_a_cancel_is_refused(
    node: Runtime, canceller: Runtime, waiter: Runtime, registry: JobRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @job(registry=registry)
    async def ends() -> str:
        started.set()
        await go_on.wait()
        return "too late"

    ref = await node.spawn(ends)
    await started.wait()
    assert await canceller.cancel([ref.id]) == 1
    go_on.set()  # before the node has heard of it
    await asyncio.wait_for(node._worker.running.wait_empty(), WAIT_SECONDS)
    await ended_as_cancelled(ref)
    assert "InvalidTransition: job" in caplog.text
