"""For unit tests of code that spawns jobs: a runtime in memory, a clock that stands still, and ``drain``.

::

    async def test_summaries_are_made() -> None:
        async with MemoryRuntime() as runtime:
            ref = await runtime.spawn(summarize, 42, delay_seconds=3600)
            await runtime.drain()  # the hour passes at once
            assert await ref.result() == Summary(...)

Jobs run as in production: same actors, same state machine, same validation; only the store is another one, which passes
the same contract tests. Nothing is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from callboard.actors.jobs.definition import JobRegistry, default_registry
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import JobFilter, JobRecord
from callboard.actors.settings import Settings
from callboard.persistence import stores

from .runtime import Runtime

_ALL = 1_000_000
_LOOK_AGAIN_SECONDS = 0.01


class FakeClock:
    """A clock that moves only by ``advance``.

    Args:
        start: the time it shows first, timezone-aware; default 2026-01-01 00:00 UTC.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_seconds = 0.0

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return self._start + timedelta(seconds=self._elapsed_seconds)

    def monotonic(self) -> float:
        """Return the seconds it was advanced by."""
        return self._elapsed_seconds

    def advance(self, seconds: float) -> None:
        """Move on.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"a clock does not go back: got {seconds} s, expected 0 or more")
        self._elapsed_seconds += seconds


class MemoryRuntime(Runtime):
    """A ``Runtime`` whose jobs live in this process's memory.

    Args:
        queues: queue names to how many jobs run at a time; default ``{"default": 100}``.
        registry: the jobs that it can run; default: everything decorated with ``@job`` and imported.
        clock: default: a ``FakeClock`` of its own.
        settings: for everything else; its ``queues`` give way to the argument of that name.

    Attributes:
        clock: what the jobs' times are measured by. Timeouts of running code are real.
    """

    def __init__(
        self,
        *,
        queues: Mapping[str, int] | None = None,
        registry: JobRegistry = default_registry,
        clock: FakeClock | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.clock = clock or FakeClock()
        chosen = settings or Settings()
        if queues is not None:
            chosen = chosen.model_copy(update={"queues": dict(queues)})
        super().__init__(
            chosen,
            registry=registry,
            parts=stores.memory(self.clock, aging_seconds=chosen.priority_aging_seconds),
            clock=self.clock,
        )

    async def drain(self, *, advance: bool = True, timeout_seconds: float = 30.0) -> None:
        """Return when no job runs and none is left that could.

        Args:
            advance: move the clock on to the time of jobs that wait for theirs, retries among them (default). False
                leaves those alone.
            timeout_seconds: real seconds after which it gives up.

        Raises:
            TimeoutError: jobs still run after ``timeout_seconds``.
        """
        async with asyncio.timeout(timeout_seconds):
            while True:
                unfinished = await self.jobs(JobFilter(statuses=(Status.PENDING, Status.RUNNING)), limit=_ALL)
                if self._can_go_on(unfinished):
                    await self.pulse.wait(_LOOK_AGAIN_SECONDS)
                    continue
                times = [job.run_at for job in unfinished if self._waits_for_its_time(job)]
                if not (advance and times):
                    return
                self.clock.advance((min(times) - self.clock.now()).total_seconds())
                self._spawned(next(iter(self.settings.queues)))

    def _can_go_on(self, unfinished: list[JobRecord]) -> bool:
        now = self.clock.now()
        return any(
            job.status is Status.RUNNING or (self._waits_for_its_time(job) and job.run_at <= now) for job in unfinished
        )

    def _waits_for_its_time(self, job: JobRecord) -> bool:
        return job.status is Status.PENDING and job.waiting_on is None and job.queue in self.settings.queues
