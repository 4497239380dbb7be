"""Steps in running jobs: through errors, parking, and an outage between the effect and the record."""

import threading

import pytest

from callboard import JobContext, JobRef, JobRegistry, Reason, Runtime, StoreUnavailable, job
from callboard.persistence.steps import PostgresSteps

WAIT_SECONDS = 20


async def reasons(ref: JobRef) -> list[Reason]:
    return [row.reason for row in await ref.history()]


@pytest.mark.parametrize("executor", ["async", "thread"])
async def test_a_step_survives_errors_and_parking(runtime: Runtime, registry: JobRegistry, executor: str) -> None:
    runs: list[str] = []

    def fetch(number: int) -> int:
        runs.append("fetch")
        return number + 1

    async def review(number: int) -> int:
        runs.append("review")
        return number + 1

    @job(registry=registry, queue="other")
    def square(number: int) -> int:
        return number * number

    @job(registry=registry, executor=executor, max_attempts=2)
    async def steps(ctx: JobContext) -> int:
        fetched = await ctx.step("fetch", fetch, 1)
        [squared] = await ctx.map(square, [(fetched,)])
        reviewed: int = await ctx.step("review", review, squared)
        runs.append("end")
        if ctx.attempt == 1:
            raise ValueError("once more")
        return reviewed

    ref = await runtime.spawn(steps)
    assert await ref.result(WAIT_SECONDS) == 5
    assert runs == ["fetch", "review", "end", "end"]
    assert [reason for reason in await reasons(ref) if reason is not Reason.CLAIMED] == [
        Reason.SPAWNED,
        Reason.PARKED,
        Reason.ERROR,
        Reason.SUCCEEDED,
    ]


async def test_a_step_whose_effect_is_done_waits_for_the_database(
    runtime: Runtime, registry: JobRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    record, failures = PostgresSteps.record, [StoreUnavailable("gone"), StoreUnavailable("gone")]

    async def away_at_first(*args: object) -> str:
        if failures:
            raise failures.pop()
        return await record(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(PostgresSteps, "record", away_at_first)

    @job(registry=registry, max_attempts=1)
    async def pays(ctx: JobContext) -> None:
        await ctx.step("pay", calls.append, 1)

    await (await runtime.spawn(pays)).result(WAIT_SECONDS)
    assert (calls, failures) == ([1], [])


async def test_an_attempt_that_was_cancelled_keeps_nothing(runtime: Runtime, registry: JobRegistry) -> None:
    runs, go_on = threading.Event(), threading.Event()
    ended = threading.Event()

    def holds() -> int:
        runs.set()
        go_on.wait(WAIT_SECONDS)
        return 1

    @job(registry=registry, executor="thread")
    async def held(ctx: JobContext) -> None:
        try:
            await ctx.step("draft", holds)
        finally:
            ended.set()

    ref = await runtime.spawn(held)
    while not runs.is_set():
        await ref.record()
    await ref.cancel()
    go_on.set()
    while not ended.is_set():
        await ref.record()
    assert await runtime.store.steps.read(ref.id, "draft") is None
