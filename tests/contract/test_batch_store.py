"""What every store must do with batches."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from callboard.actors.batches.provider import Phase, ProviderBatch
from callboard.actors.batches.state import BatchStatus, ItemStatus
from callboard.actors.batches.types import BatchNote, NewBatch, NewItem, Outcome, Stray
from callboard.actors.errors import StaleTerm
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.retention import Pruned, Retention

from .support import LONG_AGO

SUCCEEDED, COMPLETED = ItemStatus.SUCCEEDED, BatchStatus.COMPLETED


async def recorded(store: JobStore, items: int = 3, *, grace_seconds: float = 0.0, provider: str = "p") -> UUID:
    new = NewBatch(uuid7(), provider, None, tuple(NewItem(n, f'a "{n}"\t\\', f'{{"n": {n}}}') for n in range(items)))
    for _ in range(2):  # a repeated call records nothing twice
        await store.batches.record(new, grace_seconds=grace_seconds, actor="test")
    return new.id


async def confirmed(store: JobStore, items: int = 3, *, provider: str = "p") -> UUID:
    batch_id = await recorded(store, items, provider=provider)
    await store.batches.confirm(batch_id, answer(batch_id.hex))
    return batch_id


def answer(name: str) -> ProviderBatch:
    return ProviderBatch(id=name, status="working", phase=Phase.RUNNING, counts={"processing": 3})


async def status_of(store: JobStore, batch_id: UUID) -> BatchStatus:
    record = await store.batches.get(batch_id)
    assert record is not None
    return record.status


async def test_what_is_recorded_is_read_back(store: JobStore) -> None:
    batch_id = await recorded(store)
    record = await store.batches.get(batch_id)
    assert record is not None
    assert (record.status, record.total_items, record.submissions) == (BatchStatus.SUBMITTING, 3, 1)
    requests = await store.batches.requests(batch_id)
    assert [request.params for request in requests] == ['{"n": 0}', '{"n": 1}', '{"n": 2}']
    assert requests[2].wire_id == f"{batch_id.hex}-2"
    results = await store.batches.results(batch_id, limit=2)
    assert [(result.custom_id, result.status) for result in results] == [
        ('a "0"\t\\', ItemStatus.PENDING),
        ('a "1"\t\\', ItemStatus.PENDING),
    ]
    assert len(await store.batches.results(batch_id, after=1, limit=9)) == 1


async def test_others_keep_off_a_new_batch_for_its_grace(store: JobStore) -> None:
    await recorded(store, grace_seconds=60)
    due = await recorded(store)
    assert [batch.id for batch in await store.batches.due(limit=None)] == [due]


async def test_of_two_who_set_out_to_submit_one_does(store: JobStore) -> None:
    batch_id = await recorded(store)
    taken = await asyncio.gather(*(store.batches.take_submission(batch_id, 1, grace_seconds=0) for _ in range(3)))
    assert sorted(taken) == [False, False, True]


async def test_the_first_name_of_a_batch_stays(store: JobStore) -> None:
    batch_id = await recorded(store)
    first, second = [await store.batches.confirm(batch_id, answer(name)) for name in ("one", "two")]
    assert first is not None
    assert second is not None
    assert (first.provider_batch_id, second.provider_batch_id) == ("one", "one")
    assert await store.batches.known("p", ["one", "two"]) == {"one"}
    assert await store.batches.known("other", ["one"]) == set()


async def test_each_item_has_its_first_outcome_and_the_last_item_ends_the_batch(store: JobStore) -> None:
    batch_id = await confirmed(store)

    async def collect(*outcomes: Outcome):
        return await store.batches.collect(batch_id, outcomes, [], ended_as=COMPLETED)

    first = await collect(Outcome(1, SUCCEEDED, '"first"'), Outcome(1, SUCCEEDED, '"second"'))
    assert (first.updated, first.left, first.ended) == (1, 2, None)
    again = await collect(Outcome(1, ItemStatus.ERRORED), Outcome(0, ItemStatus.ERRORED, None, '{"x": "\\u0000"}'))
    assert (again.by_status, again.left, again.ended) == ({ItemStatus.ERRORED: 1}, 1, None)
    last = await collect(Outcome(2, SUCCEEDED, "{}"))
    assert (last.left, last.ended) == (0, COMPLETED)
    results = await store.batches.results(batch_id, limit=9)
    assert [result.status for result in results] == [ItemStatus.ERRORED, SUCCEEDED, SUCCEEDED]
    assert results[1].result == "first"
    assert results[0].error == {"x": "\0"}
    late = await collect(Outcome(0, SUCCEEDED, '"late"'))
    assert (late.updated, late.left, late.ended) == (0, 0, None)


async def test_strays_are_counted_once(store: JobStore) -> None:
    batch_id = await confirmed(store)
    strays = [Stray("who", "1"), Stray("what", "2")]
    for _ in range(2):
        await store.batches.collect(batch_id, [], strays, ended_as=COMPLETED)
    record = await store.batches.get(batch_id)
    assert record is not None
    assert (record.stray_items, record.collected_items) == (2, 0)


async def test_what_is_cancelled_ends_cancelled_and_keeps_what_it_has(store: JobStore) -> None:
    batch_id = await confirmed(store)
    await store.batches.collect(batch_id, [Outcome(0, SUCCEEDED, "1")], [], ended_as=COMPLETED)
    asked = [await store.batches.request_cancel(batch_id, actor="test") for _ in range(2)]
    assert [answer[1] for answer in asked if answer] == [True, False]
    assert await status_of(store, batch_id) is BatchStatus.CANCELLING
    ended = await store.batches.end(batch_id, BatchStatus.EXPIRED, leftover=ItemStatus.CANCELED, error="why")
    assert ended.by_status == {ItemStatus.CANCELED: 2}
    assert await status_of(store, batch_id) is BatchStatus.CANCELLED
    results = await store.batches.results(batch_id, limit=9)
    assert [result.status for result in results] == [SUCCEEDED, ItemStatus.CANCELED, ItemStatus.CANCELED]
    assert results[1].error == {"type": "batch_error", "message": "why"}
    assert not await store.batches.note(batch_id, BatchNote())
    assert await store.batches.due(limit=None) == []


async def test_a_batch_cancelled_before_it_is_confirmed_is_not_submitted_again(store: JobStore) -> None:
    batch_id = await recorded(store)
    await store.batches.request_cancel(batch_id, actor="test")
    assert not await store.batches.take_submission(batch_id, 1, grace_seconds=0)
    confirmed = await store.batches.confirm(batch_id, answer("one"))
    assert confirmed is not None
    assert confirmed.status is BatchStatus.CANCELLING


async def test_a_note_leaves_what_it_does_not_speak_of(store: JobStore) -> None:
    batch_id = await confirmed(store)
    await store.batches.note(batch_id, BatchNote(provider_status="x", ended=True, cancel_sent=True, failures=2))
    await store.batches.note(batch_id, BatchNote(failures=3, last_error="a\0b\ud800"), status=BatchStatus.UNKNOWN)
    record = await store.batches.get(batch_id)
    assert record is not None
    assert (record.provider_status, record.failures, record.status) == ("x", 3, BatchStatus.RUNNING)
    assert record.provider_ended_at is not None
    assert record.cancel_sent_at is not None


async def test_the_due_are_those_not_polled_for_the_longest(store: JobStore) -> None:
    polled, never = await confirmed(store), await confirmed(store)
    other = await confirmed(store, provider="other")
    await store.batches.note(polled, BatchNote())
    due = await store.batches.due(limit=None)
    assert [batch.id for batch in due] == [never, other, polled]
    assert [batch.id for batch in await store.batches.due(limit=1)] == [never]
    assert [batch.id for batch in await store.batches.due(limit=None, without=["p"])] == [other]


async def test_batches_are_listed_newest_first_by_pages(store: JobStore) -> None:
    ids = [await recorded(store) for _ in range(3)]
    await store.batches.confirm(ids[0], answer("one"))
    assert [batch.id for batch in await store.batches.list_batches(limit=2, before=None)] == ids[:0:-1]
    assert [batch.id for batch in await store.batches.list_batches(limit=2, before=ids[1])] == ids[:1]
    running = await store.batches.list_batches(statuses=[BatchStatus.RUNNING], provider="p", limit=9, before=None)
    assert [batch.id for batch in running] == ids[:1]


async def test_only_batches_that_have_ended_long_ago_are_deleted(store: JobStore) -> None:
    ended = [await confirmed(store, items=1) for _ in range(12)]
    for batch_id in ended:
        await store.batches.collect(batch_id, [Outcome(0, SUCCEEDED, "1")], [Stray("who", "1")], ended_as=COMPLETED)
    others = {await recorded(store), await confirmed(store)}
    assert await store.prune(Retention(batches_seconds=3600)) == Pruned()
    assert await store.prune(Retention(completed_seconds=LONG_AGO, failed_seconds=LONG_AGO)) == Pruned()
    assert await store.prune(Retention(batches_seconds=LONG_AGO)) == Pruned(batches=12)
    assert {batch.id for batch in await store.batches.list_batches(limit=99, before=None)} == others
    assert await store.batches.results(ended[0], limit=9) == []
    assert await store.prune(Retention(batches_seconds=LONG_AGO)) == Pruned()


async def test_a_batch_that_does_not_exist(store: JobStore) -> None:
    nobody = uuid7()
    assert await store.batches.get(nobody) is None
    assert await store.batches.confirm(nobody, answer("one")) is None
    assert await store.batches.request_cancel(nobody, actor="test") is None
    assert not await store.batches.note(nobody, BatchNote())
    assert await store.batches.results(nobody, limit=1) == []


async def test_promise_5_a_leader_whose_term_is_over_writes_nothing_about_batches(store: JobStore) -> None:
    batch_id, waiting = await confirmed(store), await recorded(store)
    batches, term = store.batches, 99
    for write in (
        lambda: batches.note(batch_id, BatchNote(failures=7), term=term),
        lambda: batches.collect(batch_id, [Outcome(0, SUCCEEDED, "1")], [], ended_as=COMPLETED, term=term),
        lambda: batches.end(batch_id, COMPLETED, leftover=ItemStatus.ERRORED, error=None, term=term),
        lambda: batches.take_submission(waiting, 1, grace_seconds=0, term=term),
        lambda: batches.confirm(waiting, answer("one"), term=term),
    ):
        with pytest.raises(StaleTerm):
            await write()
    record = await batches.get(batch_id)
    assert record is not None
    assert (record.failures, record.collected_items, record.status) == (0, 0, BatchStatus.RUNNING)
    assert await status_of(store, waiting) is BatchStatus.SUBMITTING
