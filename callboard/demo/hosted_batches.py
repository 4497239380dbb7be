"""The batches that a stand-in for a provider runs: no model, but the life of a batch as real ones have it."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

WINDOW: Final = timedelta(hours=24)


@dataclass(slots=True)
class HostedBatch:
    """One batch.

    Attributes:
        id: its name.
        requests: names and bodies, in order.
        endpoint: what they are for.
        metadata: what the client attached.
        created_at: when it came.
        looks_left: after so many more looks it has ended.
        cancelled: whether somebody cancelled it.
        outcomes: what became of each request, by name, once it has ended.
    """

    id: str
    requests: Sequence[tuple[str, Mapping[str, Any]]]
    endpoint: str | None
    metadata: Mapping[str, str]
    created_at: datetime
    looks_left: int
    cancelled: bool = False
    outcomes: dict[str, str] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return bool(self.outcomes)

    @property
    def expires_at(self) -> datetime:
        """When it would be given up."""
        return self.created_at + WINDOW

    def count(self, outcome: str) -> int:
        """Return how many requests ended so."""
        return Counter(self.outcomes.values())[outcome]


class HostedBatches:
    """All batches of a stand-in. Any thread.

    Args:
        looks: a batch ends when it has been looked at so often.
    """

    def __init__(self, looks: int = 1) -> None:
        self.looks = looks
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._batches: dict[str, HostedBatch] = {}
        self._files: dict[str, bytes] = {}

    def create(
        self,
        prefix: str,
        requests: Sequence[tuple[str, Mapping[str, Any]]],
        *,
        endpoint: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> HostedBatch:
        """Take a batch."""
        with self._lock:
            batch = HostedBatch(
                f"{prefix}_{next(self._numbers):06}", requests, endpoint, metadata or {}, datetime.now(UTC), self.looks
            )
            self._batches[batch.id] = batch
            return batch

    def look(self, batch_id: str) -> HostedBatch | None:
        """Return a batch; looking brings its end nearer."""
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is not None and not batch.ended:
                batch.looks_left -= 1
                if batch.looks_left <= 0:
                    self._end(batch)
            return batch

    def _end(self, batch: HostedBatch) -> None:
        """End a batch; of one that was cancelled, the second half of the requests never ran."""
        run = len(batch.requests) // 2 if batch.cancelled else len(batch.requests)
        for place, (name, _) in enumerate(batch.requests):
            batch.outcomes[name] = "succeeded" if place < run else "canceled"

    def cancel(self, batch_id: str) -> HostedBatch | None:
        """Cancel a batch that has not ended."""
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is not None and not batch.ended and not batch.cancelled:
                batch.cancelled = True
                batch.looks_left = 2
            return batch

    def all(self) -> list[HostedBatch]:
        """Return all batches, newest first."""
        with self._lock:
            return list(self._batches.values())[::-1]

    def get(self, batch_id: str) -> HostedBatch:
        """Return a batch without looking at it."""
        with self._lock:
            return self._batches[batch_id]

    def store_file(self, content: bytes) -> str:
        """Keep a file; return its name."""
        with self._lock:
            name = f"file_{next(self._numbers):06}"
            self._files[name] = content
            return name

    def file(self, name: str) -> bytes | None:
        """Return a file's content."""
        with self._lock:
            return self._files.get(name)
