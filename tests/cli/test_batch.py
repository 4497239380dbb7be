"""`callboard batch`."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from callboard import Settings
from callboard.actors.batches.provider import Phase, ProviderBatch
from callboard.actors.batches.state import BatchStatus, ItemStatus
from callboard.actors.batches.types import NewBatch, NewItem, Outcome
from callboard.actors.jobs.decide import Park, Policy, decide
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.state import WaitingOn
from callboard.actors.jobs.types import AttemptKey, NewJob, QueueDemand
from callboard.actors.ports import NoTelemetry
from callboard.persistence import stores

from .support import Database, Invoke, document, error_of, succeeded

OUTCOMES = [Outcome(0, ItemStatus.SUCCEEDED, '{"text": "yes"}'), Outcome(1, ItemStatus.ERRORED, None, '"no"')]


def running_batch(url: str, outcomes: list[Outcome]) -> UUID:
    async def write() -> UUID:
        store = stores.postgres(Settings(database_url=url, pg_pool_size=1), NoTelemetry()).store
        items = tuple(NewItem(n, f"item {n}", "{}") for n in range(3))
        batch = NewBatch(uuid7(), "anthropic", None, items)
        try:
            await store.batches.record(batch, grace_seconds=0, actor="test")
            answer = ProviderBatch(id=f"msgbatch {batch.id}", status="in_progress", phase=Phase.RUNNING)
            await store.batches.confirm(batch.id, answer)
            await store.batches.collect(batch.id, outcomes, [], ended_as=BatchStatus.COMPLETED)
        finally:
            await store.close()
        return batch.id

    return asyncio.run(write())


def test_batches_are_listed_and_shown(invoke: Invoke, database: Database) -> None:
    first, second = (running_batch(database.url, OUTCOMES[:count]) for count in (0, 2))
    listed = document(invoke("batch", "list", "--json"))["batches"]
    assert [(batch["id"], batch["collected_items"]) for batch in listed] == [(str(second), 2), (str(first), 0)]
    assert document(invoke("batch", "list", "--json", "--before", second))["batches"] == listed[1:]
    assert document(invoke("batch", "list", "--json", "--provider", "openai")) == {"batches": []}
    assert document(invoke("batch", "list", "--json", "--status", "completed")) == {"batches": []}
    assert str(second) in succeeded(invoke("batch", "list"))
    shown = document(invoke("batch", "show", second, "--results", "--json"))
    assert shown["results"] == [
        {"custom_id": "item 0", "status": "succeeded", "result": {"text": "yes"}, "error": None},
        {"custom_id": "item 1", "status": "errored", "result": None, "error": "no"},
        {"custom_id": "item 2", "status": "pending", "result": None, "error": None},
    ]
    assert {**shown, "results": None} == {**listed[0], "results": None}
    assert "item 2" in succeeded(invoke("batch", "show", second, "--results"))


def test_what_jobs_ask_is_listed_while_it_waits(invoke: Invoke, database: Database) -> None:
    async def ask() -> UUID:
        store = stores.postgres(Settings(database_url=database.url, pg_pool_size=1), NoTelemetry()).store
        try:
            await store.spawn([NewJob(id=uuid7(), kind="k", queue="q", arguments="{}")], actor="test")
            [job] = await store.claim([QueueDemand("q", 1)], node="test", lease_seconds=60)
            await store.llm_requests.ask(AttemptKey(job.id, job.token), "draft", "openai", "{}")
            parked = decide(job, Park(WaitingOn.LLM_BATCH), Policy(), datetime.now(UTC))
            await store.apply([parked], actor="node:test")
        finally:
            await store.close()
        return job.id

    assert document(invoke("batch", "waiting", "--json")) == {"requests": []}
    job_id = str(asyncio.run(ask()))
    [request] = document(invoke("batch", "waiting", "--json"))["requests"]
    assert request.pop("requested_at")
    assert request == {"job_id": job_id, "key": "draft", "provider": "openai", "resubmissions": 0}
    assert job_id in succeeded(invoke("batch", "waiting"))
    assert [job["id"] for job in document(invoke("job", "list", "--waiting-on", "llm_batch", "--json"))["jobs"]] == [
        job_id
    ]
    assert document(invoke("job", "list", "--waiting-on", "children", "--json"))["jobs"] == []


def test_a_batch_is_cancelled_once(invoke: Invoke, database: Database) -> None:
    batch_id = running_batch(database.url, [])
    assert "what it has finished is still collected" in succeeded(invoke("batch", "cancel", batch_id))
    again = invoke("batch", "cancel", batch_id, "--json")
    assert again.exit_code == 1
    assert '"status": "cancelling"' in again.output
    ended = running_batch(database.url, [*OUTCOMES, Outcome(2, ItemStatus.EXPIRED)])
    refused = invoke("batch", "cancel", ended)
    assert (refused.exit_code, refused.output) == (1, f"batch {ended} is completed already\n")


def test_a_batch_that_nobody_knows(invoke: Invoke, database: Database) -> None:
    for words in (("show",), ("cancel",)):
        missing = invoke("batch", *words, uuid7())
        assert missing.exit_code == 1
        assert "no batch has the id" in error_of(missing)
    assert invoke("batch", "show", "seven").exit_code == 2
