"""The synchronous facade has the same names and does the same."""

import inspect
import os
import threading

import pytest

import callboard
from callboard import (
    ConfigurationError,
    JobFailed,
    JobRegistry,
    RuntimeStopped,
    SchemaMissing,
    Settings,
    Status,
    TransitionEvent,
    job,
)
from callboard.actors.errors import WouldDeadlock
from callboard.sync import JobRef, Runtime

WAIT_SECONDS = 20


@pytest.fixture
def double(registry: JobRegistry):
    @job(registry=registry, max_attempts=1)
    async def double(number: int) -> int:
        if number < 0:
            raise ValueError("negative")
        return 2 * number

    return double


def test_jobs_run(settings: Settings, registry: JobRegistry, double) -> None:
    with Runtime(settings, registry=registry) as runtime:
        ref = runtime.spawn(double, 21, tags=("x",))
        assert ref.result(WAIT_SECONDS) == 42
        assert [ref.result(WAIT_SECONDS) for ref in runtime.spawn_many(double, [(1,), (2,)])] == [2, 4]
        assert ref.status() is Status.COMPLETED
        assert ref.record().tags == ("x",)
        assert [event.row.to_status for event in ref.events() if isinstance(event, TransitionEvent)] == [
            row.to_status for row in ref.history()
        ]
        assert runtime.get(ref.id, double) == ref
        assert len(runtime.jobs()) == 3
        with pytest.raises(JobFailed, match="negative"):
            runtime.spawn(double, -1).result(WAIT_SECONDS)


def test_waiting_jobs(settings: Settings, registry: JobRegistry, double) -> None:
    with Runtime(settings, registry=registry) as runtime:
        delayed, held = runtime.spawn(double, 1, delay_seconds=1000), runtime.spawn(double, 2, hold=True)
        with pytest.raises(TimeoutError):
            delayed.result(0.01)
        assert runtime.run_now([delayed.id]) == 1
        assert held.release()
        assert [delayed.result(WAIT_SECONDS), held.result(WAIT_SECONDS)] == [2, 4]
        cancelled = runtime.spawn(double, 3, delay_seconds=1000)
        assert (cancelled.cancel(), cancelled.cancel()) == (True, False)
        assert runtime.summary().depths == () or all(depth.runnable == 0 for depth in runtime.summary().depths)


def test_any_thread_may_call(settings: Settings, registry: JobRegistry, double) -> None:
    results = []
    with Runtime(settings, registry=registry) as runtime:
        threads = [
            threading.Thread(target=lambda n=n: results.append(runtime.spawn(double, n).result(WAIT_SECONDS)))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [2 * n for n in range(8)]


def test_outside_of_its_life_it_says_so(settings: Settings, double) -> None:
    runtime = Runtime(settings, work=False)
    with pytest.raises(RuntimeStopped, match="inside `with Runtime"):
        runtime.spawn(double, 1)
    with runtime:
        ref = runtime.spawn(double, 1)
    with pytest.raises(RuntimeStopped):
        ref.status()
    runtime.stop()


def test_a_failed_start_leaves_nothing(empty_database_url: str) -> None:
    with pytest.raises(SchemaMissing):
        Runtime(Settings(database_url=empty_database_url)).start()


def test_on_its_own_loop_it_refuses_to_wait_for_itself(settings: Settings, registry: JobRegistry, double) -> None:
    @job(registry=registry, max_attempts=1)
    async def calls_back() -> int:
        return runtime.spawn(double, 1).result()

    with Runtime(settings, registry=registry) as runtime, pytest.raises(JobFailed, match=WouldDeadlock.__name__):
        runtime.spawn(calls_back).result(WAIT_SECONDS)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(Runtime, callboard.Runtime), (JobRef, callboard.JobRef)], ids=["Runtime", "JobRef"]
)
def test_the_names_and_parameters_are_the_same(ours: type, theirs: type) -> None:
    only_inside = {"insert", "stop_serving", "stop_waiting_for_jobs", "take_over", "wait_ended", "wait_given_up"}
    for name, method in inspect.getmembers(theirs, inspect.isfunction):
        if not name.startswith("_") and name not in only_inside:
            assert (
                inspect.signature(getattr(ours, name)).parameters.keys() == inspect.signature(method).parameters.keys()
            )


def test_after_a_fork_it_says_so_instead_of_waiting_for_ever(
    settings: Settings, double, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Runtime(settings, work=False) as runtime:
        ours = os.getpid()
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: ours + 1)  # what a forked child would see
            with pytest.raises(RuntimeStopped, match="forked"):
                runtime.spawn(double, 1)
        with pytest.raises(ConfigurationError, match="runs already"):
            runtime.start()
