"""Callbacks end to end: from a job's end to a receiver, with failures and dead workers."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from uuid import UUID

import psycopg
import pytest

from callboard import Abort, ConfigurationError, JobRegistry, Runtime, Settings, job
from callboard.actors.callbacks.attempts import CallbackState
from callboard.actors.callbacks.deliverer import SLOTS
from callboard.actors.jobs.types import JobRecord
from tests.support.module_process import module_process
from tests.support.receiver import Received, Receiver, plain

from .worker_jobs import slow_square

SECRET = "whsec_" + "QUJD" * 10


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            **Settings(callback_secret=SECRET).model_dump(include={"callback_secret"}),
            "callback_trusted_hosts": ("127.0.0.1",),
            "callback_retry_delays_seconds": (0.01, 0.01),
            "callback_timeout_seconds": 5,
        }
    )


async def recorded(runtime: Runtime, job_id: UUID, state: CallbackState) -> JobRecord:
    async with asyncio.timeout(20):
        while True:
            if [one for one in await runtime.store.callbacks.read(state, limit=10) if one.job_id == job_id]:
                record = await runtime.store.get(job_id)
                assert record is not None
                return record
            await runtime.pulse.wait(0.05)


async def test_all_three_ends_call_back(runtime: Runtime, registry: JobRegistry) -> None:
    @job(kind="work", registry=registry)
    async def work(fails: bool) -> None:
        if fails:
            raise Abort("no")

    async with Receiver(plain(200)) as receiver:
        options = {"callback_url": f"{receiver.url}/done", "metadata": {"tenant": "acme"}}
        good = await runtime.spawn(work, False, **options)
        bad = await runtime.spawn(work, True, **options)
        cancelled = await runtime.spawn(work, False, delay_seconds=3600, **options)
        await cancelled.cancel()
        requests = await receiver.wait(3)
        told = {request.headers["webhook-id"]: request.verified(SECRET) for request in requests}
        for ref, status in ((good, "completed"), (bad, "failed"), (cancelled, "cancelled")):
            document = told[f"msg_{ref.id.hex}"]
            assert document["type"] == f"job.{status}"
            assert document["data"]["job_id"] == str(ref.id)
            assert (document["data"]["status"], document["data"]["metadata"]) == (status, {"tenant": "acme"})
            record = await recorded(runtime, ref.id, CallbackState.DELIVERED)
            assert record.callback_sent_at is not None
            assert (record.callback_status_code, record.callback_error) == (200, None)
    assert len(requests) == 3


async def test_a_job_without_a_callback_calls_nobody(runtime: Runtime, registry: JobRegistry) -> None:
    """B17: not the URL ``None``."""

    @job(kind="work", registry=registry)
    async def work() -> None: ...

    ref = await runtime.spawn(work)
    await ref.result(20)
    record = await ref.record()
    assert (record.callback_url, record.callback_sent_at, record.callback_error) == (None, None, None)
    assert await runtime.store.callbacks.read(None, limit=10) == []


async def test_it_is_tried_again_with_the_same_id_then_dead_then_replayed(
    runtime: Runtime, registry: JobRegistry
) -> None:
    @job(kind="work", registry=registry)
    async def work() -> None: ...

    async with Receiver(plain(500), plain(302), plain(503), plain(200)) as receiver:
        ref = await runtime.spawn(work, callback_url=receiver.url)
        dead = await recorded(runtime, ref.id, CallbackState.DEAD)
        assert (dead.callback_status_code, dead.callback_error) == (503, "the receiver answered 503")
        assert await runtime.store.callbacks.replay([ref.id]) == [ref.id]
        await recorded(runtime, ref.id, CallbackState.DELIVERED)
        assert {request.headers["webhook-id"] for request in receiver.requests} == {f"msg_{ref.id.hex}"}
        assert len({request.body for request in receiver.requests}) == 1
        assert len(receiver.requests) == 4


async def test_gone_is_the_end(runtime: Runtime, registry: JobRegistry) -> None:
    @job(kind="work", registry=registry)
    async def work() -> None: ...

    async with Receiver(plain(410)) as receiver:
        ref = await runtime.spawn(work, callback_url=receiver.url)
        assert (await recorded(runtime, ref.id, CallbackState.DEAD)).callback_status_code == 410
        assert len(receiver.requests) == 1


async def test_what_may_not_be_called_is_refused_and_nothing_is_written(
    runtime: Runtime, registry: JobRegistry
) -> None:
    @job(kind="work", registry=registry)
    async def work() -> None: ...

    for url in ("http://example.com/", "https://169.254.169.254/", "https://user@example.com/", "nonsense"):
        with pytest.raises(ConfigurationError, match="callback_url: got"):
            await runtime.spawn(work, callback_url=url)
        with pytest.raises(ConfigurationError, match="callback_url: got"):
            await runtime.spawn_many(work, [(), ()], callback_url=url)
    assert await runtime.jobs() == []


@pytest.mark.parametrize("secret", ["secret", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!"])
def test_a_secret_that_is_none_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="expected whsec_"):
        Settings(callback_secret=secret)


async def test_a_worker_that_cannot_sign_says_so_where_it_matters(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    unsigned = settings.model_copy(update={"callback_secret": None})
    with_callback, without = JobRegistry(), JobRegistry()

    @job(kind="told", registry=with_callback, callback_url="https://example.com/done")
    async def told() -> None: ...

    @job(kind="work", registry=without)
    async def work() -> None: ...

    async def said(settings: Settings, registry: JobRegistry) -> list[str]:
        caplog.clear()
        async with Runtime(settings, registry=registry):
            return [one.getMessage() for one in caplog.records if getattr(one, "event", "") == "callbacks.unsigned"]

    assert await said(unsigned, without) == []
    [message] = await said(unsigned, with_callback)
    assert message.startswith("jobs of told have a callback_url, but this worker has no CALLBOARD_CALLBACK_SECRET")
    assert await said(settings, with_callback) == []
    async with Runtime(unsigned, registry=without) as runtime:
        await (await runtime.spawn(work, callback_url="https://example.com/done")).result(20)
    [message] = await said(unsigned, without)
    assert message.startswith("there are callbacks to deliver, but")


async def test_a_host_that_does_not_answer_holds_up_no_other_one(
    settings: Settings, registry: JobRegistry, database_url: str
) -> None:
    @job(kind="work", registry=registry)
    async def work() -> None: ...

    async def silence(_: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    settings = settings.model_copy(update={"callback_timeout_seconds": 0.5})
    async with Receiver(silence) as dead, Receiver(plain(200)) as living:
        async with Runtime(settings.model_copy(update={"callback_secret": None}), registry=registry) as runtime:
            silent = await runtime.spawn_many(work, [()] * 200, callback_url=dead.url)
            heard = await runtime.spawn_many(work, [()] * 5, callback_url=living.url)
            for ref in [*silent, *heard]:
                await ref.result(20)
        async with Runtime(settings, registry=registry) as runtime:
            await living.wait(5)
            for ref in heard:
                await recorded(runtime, ref.id, CallbackState.DELIVERED)
            assert len(dead.requests) <= 2 * SLOTS  # those that were under way when it was given up
            waiting = await runtime.store.callbacks.read(CallbackState.PENDING, limit=1000)
            assert len(waiting) == 200
            assert sum(one.attempts for one in waiting) <= len(dead.requests)


def victim(url: str, **environment: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """Run a worker process that somebody kills."""
    return module_process("tests.runtime.worker_process", url, 3, environment=environment)


@pytest.mark.processes
@pytest.mark.chaos
async def test_a_worker_that_is_killed_between_the_end_of_a_job_and_its_callback_loses_none(
    settings: Settings, database_url: str
) -> None:
    async with (
        Receiver(plain(200)) as receiver,
        Runtime(settings.model_copy(update={"callback_secret": None}), work=False) as client,
    ):
        async with victim(database_url) as worker:  # it has no secret, so it sends nothing
            ref = await client.spawn(slow_square, 2, callback_url=receiver.url)
            await ref.result(20)
            worker.kill()
            await worker.wait()
        assert receiver.requests == []
        async with Runtime(settings, registry=JobRegistry()):
            [request] = await receiver.wait(1)
            assert request.headers["webhook-id"] == f"msg_{ref.id.hex}"
            assert (await recorded(client, ref.id, CallbackState.DELIVERED)).callback_status_code == 200


@pytest.mark.processes
@pytest.mark.chaos
async def test_a_worker_that_is_killed_between_delivery_and_record_delivers_again_with_the_same_id(
    settings: Settings, database_url: str
) -> None:
    async def silence(_: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    trusted = {"CALLBOARD_CALLBACK_SECRET": SECRET, "CALLBOARD_CALLBACK_TRUSTED_HOSTS": '["127.0.0.1"]'}
    async with (
        Receiver(silence, plain(200)) as receiver,
        victim(database_url, **trusted) as worker,
        Runtime(settings.model_copy(update={"callback_secret": None}), work=False) as client,
    ):
        ref = await client.spawn(slow_square, 2, callback_url=receiver.url)
        await receiver.wait(1)
        worker.kill()
        await worker.wait()
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            # Its lease ends now, instead of in half a minute.
            await connection.execute("UPDATE callboard.callbacks SET next_attempt_at = now()")
        async with Runtime(settings, registry=JobRegistry()):
            first, second = await receiver.wait(2)
            record = await recorded(client, ref.id, CallbackState.DELIVERED)
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert first.body == second.body
        assert record.callback_status_code == 200
