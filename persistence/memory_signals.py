"""Wake-ups and leases of the memory store: calls in the same process, no threads."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

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
        self._begun_by: Callable[[float], AbstractSet[AttemptKey]] = lambda _: frozenset()
        self._lost: set[AttemptKey] = set()
        self._on_lost: Callable[[Sequence[AttemptKey]], None] | None = None

    def keep(self, begun_by: Callable[[float], AbstractSet[AttemptKey]]) -> None:
        """Keep the attempts that run."""
        self._begun_by = begun_by

    def start(self, on_lost: Callable[[Sequence[AttemptKey]], None]) -> None:
        """Remember whom to tell of lost attempts."""
        self._on_lost = on_lost

    def beat(self) -> None:
        """Renew all; report the lost ones."""
        if self._on_lost is None:
            return
        running = self._begun_by(math.inf)
        self._lost.intersection_update(running)
        lost = self._store.renew_now(list(running - self._lost))
        self._lost.update(lost)
        if lost:
            self._on_lost(lost)

    def stop(self) -> None:
        """Renew no more."""
        self._on_lost = None
