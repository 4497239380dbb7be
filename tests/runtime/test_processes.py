"""Several real processes, and kill -9: promises 1, 3 and 4."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from callboard import JobCancelled, JobFailed, Reason, Runtime, Settings, Status, TransitionEvent
from tests.support.module_process import module_process

from .worker_jobs import endless, poison, slow_cube, slow_square

pytestmark = [pytest.mark.processes, pytest.mark.chaos]

LEASE_SECONDS = 1.0
WAIT_SECONDS = 60

StartWorker = Callable[[], Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start_worker(database_url: str) -> AsyncIterator[StartWorker]:
    """Starts worker processes; those that live at the end of the test are stopped in order."""
    started: list[asyncio.subprocess.Process] = []
    async with AsyncExitStack() as stack:

        async def start() -> asyncio.subprocess.Process:
            worker = module_process("tests.runtime.worker_process", database_url, LEASE_SECONDS)
            started.append(await stack.enter_async_context(worker))
            return started[-1]

        yield start
        for process in started:
            if process.returncode is None:
                process.stdin.close()
                assert await asyncio.wait_for(process.wait(), WAIT_SECONDS) == 0


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[Runtime]:
    settings = Settings(database_url=database_url, poll_interval_seconds=0.1, pg_pool_size=4)
    async with Runtime(settings, work=False) as client:
        yield client


async def running_jobs(client: Runtime) -> int:
    return sum(count.jobs for count in (await client.summary()).counts if count.status is Status.RUNNING)


async def test_promise_1_and_4_a_killed_worker_loses_nothing(client: Runtime, start_worker: StartWorker) -> None:
    victim = await start_worker()
    refs = await client.spawn_many(slow_square, [(number,) for number in range(60)])
    refs += await client.spawn_many(slow_cube, [(number,) for number in range(60)])
    async with asyncio.timeout(WAIT_SECONDS):
        while not await running_jobs(client):
            await asyncio.sleep(0)
    victim.kill()
    await victim.wait()
    heir = await start_worker()

    results = [await ref.result(WAIT_SECONDS) for ref in refs]

    assert [result[0] for result in results[:60]] == [number**2 for number in range(60)]
    assert results[60:] == [number**3 for number in range(60)]
    histories = [await ref.history() for ref in refs]
    rescued = [rows for rows in histories if any(row.reason is Reason.LEASE_EXPIRED for row in rows)]
    assert rescued, "the kill came too late to hit a running job"
    assert all(rows[-1].attempt == 2 for rows in rescued)
    assert {pid for _, pid in results[:60]} <= {victim.pid, heir.pid}


async def test_promise_4_a_job_that_kills_every_worker_fails(client: Runtime, start_worker: StartWorker) -> None:
    ref = await client.spawn(poison)
    for _ in range(2):
        worker = await start_worker()
        assert await asyncio.wait_for(worker.wait(), WAIT_SECONDS) == -9
    await start_worker()  # the sweep is a worker's

    with pytest.raises(JobFailed, match="the worker of attempt 2 died or stopped answering") as failed:
        await ref.result(WAIT_SECONDS)
    assert failed.value.stop_reason == Reason.LEASE_EXPIRED


async def test_promise_3_a_cancel_reaches_another_process(client: Runtime, start_worker: StartWorker) -> None:
    worker = await start_worker()
    ref = await client.spawn(endless)
    async with asyncio.timeout(WAIT_SECONDS):
        async for event in ref.events():
            if isinstance(event, TransitionEvent) and event.row.to_status is Status.RUNNING:
                break
    assert await ref.cancel()
    with pytest.raises(JobCancelled):
        await ref.result(WAIT_SECONDS)
    worker.stdin.close()  # its drain does not wait for the cancelled code
    assert await asyncio.wait_for(worker.wait(), WAIT_SECONDS) == 0
    assert [row.reason for row in await ref.history()] == [Reason.SPAWNED, Reason.CLAIMED, Reason.CANCELLED]


async def test_two_workers_share_the_work(client: Runtime, start_worker: StartWorker) -> None:
    first, second = await start_worker(), await start_worker()
    assert len((await client.summary()).nodes) == 2
    refs = await client.spawn_many(slow_square, [(number,) for number in range(200)])
    results = [await ref.result(WAIT_SECONDS) for ref in refs]
    assert {pid for _, pid in results} == {first.pid, second.pid}
    assert {row.attempt for ref in refs[:20] for row in await ref.history()} == {0, 1}
