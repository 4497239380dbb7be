"""Jobs that ask a model and wait without a worker, with the real SDK and a stand-in for the provider."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from callboard import JobFailed, JobRef, Reason, Runtime, Status
from tests.support.faulty_provider import Fault, FaultyProvider, lines, refused
from tests.support.module_process import module_process

from .llm_jobs import REGISTRY, blocking, careful, careless, draft, settings

WAIT_SECONDS = 60


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProvider]:
    with FaultyProvider() as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
        yield server


@pytest.fixture
async def asking(database_url: str, provider: FaultyProvider) -> AsyncIterator[Runtime]:
    async with Runtime(settings(database_url, 0.2), registry=REGISTRY) as runtime:
        yield runtime


async def parked(ref: JobRef) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while (await ref.record()).waiting_on != "llm_batch":
            await asyncio.sleep(0.02)


@pytest.mark.processes
@pytest.mark.chaos
async def test_promise_2_and_8_a_job_parked_for_a_model_outlives_its_worker(
    database_url: str, provider: FaultyProvider, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    async with Runtime(settings(database_url, 600), work=False, registry=REGISTRY) as client:
        async with module_process("tests.runtime.llm_jobs", database_url, 600):
            ref = await client.spawn(draft, journal, "one two")
            await parked(ref)
        async with Runtime(settings(database_url, 0.2), registry=REGISTRY):
            assert "2 words: one two" in await ref.result(WAIT_SECONDS)
        record = await ref.record()
        reasons = [row.reason for row in await ref.history()]
    assert journal.read_text().splitlines() == ["before one two", "after one two"]
    assert record.attempt == 1
    assert reasons == [Reason.SPAWNED, Reason.CLAIMED, Reason.PARKED, Reason.CLAIMED, Reason.SUCCEEDED]
    assert len(provider.batches.all()) == 1


async def test_jobs_that_ask_at_the_same_time_share_batches(
    asking: Runtime, provider: FaultyProvider, tmp_path: Path
) -> None:
    refs = await asking.spawn_many(draft, [(tmp_path / "journal", f"prompt {n}") for n in range(12)])
    replies = [await ref.result(WAIT_SECONDS) for ref in refs]
    assert all(f"2 words: prompt {n}" in reply for n, reply in enumerate(replies))
    assert len((tmp_path / "journal").read_text().splitlines()) == 24
    batches = await asking.batch_store.list_batches(limit=100, before=None)
    assert sum(batch.total_items for batch in batches) == 12
    assert len(provider.batches.all()) == len(batches)


async def test_a_refusal_is_a_typed_error_that_another_attempt_would_meet_again(
    asking: Runtime, provider: FaultyProvider
) -> None:
    provider.always("anthropic_create", refused(400))
    assert await (await asking.spawn(careful)).result(WAIT_SECONDS) == ["draft", "errored"]
    ref = await asking.spawn(careless)
    with pytest.raises(JobFailed, match=r"ctx\.llm_batch 'draft' ended errored"):
        await ref.result(WAIT_SECONDS)
    record = await ref.record()
    assert (record.status, record.attempt, record.stop_reason) == (Status.FAILED, 1, Reason.NOT_RETRYABLE)


OVERLOADED = {"type": "errored", "error": {"type": "error", "error": {"type": "overloaded_error", "message": "later"}}}
REFUSED = {"type": "errored", "error": {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}}


def instead(result: dict[str, object]) -> Fault:
    """Answer every request so."""
    return lines(lambda all_: [json.dumps(json.loads(one) | {"result": result}).encode() + b"\n" for one in all_])


@pytest.mark.parametrize("result", [OVERLOADED, {"type": "expired"}])
async def test_a_request_that_had_no_answer_is_sent_again_and_the_job_waits_on(
    asking: Runtime, provider: FaultyProvider, tmp_path: Path, result: dict[str, object]
) -> None:
    provider.script("anthropic_results", instead(result))
    ref = await asking.spawn(draft, tmp_path / "journal", "one two")
    assert "2 words: one two" in await ref.result(WAIT_SECONDS)
    reasons = [row.reason for row in await ref.history()]
    assert reasons == [Reason.SPAWNED, Reason.CLAIMED, Reason.PARKED, Reason.CLAIMED, Reason.SUCCEEDED]
    assert len(provider.batches.all()) == 2


@pytest.mark.parametrize(("result", "batches"), [(OVERLOADED, 2), (REFUSED, 1)])
async def test_what_is_refused_is_not_sent_again_and_nothing_for_ever(
    asking: Runtime, provider: FaultyProvider, result: dict[str, object], batches: int
) -> None:
    provider.always("anthropic_results", instead(result))
    assert await (await asking.spawn(careful)).result(WAIT_SECONDS) == ["draft", "errored"]
    assert len(provider.batches.all()) == batches


async def test_a_job_in_a_thread_asks_too(asking: Runtime) -> None:
    assert "3 words: from a thread" in await (await asking.spawn(blocking)).result(WAIT_SECONDS)


async def test_where_nobody_polls_nobody_waits(database_url: str) -> None:
    unpolled = settings(database_url, 0.2).model_copy(update={"enable_batch_job_polling": False})
    async with Runtime(unpolled, registry=REGISTRY) as worker:
        with pytest.raises(JobFailed, match="CALLBOARD_ENABLE_BATCH_JOB_POLLING=true"):
            await (await worker.spawn(careful)).result(WAIT_SECONDS)
