"""The largest batches that the providers take: results go through the memory in pieces."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.support.faulty_provider import FaultyProvider

from .batch_nodes import PATIENCE_SECONDS, batch_process, ended, eventually, rows

pytestmark = [
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of a process's memory from /proc"),
]

CHUNK_ITEMS = 500
GROWTH_LIMIT_BYTES = 40 * 2**20


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has held so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    [kilobytes] = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) * 1024


def collecting_peak_bytes(url: str, server: FaultyProvider, provider: str, items: int) -> int:
    """Submit a batch, let another process collect it, and return that one's peak."""
    with batch_process(url, server, "submit", provider, str(items)) as submitter:
        assert submitter.wait(PATIENCE_SECONDS) == 0
    with batch_process(url, server, "work") as poller:
        eventually(lambda: ended(url))
        peak = peak_bytes(poller.pid)
    [found] = rows(url, "SELECT total_items, collected_items FROM callboard.batches")
    assert found == (items, items)
    transactions = "SELECT count(*) FROM callboard.batch_items GROUP BY updated_at"
    assert max(rows(url, transactions)) <= (CHUNK_ITEMS,)
    [left] = rows(url, "SELECT count(*) FROM callboard.batch_items WHERE status <> 'succeeded' OR result IS NULL")
    assert left == (0,)
    rows(url, "DELETE FROM callboard.batches RETURNING id")
    return peak


@pytest.mark.parametrize(("provider", "items"), [("anthropic", 100_000), ("openai", 50_000)])
def test_promise_8_the_largest_batch_is_collected_in_chunks_within_the_memory_of_a_small_one(
    database_url: str, monkeypatch: pytest.MonkeyPatch, provider: str, items: int
) -> None:
    monkeypatch.setenv("CALLBOARD_LLM_REQUEST_TIMEOUT_SECONDS", "60")
    with FaultyProvider() as server:
        small = collecting_peak_bytes(database_url, server, provider, 1_000)
        large = collecting_peak_bytes(database_url, server, provider, items)
    assert large - small < GROWTH_LIMIT_BYTES
