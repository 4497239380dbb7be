"""The pure rules of batches, each over everything it can be given."""

import itertools
import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.batches.decide import End, PollPolicy, after_answer, after_failure, after_reading, pause_seconds
from callboard.actors.batches.http_status import failure_kind, in_doubt, retry_after_seconds
from callboard.actors.batches.json_lines import LineSplitter
from callboard.actors.batches.metrics import BatchPollingMetrics
from callboard.actors.batches.naming import belongs, position_of, reference, wire_id
from callboard.actors.batches.provider import BatchLimits, FailureKind, Phase, ProviderBatch, ProviderFailure
from callboard.actors.batches.requests import divide, require_fits, size_bytes, validate
from callboard.actors.batches.state import EDGES, TERMINAL, UNFINISHED, BatchStatus, ItemStatus, final_status
from callboard.actors.batches.types import BatchRecord, BatchRequest, NewItem
from callboard.actors.breaker import Breaker, BreakerState
from callboard.actors.errors import InvalidBatch

POLICY = PollPolicy(interval_seconds=300, max_backoff_seconds=3600)


@given(st.sampled_from(BatchStatus), st.sampled_from(sorted(TERMINAL)), st.booleans())
def test_every_unfinished_status_can_end_as_it_is_said_to(
    status: BatchStatus, ended_as: BatchStatus, asked: bool
) -> None:
    if status is BatchStatus.RUNNING or (status in UNFINISHED and ended_as is not BatchStatus.COMPLETED):
        assert final_status(status, ended_as, cancel_requested=asked) in EDGES[status]
    if asked:
        assert final_status(status, ended_as, cancel_requested=True) is BatchStatus.CANCELLED


def test_what_has_ended_does_not_change() -> None:
    assert all(not EDGES[status] for status in TERMINAL)
    assert EDGES.keys() == set(BatchStatus)


@given(st.integers(1, 10_000), st.none() | st.floats(0, 1e6))
def test_a_pause_doubles_within_its_bounds_and_keeps_to_what_was_asked(failures: int, asked: float | None) -> None:
    pause = pause_seconds(failures, asked, POLICY)
    assert pause == max(min(300 * 2 ** min(failures - 1, 20), 3600), asked or 0)


def old_batch(days: float) -> BatchRecord:
    now = datetime(2026, 11, 25, tzinfo=UTC)
    unknown = dict.fromkeys(field.name for field in fields(BatchRecord))
    counts = dict.fromkeys(("submissions", "collected_items", "stray_items", "failures", "short_reads"), 0)
    known = {"status": BatchStatus.RUNNING, "total_items": 10, "created_at": now - timedelta(days=days), "read_at": now}
    return BatchRecord(**(unknown | counts | known))


def described(phase: Phase, leftover: ItemStatus) -> ProviderBatch:
    return ProviderBatch(id="b", status="x", phase=phase, expected_results=4, leftover=leftover)


def test_only_what_the_provider_says_it_never_ran_may_be_sent_again() -> None:
    overdue = after_answer(old_batch(15), described(Phase.RUNNING, ItemStatus.EXPIRED), POLICY)
    assert isinstance(overdue, End)
    assert not overdue.again  # it may run it still
    failure = ProviderFailure("gone", kind=FailureKind.NOT_FOUND)
    lost = after_failure(old_batch(30), failure, POLICY)
    assert isinstance(lost, End)
    assert not lost.again
    for leftover in (ItemStatus.EXPIRED, ItemStatus.ERRORED, ItemStatus.CANCELED):
        ended = after_reading(old_batch(1), described(Phase.ENDED, leftover), 4, POLICY)
        assert isinstance(ended, End)
        assert ended.again is (leftover is ItemStatus.EXPIRED)


@given(st.lists(st.binary(max_size=30)), st.data())
def test_lines_are_found_whatever_the_blocks(lines: list[bytes], data: st.DataObject) -> None:
    lines = [line.translate(None, b"\r\n").strip() for line in lines]
    end = data.draw(st.sampled_from([b"\n", b"\r\n"]))
    stream = end.join(lines)
    splitter, found = LineSplitter(), []
    while stream:
        size = data.draw(st.integers(1, 7))
        found += splitter.feed(stream[:size])
        stream = stream[size:]
    assert [*found, *splitter.end()] == [line for line in lines if line]


@given(st.uuids(), st.integers(0, 100_000), st.integers(1, 100_001))
def test_a_name_leads_back_to_its_place(batch_id: UUID, position: int, total: int) -> None:
    name = wire_id(reference(batch_id), position)
    assert len(name) <= 64
    assert position_of(reference(batch_id), name, total) == (position if position < total else None)
    assert belongs(reference(batch_id), name)
    assert position_of(reference(uuid4()), name, total) is None


@pytest.mark.parametrize("name", ["", "7", f"{'0' * 32}-", f"{'0' * 32}-01", f"{'0' * 32}--1", f"{'0' * 32}-1\n"])
def test_a_name_that_is_none_leads_nowhere(name: str) -> None:
    assert position_of("0" * 32, name, 9) is None


