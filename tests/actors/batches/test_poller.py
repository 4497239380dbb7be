"""The nineteen ways to lose paid results (B1 to B19), and the poller that takes none of them."""

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from callboard.actors.batches.provider import ProviderBatch
from callboard.actors.batches.requests import validate
from callboard.actors.batches.state import BatchStatus, ItemStatus
from callboard.actors.batches.submitting import UPLOAD_BYTES_PER_SECOND, Submission
from callboard.actors.batches.types import BatchRequest, Collected, NewBatch, Outcome
from callboard.actors.breaker import BreakerState
from callboard.actors.errors import ConfigurationError, InvalidBatch, StoreUnavailable
from callboard.actors.jobs.identifier import uuid7
from tests.actors.batches.conftest import Bench, requests
from tests.support.faulty_provider import Hold, edited, lines, lost, refused, unserved
from tests.support.waiting import settle

PROVIDERS = pytest.mark.parametrize("provider", ["anthropic", "openai"])
RESULTS = {"anthropic": "anthropic_results", "openai": "openai_content"}


async def reached(hold: Hold) -> None:
    assert await asyncio.to_thread(hold.reached.wait, 30)


@PROVIDERS
async def test_a_batch_is_submitted_polled_and_collected(bench: Bench, provider: str) -> None:
    batch_id = await bench.submit(provider, items=7)
    assert (await bench.get(batch_id)).status is BatchStatus.RUNNING
    cycle = await bench.poll()
    record, results = await bench.get(batch_id), await bench.results(batch_id)
    assert (record.status, record.collected_items, record.failures) == (BatchStatus.COMPLETED, 7, 0)
    assert [result.custom_id for result in results] == [f"item {n}" for n in range(7)]
    assert all(f"2 words: prompt {n}" in json.dumps(result.result) for n, result in enumerate(results))
    assert (cycle.total_batches, cycle.anthropic_batches) == (1, int(provider == "anthropic"))
    assert (cycle.running_count, cycle.completed_count, cycle.updated_items_count) == (0, 1, 7)


@PROVIDERS
async def test_B1_a_batch_is_not_completed_before_its_results_are_stored(bench: Bench, provider: str) -> None:
    poller = bench.new_poller(chunk_items=2, request_timeout_seconds=60)
    hold = Hold(after_lines=5)
    bench.server.script(RESULTS[provider], hold)
    batch_id = await bench.submit(provider)
    bench.pass_pauses()
    poll = asyncio.ensure_future(poller.poll())
    await reached(hold)
    async with asyncio.timeout(30):
        while (record := await bench.get(batch_id)).collected_items < 4:
            await asyncio.sleep(0.01)
    assert (record.status, record.collected_items) == (BatchStatus.RUNNING, 4)
    assert record.provider_ended_at is not None
    poll.cancel()  # as a shutdown does
    with pytest.raises(asyncio.CancelledError):
        await poll
    hold.release()

    before = times_of_update(bench)
    await bench.poll()
    record = await bench.get(batch_id)
    assert (record.status, record.collected_items) == (BatchStatus.COMPLETED, 10)
    assert before.items() <= times_of_update(bench).items()  # what was stored is not stored again


def times_of_update(bench: Bench) -> dict[int, object]:
    rows = bench.execute("SELECT position, updated_at FROM callboard.batch_items WHERE updated_at IS NOT NULL")
    return dict(rows)


@PROVIDERS
async def test_B2_results_that_break_off_are_read_again(bench: Bench, provider: str) -> None:
    bench.server.script(RESULTS[provider], lines(lambda all_: all_[:4], cut=True))
    batch_id = await bench.submit(provider)
    cycle = await bench.poll()
    record = await bench.get(batch_id)
    assert (record.status, record.collected_items, record.failures) == (BatchStatus.RUNNING, 4, 1)
    assert cycle.errors == {(provider, "results"): 1}
    assert cycle.updated_items_count == 4
    await bench.poll()
    record = await bench.get(batch_id)
    assert (record.status, record.collected_items, record.failures) == (BatchStatus.COMPLETED, 10, 0)


