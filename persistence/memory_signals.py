"""Wake-ups and leases of the memory store: calls in the same process, no threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from callboard.actors.jobs.types import AttemptKey

from .memory_store import MemoryStore


class MemoryWakeUps:
    """Implements ``WakeUps`` for a ``MemoryStore``; hints arrive before the store's method returns."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def run(self, on_hint: Callable[[str, str], None]) -> None:
        """Listen until cancelled."""
        unsubscribe = self._store.subscribe(on_hint)
        on_hint("listening", "")
        try:
            await asyncio.Event().wait()
        finally:
            unsubscribe()


class MemoryAttemptKeeper:
    """Implements ``AttemptKeeper`` for a ``MemoryStore``: each ``beat`` of the event loop renews every lease."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._kept: dict[AttemptKey, None] = {}
        self._on_lost: Callable[[Sequence[AttemptKey]], None] | None = None

    def start(self, on_lost: Callable[[Sequence[AttemptKey]], None]) -> None:
        """Remember whom to tell of lost attempts."""
        self._on_lost = on_lost

    def add(self, attempts: Sequence[AttemptKey]) -> None:
        """Keep these from now on."""
        self._kept.update(dict.fromkeys(attempts))

    def discard(self, attempts: Sequence[AttemptKey]) -> None:
        """Stop keeping these."""
        for attempt in attempts:
            self._kept.pop(attempt, None)

    def beat(self) -> None:
        """Renew all; report the lost ones."""
        lost = self._store.renew_now(list(self._kept))
        self.discard(lost)
        if lost and self._on_lost is not None:
            self._on_lost(lost)

    def stop(self) -> None:
        """Renew no more."""
        self._on_lost = None
        self._kept.clear()
