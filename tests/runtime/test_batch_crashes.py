"""Processes that die by kill -9 with a batch in their hands: it is paid for once, and each result is stored once."""

import pytest

from tests.support.faulty_provider import FaultyProvider, Hold

from .batch_nodes import (
    PATIENCE_SECONDS,
    batch_process,
    ended,
    eventually,
    kill,
    locked,
    moments,
    no_session_is_left,
    require_every_result,
    rows,
)

pytestmark = [pytest.mark.processes, pytest.mark.chaos]

ITEMS = 1_200
CHUNK_ITEMS = 500
LOST = [
    ("anthropic", "anthropic_create", True, 1),
    ("anthropic", "anthropic_create", False, 1),
    ("openai", "openai_upload", False, 1),
    ("openai", "openai_create", False, 1),
]
"""Provider, the call in which the process is killed, whether before the provider has done it, batches in the end."""
PROVIDERS = pytest.mark.parametrize(
    ("provider", "results"), [("anthropic", "anthropic_results"), ("openai", "openai_content")]
)
LOCK_THE_BATCH = "SELECT FROM callboard.batches FOR UPDATE"


def test_promise_8_a_submitter_killed_while_it_records_has_sent_nothing(database_url: str) -> None:
    with FaultyProvider() as server:
        with (
            locked(database_url, "LOCK TABLE callboard.batch_items IN SHARE MODE") as is_awaited,
            batch_process(database_url, server, "submit", "anthropic", "7") as submitter,
        ):
            is_awaited()
            kill(submitter)
        no_session_is_left(database_url)
        assert rows(database_url, "SELECT FROM callboard.batches") == []
        assert server.calls == []


@pytest.mark.parametrize(("provider", "call", "before", "batches"), LOST)
def test_promise_8_a_submitter_killed_in_the_middle_costs_no_second_batch(
    database_url: str, provider: str, call: str, before: bool, batches: int
) -> None:
    hold = Hold(before=before)
    with FaultyProvider() as server:
        server.script(call, hold)
        with batch_process(database_url, server, "submit", provider, "7") as submitter:
            assert hold.reached.wait(PATIENCE_SECONDS)
            kill(submitter)
        assert rows(database_url, "SELECT status FROM callboard.batches") == [("submitting",)]
        if before:  # what had not arrived never will
            hold.refuse()
        else:
            hold.release()
        for hosted in server.batches.all():
            server.batches.look(hosted.id)
        with batch_process(database_url, server, "work"):
            eventually(lambda: ended(database_url))
        assert len(server.batches.all()) == batches
    require_every_result(database_url, 7)


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_promise_8_a_submitter_killed_between_the_answer_and_its_record_costs_no_second_batch(
    database_url: str, provider: str
) -> None:
    hold = Hold()
    with FaultyProvider() as server:
        server.script(f"{provider}_create", hold)
        with batch_process(database_url, server, "submit", provider, "7") as submitter:
            assert hold.reached.wait(PATIENCE_SECONDS)
            with locked(database_url, LOCK_THE_BATCH) as is_awaited:
                hold.release()
                is_awaited()  # it has the answer, and sets out to record it
                kill(submitter)
        no_session_is_left(database_url)
        assert rows(database_url, "SELECT status, provider_batch_id FROM callboard.batches") == [("submitting", None)]
        for hosted in server.batches.all():
            server.batches.look(hosted.id)
        with batch_process(database_url, server, "work"):
            eventually(lambda: ended(database_url))
        assert len(server.batches.all()) == 1
    require_every_result(database_url, 7)


@PROVIDERS
def test_promise_8_a_poller_killed_in_the_middle_of_the_results_loses_none(
    database_url: str, provider: str, results: str
) -> None:
    hold = Hold(after_lines=ITEMS - 100)
    with FaultyProvider() as server:
        server.script(results, hold)
        submit(database_url, server, provider)
        with batch_process(database_url, server, "work") as poller:
            assert hold.reached.wait(PATIENCE_SECONDS)
            eventually(lambda: len(moments(database_url)) >= CHUNK_ITEMS)
            kill(poller)
        before = moments(database_url)
        assert CHUNK_ITEMS <= len(before) < ITEMS
        assert not ended(database_url)
        hold.release()
        collected_by_another(database_url, server)
    assert before.items() <= moments(database_url).items()
    require_every_result(database_url, ITEMS)


@PROVIDERS
def test_promise_8_a_poller_killed_before_its_last_transaction_loses_none(
    database_url: str, provider: str, results: str
) -> None:
    hold = Hold(after_lines=ITEMS - 100)
    with FaultyProvider() as server:
        server.script(results, hold)
        submit(database_url, server, provider)
        with batch_process(database_url, server, "work") as poller:
            assert hold.reached.wait(PATIENCE_SECONDS)
            eventually(lambda: len(moments(database_url)) == 2 * CHUNK_ITEMS)
            with locked(database_url, LOCK_THE_BATCH) as is_awaited:
                hold.release()
                is_awaited()  # it has every result, and sets out to end the batch
                kill(poller)
        no_session_is_left(database_url)
        before = moments(database_url)
        assert len(before) == 2 * CHUNK_ITEMS
        assert not ended(database_url)
        collected_by_another(database_url, server)
    assert before.items() <= moments(database_url).items()
    require_every_result(database_url, ITEMS)


def submit(url: str, server: FaultyProvider, provider: str) -> None:
    with batch_process(url, server, "submit", provider, str(ITEMS)) as submitter:
        assert submitter.wait(PATIENCE_SECONDS) == 0


def collected_by_another(url: str, server: FaultyProvider) -> None:
    with batch_process(url, server, "work"):
        eventually(lambda: ended(url))
    assert len(server.batches.all()) == 1