@PROVIDERS
@pytest.mark.parametrize("torn", [False, True])
async def test_B2_short_results_with_a_clean_end_are_read_again(bench: Bench, provider: str, torn: bool) -> None:
    bench.server.script(
        RESULTS[provider], lines(lambda all_: [*all_[:6], all_[6][:20]] if torn else all_[:6]), refused(500)
    )
    batch_id = await bench.submit(provider)
    await bench.poll()
    record = await bench.get(batch_id)
    assert (record.status, record.collected_items, record.short_reads) == (BatchStatus.RUNNING, 6, 1)
    assert record.last_error == "the results have 6 of 10 items"
    await bench.poll()
    assert (await bench.get(batch_id)).short_reads == 1
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED


async def test_results_that_stay_short_end_the_batch_some_day(bench: Bench) -> None:
    bench.server.always("anthropic_results", lines(lambda all_: all_[1:]))
    batch_id = await bench.submit()
    await bench.poll(bench.policy.max_short_reads)
    record, results = await bench.get(batch_id), await bench.results(batch_id)
    assert record.status is BatchStatus.COMPLETED
    assert [result.status for result in results] == [*[ItemStatus.SUCCEEDED] * 9, ItemStatus.ERRORED]
    assert results[9].error["message"] == "the results have 9 of 10 items, after 24 complete reads"


async def test_B3_a_batch_without_any_result_ends_beside_one_that_has_some(bench: Bench) -> None:
    empty = await bench.submit("openai")
    full = await bench.submit("openai")
    name = (await bench.get(empty)).provider_batch_id
    assert name is not None

    def expire(document: dict) -> None:
        if document["id"] == name:
            document |= {"status": "expired", "output_file_id": None, "error_file_id": None}
            document["request_counts"] = {"total": 10, "completed": 0, "failed": 0}

    bench.server.always("openai_retrieve", edited(expire))
    await bench.poll()
    assert (await bench.get(empty)).status is BatchStatus.EXPIRED
    assert await bench.statuses(empty) == {ItemStatus.EXPIRED}
    assert (await bench.get(full)).status is BatchStatus.COMPLETED


@PROVIDERS
async def test_B4_one_poisoned_batch_hinders_no_other(bench: Bench, provider: str) -> None:
    ids = [await bench.submit(provider, items=3) for _ in range(4)]
    poisoned = (await bench.get(ids[1])).provider_batch_id

    def poison(document: dict) -> None:
        if document["id"] == poisoned:
            document.clear()

    bench.server.always(f"{provider}_retrieve", edited(poison))
    cycle = await bench.poll()
    statuses = [(await bench.get(batch_id)).status for batch_id in ids]
    completed = BatchStatus.COMPLETED
    assert statuses == [completed, BatchStatus.RUNNING, completed, completed]
    assert cycle.errors == {(provider, "retrieve"): 1}
    bench.server.always(f"{provider}_retrieve", None)
    await bench.poll()
    assert (await bench.get(ids[1])).status is completed


@PROVIDERS
async def test_B4_results_of_nobody_in_one_batch_cost_another_batch_none(bench: Bench, provider: str) -> None:
    bench.server.script(
        RESULTS[provider], lines(lambda all_: [line.replace(b'"custom_id": "', b'"custom_id": "x') for line in all_])
    )
    first, second = await bench.submit(provider, items=3), await bench.submit(provider, items=3)
    await bench.poll()
    records = [await bench.get(batch_id) for batch_id in (first, second)]
    assert {record.status for record in records} == {BatchStatus.RUNNING, BatchStatus.COMPLETED}
    assert {(record.collected_items, record.stray_items) for record in records} == {(0, 3), (3, 0)}
    await bench.poll()
    assert {(await bench.get(batch_id)).status for batch_id in (first, second)} == {BatchStatus.COMPLETED}


