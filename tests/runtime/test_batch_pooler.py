"""Batches, and jobs that wait for them, behind pgbouncer in transaction mode."""

from pathlib import Path

import pytest

from callboard import Runtime, Settings
from callboard.actors.batches.state import BatchStatus, ItemStatus
from tests.support.faulty_provider import FaultyProvider, refused
from tests.support.pgbouncer import running_pgbouncer

from .llm_jobs import REGISTRY, draft, prompt, settings

ITEMS = 1_200
WAIT_SECONDS = 60


async def test_batches_and_jobs_that_wait_work_through_a_pooler(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "journal"
    direct = Settings(direct_database_url=database_url).model_dump(include={"direct_database_url"})
    with FaultyProvider() as server, running_pgbouncer(database_url, "transaction") as url:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "test")
        server.script("anthropic_results", refused(500))
        pooled = settings(url, 0.2).model_copy(update=direct)
        async with Runtime(pooled, registry=REGISTRY), Runtime(pooled, work=False, registry=REGISTRY) as client:
            batch = await client.submit_batch(
                "anthropic", [{"custom_id": f"item {n}", "params": prompt(f"prompt {n}")} for n in range(ITEMS)]
            )
            refs = await client.spawn_many(draft, [(journal, f"words {n}") for n in range(5)])
            for number, ref in enumerate(refs):
                assert f"2 words: words {number}" in await ref.result(WAIT_SECONDS)
            results = await batch.results(WAIT_SECONDS)
            assert {result.status for result in results} == {ItemStatus.SUCCEEDED}
            assert [result.custom_id for result in results] == [f"item {n}" for n in range(ITEMS)]
            assert await batch.status() is BatchStatus.COMPLETED
            cancelled = await client.submit_batch("anthropic", [{"custom_id": "a", "params": prompt("a b")}])
            assert await cancelled.cancel()
            assert (await cancelled.ended(WAIT_SECONDS)).status is BatchStatus.CANCELLED
    lines = journal.read_text().splitlines()
    assert sorted(lines) == sorted(f"{when} words {n}" for when in ("before", "after") for n in range(5))
