"""Limits, pauses and bounds as their users meet them: through runtimes, and across processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from callboard import (
    DuplicateJob,
    JobFilter,
    JobRegistry,
    Limit,
    LimitScope,
    QueueFull,
    Runtime,
    Settings,
    Status,
    job,
)
from tests.support.module_process import module_process

from .worker_jobs import count_in

WAIT_SECONDS = 60


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[Runtime]:
    settings = Settings(database_url=database_url, poll_interval_seconds=0.1, pg_pool_size=4)
    async with Runtime(settings, work=False) as client:
        yield client


@pytest.mark.processes
async def test_promise_7_no_more_run_than_the_limits_allow_whatever_number_of_processes_claim(
    client: Runtime, database_url: str, tmp_path: Path
) -> None:
    folders = {name: tmp_path / name for name in ("kind", "red", "blue")}
    for folder in folders.values():
        folder.mkdir()
    await client.set_limit(Limit(LimitScope.OWNER, "kind", max_running=3))
    refs = {
        "kind": await client.spawn_many(count_in, [(folders["kind"], str(n)) for n in range(60)], owner="kind"),
        "red": await client.spawn_many(
            count_in, [(folders["red"], str(n)) for n in range(40)], concurrency_key="red", concurrency_limit=2
        ),
        "blue": await client.spawn_many(
            count_in, [(folders["blue"], str(n)) for n in range(20)], concurrency_key="blue", concurrency_limit=1
        ),
    }
    async with AsyncExitStack() as stack:
        starts = [module_process("tests.runtime.worker_process", database_url, 3) for _ in range(3)]
        workers = await asyncio.gather(*map(stack.enter_async_context, starts))
        seen = {name: [await ref.result(WAIT_SECONDS) for ref in some_refs] for name, some_refs in refs.items()}
        for worker in workers:
            worker.stdin.close()
        assert [await asyncio.wait_for(worker.wait(), WAIT_SECONDS) for worker in workers] == [0, 0, 0]
    highest = {name: max(count for count, _ in counts) for name, counts in seen.items()}
    assert 2 <= highest["kind"] <= 3
    assert highest["red"] <= 2
    assert highest["blue"] == 1
    assert len({process for counts in seen.values() for _, process in counts}) == 3


async def test_a_freed_place_is_taken_without_waiting_for_the_poll(settings: Settings, registry: JobRegistry) -> None:
    @job(registry=registry)
    async def step() -> None: ...

    patient = settings.model_copy(update={"poll_interval_seconds": 3600.0})
    async with Runtime(patient, registry=registry) as runtime:
        refs = await runtime.spawn_many(step, [()] * 30, concurrency_key="one", concurrency_limit=1)
        for ref in refs:
            await ref.result(WAIT_SECONDS)


async def test_a_pause_holds_at_once_and_a_resume_starts_what_waits(
    settings: Settings, registry: JobRegistry, client: Runtime
) -> None:
    @job(registry=registry)
    async def greet() -> str:
        return "hello"

    patient = settings.model_copy(update={"poll_interval_seconds": 3600.0})
    async with Runtime(patient, registry=registry) as runtime:
        assert await (await runtime.spawn(greet)).result(WAIT_SECONDS) == "hello"
        await client.pause_queue("default")
        ref = await runtime.spawn(greet)
        other = await runtime.spawn(greet, queue="other")
        assert await other.result(WAIT_SECONDS) == "hello"
        assert await ref.status() is Status.PENDING
        [control] = await runtime.queues()
        assert (control.name, control.paused, control.draining) == ("default", True, False)
        await client.resume_queue("default")
        assert await ref.result(WAIT_SECONDS) == "hello"


async def test_a_drained_queue_is_worked_off_and_refuses(runtime: Runtime, registry: JobRegistry) -> None:
    go = asyncio.Event()

    @job(registry=registry)
    async def wait() -> None:
        await go.wait()

    ref = await runtime.spawn(wait)
    await runtime.drain_queue("default")
    with pytest.raises(QueueFull, match="is being drained"):
        await runtime.spawn(wait)
    go.set()
    await ref.result(WAIT_SECONDS)
    await runtime.resume_queue("default")
    await (await runtime.spawn(wait)).result(WAIT_SECONDS)


async def test_promise_7_a_full_owner_is_refused_with_a_hint_and_counted(
    runtime: Runtime, registry: JobRegistry
) -> None:
    @job(registry=registry, owner="ada", delay_seconds=3600)
    async def later() -> None: ...

    await runtime.set_limit(Limit(LimitScope.OWNER, "*", max_queued=2))
    assert [limit.max_queued for limit in await runtime.limits()] == [2]
    await runtime.spawn_many(later, [(), ()])
    with pytest.raises(QueueFull, match="owner 'ada' may have 2 jobs waiting") as full:
        await runtime.spawn(later)
    assert full.value.retry_after_seconds > 0
    assert len(await runtime.jobs(JobFilter(owner="ada"))) == 2
    denied = {"quota": "owner_queued", "outcome": "denied"}
    assert runtime.telemetry.registry.get_sample_value("callboard_quota_checks_total", denied) == 1
    assert await runtime.clear_limit(LimitScope.OWNER, "*")
    await runtime.spawn(later)


async def test_a_duplicate_is_raised_and_a_waiting_one_replaced(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry)
    async def index(text: str) -> str:
        return text

    first = await runtime.spawn(index, "old", unique_key="k", on_conflict="replace", delay_seconds=3600)
    with pytest.raises(DuplicateJob) as duplicate:
        await runtime.spawn(index, "new", unique_key="k", on_conflict="raise")
    assert duplicate.value.job_id == first.id
    second = await runtime.spawn(index, "new", unique_key="k", on_conflict="replace")
    assert (second.id, second.created) == (first.id, False)
    assert await first.result(WAIT_SECONDS) == "new"