@pytest.mark.parametrize(
    ("status", "kind", "doubt"),
    [
        (400, FailureKind.REFUSED, False),
        (401, FailureKind.CREDENTIALS, False),
        (402, FailureKind.CREDENTIALS, False),
        (403, FailureKind.CREDENTIALS, False),
        (404, FailureKind.NOT_FOUND, False),
        (408, FailureKind.PASSING, True),
        (409, FailureKind.PASSING, False),
        (413, FailureKind.REFUSED, False),
        (422, FailureKind.REFUSED, False),
        (429, FailureKind.PASSING, False),
        (500, FailureKind.PASSING, True),
        (504, FailureKind.PASSING, True),
        (529, FailureKind.PASSING, True),
    ],
)
def test_what_a_status_of_http_means(status: int, kind: FailureKind, doubt: bool) -> None:
    assert (failure_kind(status), in_doubt(status)) == (kind, doubt)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3600"}, 3600),
        ({"retry-after": "-1"}, 0),
        ({"retry-after": "Wed, 25 Nov 2026 10:00:30 GMT", "date": "Wed, 25 Nov 2026 10:00:00 GMT"}, 30),
        ({"retry-after": "Wed, 25 Nov 2026 10:00:30 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_how_long_an_answer_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers) == seconds


def test_a_breaker_opens_lets_one_through_and_closes() -> None:
    breaker = Breaker(threshold=3, pause_seconds=60)
    for moment in range(2):
        breaker = breaker.failed(moment)
        assert breaker.allows(moment)
    breaker = breaker.succeeded().failed(2).failed(3).failed(4)
    assert breaker.state(5) is BreakerState.OPEN
    assert not breaker.allows(63)
    assert breaker.state(64) is BreakerState.HALF_OPEN
    probing = breaker.called(64)
    assert not probing.allows(64)
    assert probing.abandoned().allows(64)
    assert probing.failed(65).state(124) is BreakerState.OPEN
    assert probing.succeeded() == Breaker(threshold=3, pause_seconds=60)
    assert Breaker().failed(0, at_once=True, pause_seconds=7200).state(7199) is BreakerState.OPEN


@given(st.lists(st.integers(2, 400)), st.integers(1, 9), st.integers(600, 3_000))
def test_requests_are_divided_in_order_within_the_limits(sizes: list[int], most: int, max_bytes: int) -> None:
    items = [NewItem(n, str(n), "x" * size) for n, size in enumerate(sizes)]
    limits = BatchLimits(most, max_bytes)
    batches = list(divide(items, "p", limits))
    assert [item.custom_id for batch in batches for item in batch] == [item.custom_id for item in items]
    for batch in batches:
        require_fits(batch, "p", limits)
        assert [item.position for item in batch] == list(range(len(batch)))
    for batch, following in itertools.pairwise(batches):  # in as few as their order allows
        assert len(batch) == most or sum(map(size_bytes, [*batch, following[0]])) > max_bytes


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "got no requests"),
        ([{"custom_id": "a", "params": {"x": 1}}] * 2, "requests 0 and 1 have the same custom_id 'a'"),
        ([{"params": {"x": 1}}], "request 0: custom_id: got None"),
        ([{"custom_id": "", "params": {"x": 1}}], "request 0: custom_id: got ''"),
        ([{"custom_id": "a\0", "params": {"x": 1}}], "request 0: custom_id"),
        ([{"custom_id": "a" * 201, "params": {"x": 1}}], "a text of 1 to 200"),
        ([{"custom_id": "a"}], "request 0 ('a'): params: got NoneType"),
        ([BatchRequest("a", {})], "request 0 ('a'): params: got dict, expected the body of a request"),
        ([BatchRequest("a", {"x": float("nan")})], "request 0 ('a'): params is not JSON"),
        ([BatchRequest("a", {"x": object()})], "request 0 ('a'): params is not JSON"),
        ([{"custom_id": "a", "params": {"x": 1}, "body": 2}], "request 0 has unknown keys ['body']"),
        (["a"], "request 0: got str"),
    ],
)
def test_promise_10_requests_that_make_no_batch_are_refused_by_position(requests: list, message: str) -> None:
    with pytest.raises(InvalidBatch) as refusal:
        validate(requests)
    assert message in str(refusal.value)


def test_too_many_requests_are_refused_with_the_limit() -> None:
    items = validate(BatchRequest(str(n), {"n": n}) for n in range(5))
    with pytest.raises(InvalidBatch, match="got 5 requests; a batch of p holds at most 4"):
        require_fits(items, "p", BatchLimits(4, 10_000))
    with pytest.raises(InvalidBatch, match=r"request 0 \('0'\) has 208 bytes; a batch of p holds at most 100 bytes"):
        list(divide(items, "p", BatchLimits(4, 100)))


def test_a_cycle_has_the_six_fields_and_logs_them_as_one_event(caplog: pytest.LogCaptureFixture) -> None:
    began = datetime(2026, 11, 25, tzinfo=UTC) + timedelta(seconds=1)
    cycle = BatchPollingMetrics(began)
    cycle.found("anthropic")
    cycle.found("openai")
    cycle.still_running("openai")
    cycle.ended("anthropic")
    cycle.items_updated("anthropic", 3)
    with caplog.at_level("INFO"):
        cycle.log_summary()
    [event] = caplog.records
    fields = ("total_batches", "anthropic_batches", "running_count", "completed_count", "updated_items_count")
    assert [getattr(event, field) for field in fields] == [getattr(cycle, field) for field in fields] == [2, 1, 1, 1, 3]
    assert event.start_time == began.isoformat()
    assert json.dumps(cycle.summary())
    assert cycle.outcome == "ok"
