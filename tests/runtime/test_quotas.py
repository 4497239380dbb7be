"""The quotas of a runtime's own tree."""

import asyncio
import threading

import pytest

from callboard import JobFailed, JobRegistry, Runtime, Settings, job
from callboard.supervision.health import liveness

WAIT_SECONDS = 30


async def test_threads_that_nobody_can_end_end_the_process_before_they_fill_it(
    settings: Settings, registry: JobRegistry
) -> None:
    released = threading.Event()

    @job(registry=registry, executor="thread", max_attempts=1, timeout_seconds=0.1)
    def hang() -> None:
        released.wait(WAIT_SECONDS)

    runtime = Runtime(settings.model_copy(update={"max_abandoned_calls": 2}), registry=registry)
    try:
        async with runtime:
            for ref in await runtime.spawn_many(hang, [()] * 2):
                with pytest.raises(JobFailed):
                    await ref.result(WAIT_SECONDS)
            assert runtime._worker.abandoned_calls() == 2
            assert not runtime._given_up.is_set()  # two are allowed
            await runtime.spawn(hang)
            async with asyncio.timeout(WAIT_SECONDS):
                await runtime.wait_given_up()
            (reason,) = liveness(runtime.health.state()).reasons
            assert "quota 'runtime': abandoned_threads 3, and the limit is 2" in reason
    finally:
        released.set()
