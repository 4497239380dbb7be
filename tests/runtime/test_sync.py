"""The synchronous facade has the same names and does the same."""

import inspect
import os
import threading
from collections.abc import Iterator, Sequence
from uuid import uuid4

import pytest

import callboard
from callboard import (
    BatchNotFound,
    BatchRequest,
    BatchStatus,
    ConfigurationError,
    InvalidBatch,
    JobFailed,
    JobRegistry,
    RuntimeStopped,
    SchemaMissing,
    Settings,
    Status,
    TransitionEvent,
    job,
)
from callboard.actors.batches.provider import BatchLimits, Phase, ProviderBatch
from callboard.actors.batches.types import WireRequest
from callboard.actors.errors import WouldDeadlock
from callboard.sync import BatchRef, JobRef, Runtime
from tests.support.faulty_provider import FaultyProvider

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


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProvider]:
    with FaultyProvider() as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
        yield server


@pytest.fixture
def polling(settings: Settings) -> Settings:
    changes = {"enable_batch_job_polling": True, "poll_running_llm_batches_interval_seconds": 0.1}
    return settings.model_copy(update=changes)


def requests(count: int) -> list[BatchRequest]:
    return [BatchRequest(f"item {n}", {"messages": [{"role": "user", "content": f"prompt {n}"}]}) for n in range(count)]


def test_batches_are_submitted_and_their_results_come(
    polling: Settings, registry: JobRegistry, provider: FaultyProvider
) -> None:
    with Runtime(polling, registry=registry) as runtime:
        ref = runtime.submit_batch("anthropic", requests(3))
        results = ref.results(WAIT_SECONDS)
        assert [(one.custom_id, one.status) for one in results] == [(f"item {n}", "succeeded") for n in range(3)]
        assert list(ref.collected()) == results
        record = ref.ended(WAIT_SECONDS)
        assert (ref.status(), record.status, ref.record().collected_items) == ("completed", "completed", 3)
        assert not ref.cancel()
        assert not runtime.cancel_batch(ref.id)
        same = runtime.get_batch(ref.id)
        assert (same, same.provider, hash(same)) == (ref, "anthropic", hash(ref))
        assert [batch.id for batch in runtime.batches(statuses=[BatchStatus.COMPLETED])] == [ref.id]
        with pytest.raises(InvalidBatch, match="got no requests"):
            runtime.submit_batch("anthropic", [])


def test_batches_are_divided_waited_for_and_cancelled(settings: Settings, provider: FaultyProvider) -> None:
    polled_by_others = {"enable_batch_job_polling": True, "request_size_limit_bytes": 600}
    with Runtime(settings.model_copy(update=polled_by_others), work=False) as runtime:
        first, second = runtime.submit_batches("anthropic", requests(4))
        assert [first.record().total_items, second.record().total_items] == [2, 2]
        with pytest.raises(TimeoutError):
            first.ended(0.01)
        with pytest.raises(TimeoutError):
            first.results(0.01)
        assert [one.status for one in first.collected()] == ["pending"] * 2
        assert (first.cancel(), first.cancel()) == (True, False)
        assert runtime.cancel_batch(second.id)
        assert {batch.status for batch in runtime.batches(provider="anthropic")} == {"cancelling"}
        with pytest.raises(BatchNotFound):
            runtime.get_batch(uuid4())


class Own:
    """A provider of a program's own, as far as a submission asks it."""

    limits, endpoints = BatchLimits(10, 10_000), ()

    async def submit(self, reference: str, requests: Sequence[WireRequest], endpoint: str | None) -> ProviderBatch:
        return ProviderBatch(id=f"own {len(requests)}", status="begun", phase=Phase.RUNNING)


def test_a_provider_of_the_programs_own_is_asked(polling: Settings, registry: JobRegistry) -> None:
    with Runtime(polling, work=False, registry=registry, providers={"mine": Own()}) as runtime:
        assert runtime.submit_batch("mine", requests(2)).record().provider_batch_id == "own 2"
        with pytest.raises(ConfigurationError, match="expected one of anthropic, mine, openai"):
            runtime.submit_batch("yours", requests(1))


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
    ("ours", "theirs"),
    [(Runtime, callboard.Runtime), (JobRef, callboard.JobRef), (BatchRef, callboard.BatchRef)],
    ids=["Runtime", "JobRef", "BatchRef"],
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
