"""Workers that are dead, that were thought dead, and that only seem so: promises 2 and 4, with real processes."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from callboard import JobRef, Reason, Runtime, Settings, Status
from tests.support.module_process import module_process

from .worker_jobs import keep_loop_busy, wait_for_file

pytestmark = [pytest.mark.processes, pytest.mark.chaos]

LEASE_SECONDS = 2.0
SWEEP_SECONDS = 0.2
BUSY_MACHINE_SECONDS = 5.0
"""What may come on top where other programs use the processors; far below any other limit that there is."""
WAIT_SECONDS = 60


class WorkerProcess:
    """A worker of the test's own, and what it said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log = ""

    async def says(self, what: str) -> None:
        """Wait until its log has a line with these words."""
        async with asyncio.timeout(WAIT_SECONDS):
            while what not in self.log:
                self.log += (await self.process.stderr.readline()).decode()

    async def finish(self) -> dict[str, int]:
        """Stop it in order; returns what it was refused."""
        self.process.stdin.close()
        async with asyncio.timeout(WAIT_SECONDS):
            output, log = await asyncio.gather(self.process.stdout.read(), self.process.stderr.read())
            assert await self.process.wait() == 0
        self.log += log.decode()
        return json.loads(output.splitlines()[-1])


StartWorker = Callable[..., Awaitable[WorkerProcess]]


@pytest.fixture
async def start_worker(database_url: str) -> AsyncIterator[StartWorker]:
    async with AsyncExitStack() as stack:

        async def start(*options: str) -> WorkerProcess:
            words = database_url, LEASE_SECONDS, *options
            worker = module_process("tests.runtime.worker_process", *words, stderr=asyncio.subprocess.PIPE)
            return WorkerProcess(await stack.enter_async_context(worker))

        yield start


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[Runtime]:
    settings = Settings(database_url=database_url, poll_interval_seconds=0.1, pg_pool_size=4)
    async with Runtime(settings, work=False) as client:
        yield client


async def claims(ref: JobRef, count: int) -> None:
    """Wait until the job has been claimed so many times."""
    async with asyncio.timeout(WAIT_SECONDS):
        while sum(row.reason is Reason.CLAIMED for row in await ref.history()) < count:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("options", "wakes"),
    [
        ((), "while the heir runs"),
        (("--no-renewals",), "while the heir runs"),
        (("--no-renewals",), "when the heir is done"),
    ],
    ids=["finds its lease lost", "has its progress refused", "has its end refused"],
)
async def test_promise_2_a_stopped_worker_that_goes_on_can_write_nothing(
    client: Runtime, start_worker: StartWorker, tmp_path: Path, options: tuple[str, ...], wakes: str
) -> None:
    file = tmp_path / "go"
    zombie = await start_worker(*options)
    ref = await client.spawn(wait_for_file, file)
    await claims(ref, 1)
    zombie.process.send_signal(signal.SIGSTOP)
    heir = await start_worker()
    await claims(ref, 2)

    if wakes == "while the heir runs":
        zombie.process.send_signal(signal.SIGCONT)
        await zombie.says("is lost")  # its lease is, or its progress is refused
        file.touch()
    else:
        file.touch()
        await ref.result(WAIT_SECONDS)
        zombie.process.send_signal(signal.SIGCONT)

    assert await ref.result(WAIT_SECONDS) == (2, heir.process.pid)
    refused = await zombie.finish()
    assert refused["stale"] + refused["lost"] >= 1
    if wakes == "when the heir is done":
        assert refused["stale"] == 1
        assert "StaleAttempt: job" in zombie.log
    await heir.finish()
    rows = await ref.history()
    assert [(row.attempt, row.to_status, row.reason) for row in rows] == [
        (0, Status.PENDING, Reason.SPAWNED),
        (1, Status.RUNNING, Reason.CLAIMED),
        (1, Status.PENDING, Reason.LEASE_EXPIRED),
        (2, Status.RUNNING, Reason.CLAIMED),
        (2, Status.COMPLETED, Reason.SUCCEEDED),
    ]
    assert (await ref.record()).progress == {"attempt": 2}


async def test_promise_2_a_long_job_on_a_busy_loop_is_run_once(client: Runtime, start_worker: StartWorker) -> None:
    """Longer than several leases, with another worker that would take it over."""
    owner = await start_worker()
    ref = await client.spawn(keep_loop_busy, 3 * LEASE_SECONDS)
    await claims(ref, 1)
    other = await start_worker()
    assert await ref.result(WAIT_SECONDS) == owner.process.pid
    assert [row.reason for row in await ref.history()] == [Reason.SPAWNED, Reason.CLAIMED, Reason.SUCCEEDED]
    assert await owner.finish() == await other.finish() == {"stale": 0, "lost": 0}


async def test_promise_4_what_a_killed_worker_ran_runs_again_after_the_lease_and_one_sweep(
    client: Runtime, start_worker: StartWorker, tmp_path: Path
) -> None:
    file = tmp_path / "go"
    victim = await start_worker()
    ref = await client.spawn(wait_for_file, file)
    await claims(ref, 1)
    heir = await start_worker()
    victim.process.kill()
    await victim.process.wait()
    lease = (await ref.record()).lease_expires_at
    assert lease is not None
    await claims(ref, 2)
    file.touch()
    assert await ref.result(WAIT_SECONDS) == (2, heir.process.pid)
    [rescued] = [row for row in await ref.history() if row.reason is Reason.LEASE_EXPIRED]
    assert timedelta(0) < rescued.at - lease < timedelta(seconds=SWEEP_SECONDS + BUSY_MACHINE_SECONDS)
    await heir.finish()
