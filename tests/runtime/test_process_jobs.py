"""Jobs in child processes, from spawn to end, on a real database."""

import asyncio
import os
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callboard import JobFailed, JobRef, ProgressEvent, Reason, Runtime, Settings, Status
from callboard.vital_signs import VitalSigns
from tests.runtime import process_worker_jobs as jobs
from tests.support.processes import is_running

WAIT_SECONDS = 20


@pytest.fixture
async def runtime(settings: Settings) -> AsyncIterator[Runtime]:
    chosen = settings.model_copy(update={"job_processes": 1, "metrics_port": 0})
    async with Runtime(chosen, registry=jobs.REGISTRY) as runtime:
        yield runtime


async def reasons(ref: JobRef[object]) -> list[Reason]:
    return [row.reason for row in await ref.history()]


async def pid_of(ref: JobRef[object]) -> int:
    """Wait until the job says in which process it runs."""
    async with asyncio.timeout(WAIT_SECONDS):
        async for event in ref.events():
            if isinstance(event, ProgressEvent):
                return int(event.progress["done"])
    raise AssertionError("it ended without saying so")


async def ended(pid: int) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while await asyncio.to_thread(is_running, pid):
            await asyncio.sleep(0.01)


async def test_a_job_in_a_process_returns_a_typed_result(runtime: Runtime) -> None:
    refs = await runtime.spawn_many(jobs.square, [(number,) for number in range(5)])
    results = [await ref.result(WAIT_SECONDS) for ref in refs]
    assert [square for square, _ in results] == [0, 1, 4, 9, 16]
    pids = {pid for _, pid in results}
    assert len(pids) == 1
    assert os.getpid() not in pids
    assert (await refs[0].status()) is Status.COMPLETED


async def test_promise_6_a_timeout_kills_the_process_and_frees_the_slot(runtime: Runtime) -> None:
    ref = await runtime.spawn(jobs.endless)
    pid = await pid_of(ref)
    with pytest.raises(JobFailed, match=r"ran longer than timeout_seconds=0\.2 and was stopped"):
        await ref.result(WAIT_SECONDS)
    await ended(pid)
    assert await reasons(ref) == [Reason.SPAWNED, Reason.CLAIMED, Reason.TIMEOUT]
    after = await runtime.spawn(jobs.square, 3)
    assert (await after.result(WAIT_SECONDS))[0] == 9


async def test_a_cancel_kills_the_process(runtime: Runtime) -> None:
    ref = await runtime.spawn(jobs.unlimited)
    pid = await pid_of(ref)
    await ref.cancel()
    await ended(pid)
    assert (await ref.status()) is Status.CANCELLED


async def test_a_crash_costs_one_attempt(runtime: Runtime) -> None:
    ref = await runtime.spawn(jobs.crash_once)
    assert await ref.result(WAIT_SECONDS) == 2
    assert await reasons(ref) == [Reason.SPAWNED, Reason.CLAIMED, Reason.ERROR, Reason.CLAIMED, Reason.SUCCEEDED]


async def test_too_much_memory_fails_the_job_with_limit_and_use(runtime: Runtime) -> None:
    ref = await runtime.spawn(jobs.greedy)
    with pytest.raises(JobFailed, match=r"took [\d,]+ bytes of memory, more than its memory_limit_bytes=134,217,728"):
        await ref.result(WAIT_SECONDS)


async def test_a_snooze_crosses(runtime: Runtime, tmp_path: Path) -> None:
    ref = await runtime.spawn(jobs.snooze_once, str(tmp_path / "marker"))
    assert await ref.result(WAIT_SECONDS) == "rested"


@pytest.mark.parametrize("job", [jobs.obedient, jobs.unlimited], ids=["obedient", "unlimited"])
async def test_a_stop_puts_back_what_has_not_done_its_work(settings: Settings, job: object) -> None:
    async with Runtime(settings, registry=jobs.REGISTRY) as runtime:
        ref = await runtime.spawn(job)  # type: ignore[var-annotated, arg-type]
        pid = await pid_of(ref)
        await runtime.stop(drain_timeout_seconds=0)
    await ended(pid)
    async with Runtime(settings, work=False) as client:
        again = await client.get(ref.id)
        assert (await again.status()) is Status.PENDING
        assert (await again.record()).attempt == 0, "it is not counted"
        assert (await reasons(again))[-1] is Reason.SHUTDOWN


async def test_the_metrics_count_processes_and_their_ends(runtime: Runtime) -> None:
    assert runtime._worker is not None
    ref = await runtime.spawn(jobs.crash_once)
    await ref.result(WAIT_SECONDS)
    await VitalSigns(runtime.node, runtime._parts, runtime.health, runtime.telemetry, runtime._worker).beat()
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(f"{runtime.metrics_url}/metrics").read().decode())
    lines = text.splitlines()
    assert 'callboard_job_process_ends_total{reason="crashed"} 1.0' in lines
    assert 'callboard_job_processes{state="idle"} 1.0' in lines
    (memory,) = [line for line in lines if line.startswith("callboard_job_process_memory_bytes ")]
    assert float(memory.split()[1]) > 2**20


SCRIPT = """
import asyncio
from callboard import job
from callboard.testing import MemoryRuntime

@job(executor="process")
def double(number: int) -> int:
    return number * 2

async def main() -> None:
    async with MemoryRuntime() as runtime:
        ref = await runtime.spawn(double, 21)
        print(await ref.result(20))

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_scripts_own_jobs_run_in_processes(tmp_path: Path) -> None:
    script = tmp_path / "my-script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr
