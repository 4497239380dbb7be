"""What a worker does again and again, with a store that fails when the test says so."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from callboard import JobContext, JobRegistry, Settings, StoreError, StoreUnavailable, job
from callboard.actors.jobs.types import AttemptKey
from callboard.testing import MemoryRuntime
from tests.actors.jobs.builders import claimed


@pytest.fixture
async def runtime() -> AsyncIterator[MemoryRuntime]:
    settings = Settings(lease_seconds=30, rescue_interval_seconds=1000)
    async with MemoryRuntime(registry=JobRegistry(), settings=settings) as runtime:
        yield runtime


def failing(monkeypatch: pytest.MonkeyPatch, runtime: MemoryRuntime, method: str) -> list[Exception]:
    """Let a store's method raise what is in the returned list, then work again."""
    failures: list[Exception] = []
    works: Callable[..., Any] = getattr(runtime.store, method)

    async def fails(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop(0)
        return await works(*args, **kwargs)

    monkeypatch.setattr(runtime.store, method, fails)
    return failures


async def test_after_an_outage_the_living_may_renew_before_anybody_is_rescued(
    runtime: MemoryRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[float] = []
    rescue = runtime.store.rescue

    async def noted(**kwargs: Any) -> Any:
        swept.append(runtime.clock.monotonic())
        return await rescue(**kwargs)

    monkeypatch.setattr(runtime.store, "rescue", noted)
    failures = failing(monkeypatch, runtime, "rescue")
    for _ in range(5):
        await runtime._worker.rescue()
        runtime.clock.advance(5)
    assert swept == [0, 5, 10, 15, 20]
    failures.append(StoreUnavailable("gone"))
    with pytest.raises(StoreUnavailable):
        await runtime._worker.rescue()
    for _ in range(6):
        runtime.clock.advance(5)
        await runtime._worker.rescue()
    assert swept == [0, 5, 10, 15, 20, 45, 50, 55]


async def test_reports_that_are_refused_hold_nobody_up(
    runtime: MemoryRuntime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = runtime._worker
    failures = failing(monkeypatch, runtime, "progress")
    told: list[str] = []
    worker._progress.on_flush(lambda: None)
    attempt = AttemptKey(claimed().id, 1)

    worker.progress(attempt, {"done": 1})
    worker._progress.flush_before(attempt, lambda: told.append("stored"))
    failures.append(StoreUnavailable("gone"))
    with pytest.raises(StoreUnavailable):
        await worker.flush_progress()
    assert told == []

    failures.append(StoreError("not this"))
    await worker.flush_progress()
    assert told == ["stored"]
    assert "were refused and are dropped" in caplog.text


async def test_a_stop_goes_on_where_a_part_of_it_fails(runtime: MemoryRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    @job(registry=runtime._registry)
    async def noop(ctx: JobContext) -> None: ...

    await (await runtime.spawn(noop)).result(10)
    closed: list[str] = []

    async def close() -> None:
        closed.append("store")

    def stop() -> None:
        raise RuntimeError("the keeper does not stop")

    monkeypatch.setattr(runtime.store, "close", close)
    monkeypatch.setattr(runtime._parts.keeper, "stop", stop)
    failing(monkeypatch, runtime, "forget_node").append(StoreUnavailable("gone"))
    with pytest.raises(RuntimeError, match="the keeper does not stop"):
        await runtime.stop()
    assert closed == ["store"]
    runtime._stopping = None  # so that the fixture's own stop is a plain second one
