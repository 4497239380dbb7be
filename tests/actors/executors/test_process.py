"""Jobs in child processes: crashes, kills, limits, output, and what is left of it all."""

import contextlib
import json
import logging
import multiprocessing.connection
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from callboard.actors.errors import MemoryLimitExceeded, ProcessDied
from callboard.actors.executors.process import ProcessExecutor, available_cores
from callboard.actors.executors.process_limits import ProcessLimits
from callboard.actors.jobs.call import Call, Judged
from callboard.actors.jobs.context import JobContext
from callboard.actors.jobs.definition import JobDefinition
from callboard.actors.jobs.judgement import Failure
from tests.actors.executors import process_jobs, slow_job, unguarded_job
from tests.actors.executors.ears import PATIENCE_SECONDS, Ears
from tests.actors.executors.places import ReportingServices
from tests.actors.jobs.builders import claimed
from tests.support.processes import is_running
from tests.support.waiting import wait_until


class Attempt(Ears):
    """One call under way."""

    def __init__(self, executor: ProcessExecutor, definition: JobDefinition[..., Any], arguments: Any) -> None:
        super().__init__()
        self.claimed = claimed(uuid4(), kind=definition.kind, arguments=json.dumps(arguments))
        self.services = ReportingServices()
        self.call = Call(definition, JobContext(self.claimed, self.services), self.claimed, 1_000_000)
        self.execution = executor.start(self.call, self.on_start, self.on_finish)

    def next_report(self) -> dict[str, Any]:
        return self.services.arrived.get(timeout=PATIENCE_SECONDS)

    def failure(self) -> Failure:
        outcome = self.outcome()
        assert isinstance(outcome, Judged), outcome
        assert isinstance(outcome.judgement, Failure)
        return outcome.judgement


class Pool:
    """An executor, and what became of its processes."""

    def __init__(self, executor: ProcessExecutor, ends: "Counter[str]") -> None:
        self.executor = executor
        self.ends = ends

    def start(self, definition: JobDefinition[..., Any], **arguments: Any) -> Attempt:
        return Attempt(self.executor, definition, arguments)

    def wait_ends(self, ends: dict[str, int]) -> None:
        wait_until(lambda: self.ends == ends)

    def pid(self) -> int:
        return int(self.start(process_jobs.my_pid).result() or 0)


@contextmanager
def pool_of(processes: int = 1, **limits: Any) -> Iterator[Pool]:
    ends: Counter[str] = Counter()

    def count(reason: str) -> None:
        ends[reason] += 1

    executor = ProcessExecutor(processes, ProcessLimits(**limits), count)
    yield Pool(executor, ends)
    executor.close(PATIENCE_SECONDS)
    assert executor.processes() == []


@pytest.fixture(scope="module")
def shared_pool() -> Iterator[Pool]:
    with pool_of() as pool:
        yield pool


@pytest.fixture
def pool(shared_pool: Pool) -> Pool:
    shared_pool.ends.clear()
    return shared_pool


@pytest.fixture
def no_thread_is_left() -> None:
    """The shared pool's own stay for the next test."""


def kill_for_good(pid: int) -> None:
    """Kill a process, and return when it has ended: after the first of its threads, that is, its last one, too."""
    descriptor = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        assert multiprocessing.connection.wait([descriptor], PATIENCE_SECONDS)
    finally:
        os.close(descriptor)


def descriptors() -> set[tuple[int, int, int]]:
    """Return what this process has open: each with its number and what it is of."""
    found = set()
    for entry in list(Path("/dev/fd").iterdir()):
        with contextlib.suppress(OSError):  # the listing's own, which is closed by now
            status = os.fstat(int(entry.name))
            found.add((int(entry.name), status.st_dev, status.st_ino))
    return found


def children() -> list[int]:
    listing = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True, check=False
    )
    return [int(line.split()[0]) for line in listing.stdout.splitlines() if " ps " not in line]


# A process is kept, and replaced