async def test_B5_a_failure_is_logged_counted_and_shown_at_its_batch(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.server.script("anthropic_retrieve", refused(500))
    batch_id = await bench.submit()
    with caplog.at_level(logging.INFO):
        cycle = await bench.poll()
    [event] = [record for record in caplog.records if getattr(record, "event", "") == "batches.polled"]
    assert event.levelno == logging.WARNING
    assert event.errors == {"anthropic retrieve": 1}
    assert cycle.outcome == "partial"
    assert "scripted 500" in str((await bench.get(batch_id)).last_error)


@PROVIDERS
async def test_B6_a_cancel_during_a_poll_is_not_written_over(bench: Bench, provider: str) -> None:
    hold = Hold()
    bench.server.script(f"{provider}_retrieve", hold)
    batch_id = await bench.submit(provider)
    bench.pass_pauses()
    poll = asyncio.ensure_future(bench.poller.poll())
    await reached(hold)
    assert await bench.desk.cancel(batch_id)
    hold.release()
    await poll
    record = await bench.get(batch_id)
    assert (record.status, record.collected_items) == (BatchStatus.CANCELLED, 10)
    assert await bench.statuses(batch_id) == {ItemStatus.SUCCEEDED}  # paid for, and collected


@pytest.mark.parametrize("fault", [refused(500), refused(529), unserved, refused(404), refused(429)])
async def test_B7_a_failed_poll_keeps_what_is_known_and_waits_longer_each_time(bench: Bench, fault) -> None:
    batch_id = await bench.submit()
    bench.server.batches.get((await bench.get(batch_id)).provider_batch_id).looks_left = 2
    await bench.poll()
    bench.server.script("anthropic_retrieve", fault, fault)
    pauses = []
    for failures in (1, 2):
        await bench.poll()
        bench.clock.advance(3600)
        record = await bench.get(batch_id)
        assert (record.status, record.provider_status) == (BatchStatus.RUNNING, "in_progress")
        assert record.provider_counts["processing"] == 10
        assert record.failures == failures
        pauses.append((record.next_poll_at - record.polled_at).total_seconds())
    assert pauses == [300, 600]
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED


@PROVIDERS
async def test_B8_canceling_is_not_the_end(bench: Bench, provider: str) -> None:
    batch_id = await bench.submit(provider)
    assert await bench.desk.cancel(batch_id)
    await bench.poll()
    record = await bench.get(batch_id)
    assert (record.status, record.failures, record.provider_ended_at) == (BatchStatus.CANCELLING, 0, None)
    assert str(record.provider_status).startswith("cancel")
    await bench.poll()
    record = await bench.get(batch_id)
    assert record.status is BatchStatus.CANCELLED
    outcomes = [result.status for result in await bench.results(batch_id)]
    assert outcomes == [*[ItemStatus.SUCCEEDED] * 5, *[ItemStatus.CANCELED] * 5]


@PROVIDERS
async def test_B8_an_unknown_status_changes_nothing_and_is_counted(bench: Bench, provider: str) -> None:
    key = "processing_status" if provider == "anthropic" else "status"
    bench.server.script(f"{provider}_retrieve", edited(lambda document: document.update({key: "dreaming"})))
    batch_id = await bench.submit(provider)
    cycle = await bench.poll()
    record = await bench.get(batch_id)
    assert (record.status, record.provider_status) == (BatchStatus.RUNNING, "dreaming")
    assert cycle.unrecognized == {provider: 1}
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED


async def test_B9_polls_at_a_time_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(16):
        await bench.submit(items=1)
    provider = await bench.providers.get("anthropic")
    honest, begun, full, go_on = provider.retrieve, 0, asyncio.Event(), asyncio.Event()

    async def retrieve(name: str) -> ProviderBatch:
        nonlocal begun
        begun += 1
        if begun == 8:
            full.set()
        await go_on.wait()
        return await honest(name)

    monkeypatch.setattr(provider, "retrieve", retrieve)
    poll = asyncio.ensure_future(bench.poll())
    async with asyncio.timeout(30):
        await full.wait()
    await settle()  # whoever would not wait has begun by now
    assert begun == 8
    go_on.set()
    assert (await poll).completed_count == 16


async def test_B10_with_a_bound_on_the_cycle_everybody_has_a_turn(bench: Bench) -> None:
    bench.server.batches.looks = 2
    ids = {await bench.submit(items=1) for _ in range(6)}
    poller = bench.new_poller(batch_size=2)
    for _ in range(3):
        bench.pass_pauses()
        bench.execute("CLUSTER callboard.batches USING batches_pkey")  # no order but the one that is asked for
        await poller.poll()
    assert [cycle.total_batches for cycle in bench.measured.cycles] == [2, 2, 2]
    assert all([(await bench.get(batch_id)).polled_at is not None for batch_id in ids])


async def test_B10_batches_of_a_provider_that_is_down_keep_nobody_out_of_the_cycle(bench: Bench) -> None:
    down = [await bench.submit("openai", items=1) for _ in range(3)]
    up = await bench.submit("anthropic", items=1)
    bench.server.always("openai_retrieve", refused(401))
    poller = bench.new_poller(batch_size=2)
    for _ in range(2):
        bench.pass_pauses()
        await poller.poll()
    assert (await bench.get(up)).status is BatchStatus.COMPLETED
    assert {(await bench.get(one)).status for one in down} == {BatchStatus.RUNNING}


@pytest.mark.parametrize("days", [15, 400])
async def test_B11_a_batch_older_than_the_look_back_expires(bench: Bench, days: int) -> None:
    bench.server.batches.looks = 100
    old, young = await bench.submit(), await bench.submit()
    bench.age(old, days)
    await bench.poll()
    record = await bench.get(old)
    assert record.status is BatchStatus.EXPIRED
    assert "the look-back is 2 weeks" in str(record.last_error)
    assert await bench.statuses(old) == {ItemStatus.EXPIRED}
    assert (await bench.get(young)).status is BatchStatus.RUNNING


async def test_B11_what_an_old_batch_has_finished_is_collected_all_the_same(bench: Bench) -> None:
    batch_id = await bench.submit()
    bench.age(batch_id, 20)
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED


async def test_B12_polling_reads_no_items(bench: Bench) -> None:
    bench.server.batches.looks = 100
    for _ in range(3):
        await bench.submit()
    bench.pass_pauses()
    bench.statements.names.clear()
    await bench.poller.poll()
    assert set(bench.statements.names) == {"due_batches", "note_batch"}


@PROVIDERS
async def test_B13_a_submission_whose_answer_is_lost_is_found_and_not_paid_twice(bench: Bench, provider: str) -> None:
    bench.server.script(f"{provider}_create", lost)
    batch_id = await bench.submit(provider)
    record = await bench.get(batch_id)
    assert (record.status, record.provider_batch_id) == (BatchStatus.UNKNOWN, None)
    bench.server.batches.look(bench.server.batches.all()[0].id)  # it ends there
    await bench.poll(2)
    record = await bench.get(batch_id)
    assert (record.status, record.collected_items) == (BatchStatus.COMPLETED, 10)
    assert bench.server.count(f"{provider}_create") == 1


async def test_B13_while_it_cannot_be_told_whether_the_provider_has_it_nothing_is_submitted(bench: Bench) -> None:
    bench.server.batches.looks = 3
    bench.server.script("anthropic_create", lost)
    batch_id = await bench.submit()
    await bench.poll(3)  # it runs there, and by no name of ours
    record = await bench.get(batch_id)
    assert record.status is BatchStatus.UNKNOWN
    assert "the provider may have it as msgbatch_000001" in str(record.last_error)
    for _ in range(3):
        bench.server.batches.look("msgbatch_000001")
    await bench.poll(2)
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED
    assert bench.server.count("anthropic_create") == 1


@PROVIDERS
async def test_B13_a_submission_that_never_arrived_is_submitted_again_once(bench: Bench, provider: str) -> None:
    other = await bench.submit(provider)  # of the same size, and known
    bench.server.script(f"{provider}_create", unserved)
    batch_id = await bench.submit(provider)
    await asyncio.gather(bench.poll(), bench.new_poller().poll())
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED
    assert (await bench.get(batch_id)).submissions == 2
    assert (await bench.get(other)).status is BatchStatus.COMPLETED
    assert bench.server.count(f"{provider}_create") == 3


async def test_B13_a_large_submission_has_the_time_that_it_takes_and_others_keep_off(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = await bench.providers.get("anthropic")
    submission = Submission(bench.store, request_timeout_seconds=0.05)
    large = BatchRequest("item 0", {"messages": [{"content": "x" * 10 * UPLOAD_BYTES_PER_SECOND}]})
    new = NewBatch(uuid7(), "anthropic", None, tuple(validate([large])))
    await bench.store.record(new, grace_seconds=submission.grace_seconds, actor="test")
    honest, due = provider.submit, []

    async def slow(*arguments: Any) -> ProviderBatch:
        await asyncio.sleep(2 * submission.grace_seconds)
        due.extend(await bench.store.due(limit=None))
        return await honest(*arguments)

    monkeypatch.setattr(provider, "submit", slow)
    assert await submission.send(provider, await bench.get(new.id)) is None
    assert due == []
    assert (await bench.get(new.id)).status is BatchStatus.RUNNING


async def test_a_batch_of_somebody_elses_of_the_same_size_is_not_taken_for_ours(bench: Bench) -> None:
    stranger = bench.server.batches.create(
        "msgbatch", [(f"mine-{n}", {"messages": [{"content": ""}]}) for n in range(10)]
    )
    bench.server.batches.look(stranger.id)
    bench.server.script("anthropic_create", unserved)
    batch_id = await bench.submit()
    await bench.poll(2)
    record = await bench.get(batch_id)
    assert record.status is BatchStatus.COMPLETED
    assert record.provider_batch_id != stranger.id


async def test_B14_two_pollers_at_once_store_each_result_once(bench: Bench) -> None:
    ids = [await bench.submit(items=50) for _ in range(4)]
    bench.pass_pauses()
    await asyncio.gather(bench.poller.poll(), bench.new_poller().poll())
    assert {(await bench.get(batch_id)).status for batch_id in ids} == {BatchStatus.COMPLETED}
    assert sum(cycle.updated_items_count for cycle in bench.measured.cycles) == 200
    assert {(await bench.get(batch_id)).collected_items for batch_id in ids} == {50}


@PROVIDERS
async def test_B15_one_items_failure_is_its_own(bench: Bench, provider: str) -> None:
    batch_id = await bench.submit(provider)
    [hosted] = bench.server.batches.all()
    bench.server.batches.look(hosted.id)
    hosted.outcomes[hosted.requests[3][0]] = "errored"
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED
    results = await bench.results(batch_id)
    assert [result.custom_id for result in results if result.status is ItemStatus.ERRORED] == ["item 3"]
    assert "no" in json.dumps(results[3].error)
    assert all(result.result for result in results if result.status is ItemStatus.SUCCEEDED)


@pytest.mark.parametrize(
    ("provider", "line", "again"),
    [
        (
            "anthropic",
            {"result": {"type": "errored", "error": {"type": "error", "error": {"type": "api_error"}}}},
            True,
        ),
        ("anthropic", {"result": {"type": "errored", "error": {"type": "overloaded_error"}}}, True),
        ("anthropic", {"result": {"type": "errored", "error": {"error": {"type": "invalid_request_error"}}}}, False),
        ("anthropic", {"result": {"type": "errored", "error": None}}, False),
        ("anthropic", {"result": {"type": "expired"}}, True),
        ("anthropic", {"result": {"type": "canceled"}}, False),
        ("openai", {"response": {"status_code": 503, "body": {}}, "error": None}, True),
        ("openai", {"response": {"status_code": 429, "body": {}}, "error": None}, True),
        ("openai", {"response": {"status_code": 400, "body": {}}, "error": None}, False),
        ("openai", {"response": None, "error": {"code": "batch_expired"}}, True),
        ("openai", {"response": None, "error": {"code": "batch_cancelled"}}, False),
        ("openai", {"response": None, "error": {"code": "request_timeout"}}, True),
    ],
)
async def test_what_is_the_providers_own_fault_is_worth_another_try(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, provider: str, line: dict, again: bool
) -> None:
    def answered(all_: list[bytes]) -> list[bytes]:
        return [json.dumps({"custom_id": json.loads(all_[0])["custom_id"]} | line).encode() + b"\n"]

    bench.server.script(RESULTS[provider], lines(answered))
    batch_id = await bench.submit(provider, items=1)
    told, collect = [], bench.store.collect

    async def listen(batch_id: UUID, outcomes: Sequence[Outcome], *others: Any, **options: Any) -> Collected:
        told.extend(outcomes)
        return await collect(batch_id, outcomes, *others, **options)

    monkeypatch.setattr(bench.store, "collect", listen)
    await bench.poll()
    assert [outcome.again for outcome in told] == [again]
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED


async def test_B15_a_result_that_the_database_cannot_store_costs_no_other(bench: Bench) -> None:
    deep = b"[" * 9000 + b"]" * 9000

    def deepen(all_: list[bytes]) -> list[bytes]:
        return [line.replace(b'"type": "message"', b'"type": "\\ud800 \\u0000"') for line in all_] + [deep + b"\n"]

    bench.server.script("anthropic_results", lines(deepen))
    batch_id = await bench.submit()
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED
    assert await bench.statuses(batch_id) == {ItemStatus.SUCCEEDED}


async def test_B16_where_nobody_polls_nothing_is_accepted(bench: Bench) -> None:
    bench.desk._settings = bench.settings.model_copy(update={"enable_batch_job_polling": False})
    with pytest.raises(ConfigurationError, match="CALLBOARD_ENABLE_BATCH_JOB_POLLING"):
        await bench.submit()
    assert bench.server.calls == []
    assert await bench.store.list_batches(limit=9, before=None) == []


async def test_B17_what_is_not_given_is_not_the_word_None(bench: Bench) -> None:
    batch_id = await bench.submit()
    [row] = bench.execute(
        "SELECT endpoint, last_error, expires_at IS NULL FROM callboard.batches WHERE id = %s", batch_id
    )
    assert row == (None, None, False)


async def test_B18_the_size_of_what_is_sent_is_measured(bench: Bench) -> None:
    bench.desk._settings = bench.settings.model_copy(update={"request_size_limit_bytes": 2_000})
    with pytest.raises(InvalidBatch, match=r"got requests of \d+ bytes; a batch of anthropic holds at most 2000 bytes"):
        await bench.submit(items=10)
    assert bench.server.calls == []
    batches = await bench.desk.submit("anthropic", requests(10), endpoint=None, several=True)
    assert len(batches) > 1
    assert sum(batch.total_items for batch in batches) == 10
    assert max(len(call.body) for call in bench.server.calls) <= 2_000


async def test_B19_a_cancel_that_the_provider_does_not_hear_is_sent_again(bench: Bench) -> None:
    bench.server.batches.looks = 2
    bench.server.script("anthropic_cancel", refused(500), unserved)
    batch_id = await bench.submit()
    assert await bench.desk.cancel(batch_id)
    record = await bench.get(batch_id)
    assert (record.status, record.cancel_sent_at) == (BatchStatus.CANCELLING, None)
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.CANCELLING
    await bench.poll(2)
    record = await bench.get(batch_id)
    assert record.cancel_sent_at is not None
    assert record.status is BatchStatus.CANCELLED
    assert await bench.statuses(batch_id) == {ItemStatus.SUCCEEDED, ItemStatus.CANCELED}


@PROVIDERS
async def test_B19_a_batch_that_has_ended_is_not_cancelled(bench: Bench, provider: str) -> None:
    batch_id = await bench.submit(provider)
    await bench.poll()
    assert not await bench.desk.cancel(batch_id)
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED
    assert bench.server.count(f"{provider}_cancel") == 0


@PROVIDERS
async def test_a_batch_that_ended_there_before_it_was_cancelled_here_is_cancelled_and_collected(
    bench: Bench, provider: str
) -> None:
    batch_id = await bench.submit(provider)
    bench.server.batches.look((await bench.get(batch_id)).provider_batch_id)
    assert await bench.desk.cancel(batch_id)  # the provider answers 409
    assert not await bench.desk.cancel(batch_id)
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.CANCELLED
    assert await bench.statuses(batch_id) == {ItemStatus.SUCCEEDED}


async def test_a_batch_cancelled_before_it_is_confirmed_is_never_submitted(bench: Bench) -> None:
    bench.server.script("anthropic_create", refused(429, retry_after="1"))
    batch_id = await bench.submit()
    assert (await bench.get(batch_id)).status is BatchStatus.SUBMITTING
    assert await bench.desk.cancel(batch_id)
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.CANCELLED
    assert await bench.statuses(batch_id) == {ItemStatus.CANCELED}
    assert bench.server.count("anthropic_create") == 1


async def test_a_batch_that_is_refused_has_failed(bench: Bench) -> None:
    bench.server.script("anthropic_create", refused(400))
    batch_id = await bench.submit()
    record = await bench.get(batch_id)
    assert record.status is BatchStatus.FAILED
    assert "create a batch: 400" in str(record.last_error)
    assert await bench.statuses(batch_id) == {ItemStatus.ERRORED}
    assert (await bench.poll()).total_batches == 0


async def test_a_long_retry_after_is_kept_by_waiting_and_not_by_sleeping(bench: Bench) -> None:
    bench.server.script("anthropic_retrieve", refused(429, retry_after="7200"))
    batch_id, other = await bench.submit(), await bench.submit("openai")
    async with asyncio.timeout(30):
        await bench.poll()
    record = await bench.get(batch_id)
    assert (record.next_poll_at - record.polled_at).total_seconds() == 7200
    assert (await bench.get(other)).status is BatchStatus.COMPLETED
    bench.clock.advance(7100)
    await bench.poll()
    assert bench.server.count("anthropic_retrieve") == 1  # not even another batch's, nor by an impatient timer
    bench.clock.advance(200)
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED


async def test_wrong_credentials_stop_a_provider_and_cost_its_batches_nothing(bench: Bench) -> None:
    ids = [await bench.submit(items=1) for _ in range(20)]
    bench.server.always("anthropic_retrieve", refused(401))
    await bench.poll()
    assert bench.server.count("anthropic_retrieve") <= 8
    await bench.poll()
    assert bench.server.count("anthropic_retrieve") <= 8
    bench.server.always("anthropic_retrieve", None)
    bench.clock.advance(61)
    await bench.poll()  # one is let through, and what it finds lets the others through
    await bench.poll()
    assert {(await bench.get(batch_id)).status for batch_id in ids} == {BatchStatus.COMPLETED}
    states = [state for _, state in bench.measured.breakers]
    assert states == [BreakerState.CLOSED, BreakerState.OPEN, BreakerState.CLOSED]


async def test_the_key_goes_to_no_other_host_than_the_providers(bench: Bench) -> None:
    elsewhere = edited(lambda document: document.update(results_url="http://192.0.2.1/steal"))
    bench.server.script("anthropic_retrieve", elsewhere)
    batch_id = await bench.submit()
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED


async def test_results_of_nobody_are_kept_and_those_that_come_twice_count_once(bench: Bench) -> None:
    stray = b'{"custom_id": "who", "result": {"type": "succeeded", "message": {"content": "lost"}}}\n'
    bench.server.script(
        "anthropic_results",
        lines(lambda all_: [stray, *all_[:5], all_[0].replace(b"prompt", b"second"), stray, b"\r\n", *all_[5:]]),
    )
    batch_id = await bench.submit()
    await bench.poll()
    record = await bench.get(batch_id)
    assert (record.status, record.collected_items, record.stray_items) == (BatchStatus.COMPLETED, 10, 1)
    assert "second" not in json.dumps((await bench.results(batch_id))[9].result)
    [[content]] = bench.execute("SELECT content FROM callboard.batch_strays")
    assert content["result"] == {"content": "lost"}


async def test_an_outcome_of_an_unknown_kind_is_kept_back_until_it_is_known(bench: Bench) -> None:
    bench.server.script("anthropic_results", lines(lambda all_: [all_[0].replace(b"succeeded", b"dreamt"), *all_[1:]]))
    batch_id = await bench.submit()
    await bench.poll()
    record = await bench.get(batch_id)
    assert (record.status, record.collected_items) == (BatchStatus.RUNNING, 9)
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED


async def test_a_stream_that_stalls_is_given_up_and_what_came_is_kept(bench: Bench) -> None:
    hold = Hold(after_lines=6)
    bench.server.script("anthropic_results", hold)
    batch_id = await bench.submit()
    bench.pass_pauses()
    await bench.new_poller(request_timeout_seconds=0.3).poll()
    record = await bench.get(batch_id)
    assert (record.status, record.collected_items) == (BatchStatus.RUNNING, 6)
    hold.release()
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED


async def test_a_batch_that_the_provider_has_forgotten_fails_in_the_end(bench: Bench) -> None:
    batch_id = await bench.submit()
    bench.server.always("anthropic_retrieve", refused(404))
    await bench.poll(bench.policy.forgotten_failures + 1)
    assert (await bench.get(batch_id)).status is BatchStatus.RUNNING  # it is young: it may not be known there yet
    bench.age(batch_id, 0.1)
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.FAILED


async def test_a_batch_that_is_overdue_by_its_own_deadline_expires(bench: Bench) -> None:
    past = "2026-01-01T00:00:00+00:00"
    bench.server.batches.looks = 100
    bench.server.always("anthropic_retrieve", edited(lambda document: document.update(expires_at=past)))
    batch_id = await bench.submit()
    await bench.poll()
    record = await bench.get(batch_id)
    assert record.status is BatchStatus.EXPIRED
    assert "it was to end by 2026-01-01" in str(record.last_error)


async def test_an_outage_of_the_database_ends_the_cycle_and_is_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("gone")

    batch_id = await bench.submit()
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "collect", fail)
        with pytest.raises(StoreUnavailable):
            await bench.poll()
    assert bench.measured.cycles[-1].errors == {("anthropic", "apply"): 1}
    with monkeypatch.context() as patch:
        patch.setattr(bench.store, "due", fail)
        with pytest.raises(StoreUnavailable):
            await bench.poller.poll()
    assert bench.measured.cycles[-1].outcome == "error"
    await bench.poll()
    assert (await bench.get(batch_id)).status is BatchStatus.COMPLETED