def test_one_process_runs_one_job_after_the_other(pool: Pool) -> None:
    first = pool.pid()
    assert first != os.getpid()
    assert [pool.pid() for _ in range(5)] == [first] * 5
    assert [process.pid for process in pool.executor.processes()] == [first]
    assert pool.ends == {}


def test_processes_start_when_there_is_work_for_them_and_no_more_than_allowed() -> None:
    with pool_of(2) as pool:
        assert pool.executor.processes() == []
        first, second = (pool.start(process_jobs.hang_forever) for _ in range(2))
        waiting = pool.start(process_jobs.my_pid)
        pids = {attempt.next_report()["pid"] for attempt in (first, second)}
        assert {process.pid for process in pool.executor.processes()} == pids
        assert all(process.is_busy and process.memory_bytes > 2**20 for process in pool.executor.processes())
        assert not waiting.started.is_set()
        assert first.execution.abandon()
        assert int(waiting.result() or 0) not in pids
        assert second.execution.abandon()


def test_a_process_is_replaced_after_so_many_jobs() -> None:
    with pool_of(max_jobs=2) as pool:
        pids = [pool.pid() for _ in range(3)]
        assert pids[0] == pids[1] != pids[2]
        pool.wait_ends({"recycled": 1})
        assert not is_running(pids[0])


def test_a_process_that_has_grown_is_replaced() -> None:
    with pool_of(max_memory_bytes=100 * 2**20) as pool:
        first = pool.start(process_jobs.keep, megabytes=1).result()
        grown = pool.start(process_jobs.keep, megabytes=80).result()
        after = pool.start(process_jobs.my_pid).result()
        assert first == grown != after
        pool.wait_ends({"recycled": 1})


def test_a_process_that_died_idle_costs_no_attempt(pool: Pool) -> None:
    pid = pool.pid()
    kill_for_good(pid)
    assert pool.pid() != pid
    pool.wait_ends({"crashed": 1})


def test_a_process_that_died_idle_is_reaped_and_replaced_without_a_job(pool: Pool) -> None:
    pid = pool.pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: [process.pid for process in pool.executor.processes()] not in ([], [pid]))
    assert pid not in children()


# Crashes


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("segfault", "was killed by SIGSEGV (a crash in native code)"),
        ("abort", "was killed by SIGABRT"),
        ("exit", "ended with exit code 0"),
        ("kill", "was killed by SIGKILL (somebody's kill -9, or the kernel's when memory ran out)"),
        ("hang up", "ended with exit code 1"),
    ],
)
def test_a_crash_is_a_failed_attempt_that_says_how(pool: Pool, how: str, words: str) -> None:
    attempt = pool.start(process_jobs.crash, how=how)
    exception = attempt.exception()
    assert isinstance(exception, ProcessDied)
    assert f"the process of job tests.actors.executors.process_jobs.crash {words}" in str(exception)
    if how in ("segfault", "abort", "hang up"):
        assert "its last lines on stderr:" in str(exception)
        assert ("in crash" if how != "hang up" else "Bad file descriptor") in str(exception), "the traceback"
    assert pool.pid() in [process.pid for process in pool.executor.processes()], "the next job is not touched"
    pool.wait_ends({"crashed": 1})


def test_a_kill_from_outside_is_a_failed_attempt(pool: Pool) -> None:
    attempt = pool.start(process_jobs.hang_forever)
    os.kill(attempt.next_report()["pid"], signal.SIGKILL)
    assert "was killed by SIGKILL" in str(attempt.exception())


def test_crashes_of_one_do_not_touch_another() -> None:
    with pool_of(2) as pool:
        obedient = pool.start(process_jobs.hang_forever)
        pid = obedient.next_report()["pid"]
        for _ in range(2):
            assert isinstance(pool.start(process_jobs.crash, how="kill").exception(), ProcessDied)
        assert is_running(pid)
        assert obedient.heard_nothing()
        assert obedient.execution.abandon()


# Kills


def test_a_job_that_does_not_end_is_killed_with_what_it_has_started(
    pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = pool.start(process_jobs.hang_forever)
    pids = attempt.next_report()
    attempt.execution.cancel()
    assert attempt.execution.abandon()
    wait_until(lambda: not is_running(pids["pid"]) and not is_running(pids["grandchild"]))
    assert "does not end when asked: its process" in caplog.text
    wait_until(lambda: pool.executor.abandoned == 0)
    assert pool.pid() != pids["pid"]
    pool.wait_ends({"stopped": 1})
    assert attempt.heard_nothing()


def test_a_copy_that_the_job_left_behind_does_not_hide_the_end_of_its_process(pool: Pool) -> None:
    copy = int(pool.start(process_jobs.fork_and_return).result() or 0)
    pid = pool.pid()
    kill_for_good(pid)
    assert pool.pid() != pid
    wait_until(lambda: not is_running(copy))


def test_a_stop_of_the_whole_service_leaves_the_processes_to_the_worker(pool: Pool) -> None:
    assert pool.start(process_jobs.survive_signals).result() == '"True"'
    assert pool.ends == {}


def test_ctrl_c_reaches_the_worker_only(pool: Pool) -> None:
    pid = pool.pid()
    assert os.getpgid(pid) == pid != os.getpgid(0)


# Memory


def test_a_job_that_takes_more_than_its_limit_is_killed_and_told_so(pool: Pool) -> None:
    assert pool.start(process_jobs.devour, megabytes=10).result() == '"enough"'
    exception = pool.start(process_jobs.devour, megabytes=300).exception()
    assert isinstance(exception, MemoryLimitExceeded)
    assert "of memory, more than its memory_limit_bytes=134,217,728; its process was killed" in str(exception)
    assert pool.pid() > 0
    pool.wait_ends({"memory_limit": 1})


def test_what_others_have_left_does_not_count_against_a_job() -> None:
    with pool_of() as pool:
        used = pool.start(process_jobs.keep, megabytes=100).result()
        assert pool.start(process_jobs.devour, megabytes=10).result() == '"enough"'
        assert pool.start(process_jobs.my_pid).result() != used
        pool.wait_ends({"recycled": 1})


# Finding the function


def test_a_job_is_found_under_another_name_than_its_functions(pool: Pool) -> None:
    assert pool.start(process_jobs.under_another_name).result() == "1"


@pytest.mark.parametrize(
    ("change", "type_", "words"),
    [
        ({"__module__": "tests.there_is_no_such_module"}, "ModuleNotFoundError", "there_is_no_such_module"),
        ({"__module__": "tests.actors.executors.ears"}, "callboard.actors.errors.UnknownJobKind", "defines no job"),
    ],
)
def test_a_module_that_the_child_cannot_use_is_a_failed_attempt(
    pool: Pool, change: dict[str, str], type_: str, words: str
) -> None:
    def elsewhere() -> None: ...

    elsewhere.__qualname__ = "elsewhere"
    for name, value in change.items():
        setattr(elsewhere, name, value)
    failure = pool.start(process_jobs.IN_A_PROCESS(elsewhere)).failure()
    assert failure.error["type"] == type_
    assert words in failure.error["message"]
    assert pool.pid() > 0


def test_a_module_that_starts_a_runtime_when_imported_is_told_what_to_do(pool: Pool) -> None:
    failure = pool.start(unguarded_job.unguarded).failure()
    assert failure.error["type"] == "callboard.actors.errors.ConfigurationError"
    assert "under `if __name__ == '__main__':`" in failure.error["message"]


def test_an_import_that_takes_for_ever_is_given_up() -> None:
    with pool_of(start_timeout_seconds=3) as pool:
        assert pool.pid() > 0
        exception = pool.start(slow_job.slow).exception()
        assert isinstance(exception, ProcessDied)
        assert "did not begin within 3 s (CALLBOARD_JOB_PROCESS_START_TIMEOUT_SECONDS)" in str(exception)
        pool.wait_ends({"not_ready": 1})


def test_map_is_refused_by_name(pool: Pool) -> None:
    failure = pool.start(process_jobs.mapping).failure()
    assert not failure.retryable
    assert "ctx.map is not there in a job with executor='process'" in failure.error["message"]


@pytest.mark.parametrize("method", ["ctx.step", "ctx.llm_batch"])
def test_what_needs_the_worker_is_refused_by_name(pool: Pool, method: str) -> None:
    failure = pool.start(process_jobs.asking, method=method).failure()
    assert not failure.retryable
    assert f"{method} is not there in a job with executor='process'" in failure.error["message"]


def test_the_function_has_the_main_thread_to_itself(pool: Pool) -> None:
    assert pool.start(process_jobs.in_the_main_thread).result() == "true"


# Output


def test_what_a_job_prints_and_logs_is_in_the_log_with_its_id(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    attempt = pool.start(process_jobs.talk, text="hällo")
    attempt.result()
    job_id = attempt.claimed.id
    source = f"job {job_id} (tests.actors.executors.process_jobs.talk)"
    messages = {(record.name, record.levelname, record.getMessage()) for record in caplog.records}
    assert ("callboard.jobs", "INFO", f"{source} stdout: hällo") in messages
    assert ("callboard.jobs", "INFO", f"{source} stdout: by the descriptor \\xff") in messages
    assert ("callboard.jobs", "WARNING", f"{source} stderr: no newline") in messages
    assert ("talker", "WARNING", f"{source}: careful, you") in messages
    (raised,) = [record for record in caplog.records if "it raised" in record.getMessage()]
    assert "ValueError: inside" in raised.getMessage()
    assert (vars(raised)["job_id"], vars(raised)["job_kind"]) == (str(job_id), attempt.claimed.kind)
    assert "not for everybody" not in caplog.text


def test_much_output_holds_nobody_up(pool: Pool) -> None:
    assert pool.start(process_jobs.flood, lines=5_000).result() == "5000"


def test_a_job_may_close_its_streams() -> None:
    with pool_of() as pool:  # of its own: its process cannot print any more
        assert pool.start(process_jobs.close_own_streams).result() == '"still here"'
        assert pool.pid() > 0


# What is left


def test_nothing_is_left_when_it_is_closed(pool: Pool) -> None:
    pool.pid()  # the other tests' process has started, and stays as it is
    before, children_before = descriptors(), children()
    with pool_of(2) as own:
        pids = {own.pid()}
        own.start(process_jobs.crash, how="kill").exception()
        attempt = own.start(process_jobs.hang_forever)
        pids.add(attempt.next_report()["pid"])
        attempt.execution.abandon()
    assert (
        not descriptors() - before
    )  # others may be closed meanwhile: what earlier tests left to the garbage collector
    assert children() == children_before
    assert not any(map(is_running, pids))


def test_a_closed_executor_takes_no_calls() -> None:
    with pool_of() as pool:
        pool.executor.close(PATIENCE_SECONDS)
        with pytest.raises(RuntimeError, match="the executor is closed"):
            pool.start(process_jobs.my_pid)


@pytest.mark.parametrize("job", ["hang_forever", "my_pid"])
def test_processes_end_with_a_worker_that_is_killed(job: str) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.actors.executors.process_owner", job],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        assert is_running(pid)
        worker.kill()
        wait_until(lambda: not is_running(pid))


def test_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def out_of_processes(*_: Any, **__: Any) -> Any:
        raise BlockingIOError("no more processes")

    with pool_of() as pool:
        with monkeypatch.context() as patch:
            patch.setattr("callboard.actors.executors.job_process.ChildProcess", out_of_processes)
            exception = pool.start(process_jobs.my_pid).exception()
        assert isinstance(exception, ProcessDied)
        assert "no process could be started" in str(exception)
        assert "a job process cannot be started: no more processes" in caplog.text
        assert pool.pid() > 0, "and then one can"


def test_there_is_a_core() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
