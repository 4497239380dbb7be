"""The stores as the runtime composes them: a store with the wake-ups, the lease keeper and the leader lock of it."""

from __future__ import annotations

from dataclasses import dataclass

from callboard.actors.clock import Clock
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.turn import DEFAULT_AGING_SECONDS
from callboard.actors.ports import AttemptKeeper, LeaderLock, Telemetry, WakeUps
from callboard.actors.settings import Settings

from .leader_lock import PostgresLeaderLock
from .leases import PostgresAttemptKeeper
from .listener import PostgresWakeUps
from .memory_signals import MemoryAttemptKeeper, MemoryWakeUps
from .memory_store import MemoryStore
from .postgres_store import PostgresStore


@dataclass(frozen=True, slots=True)
class StoreParts:
    """What the kernel needs of a store."""

    store: JobStore
    wake_ups: WakeUps
    keeper: AttemptKeeper
    leader_lock: LeaderLock


def postgres(settings: Settings, telemetry: Telemetry) -> StoreParts:
    """Return the parts for PostgreSQL. Nothing connects before it is used.

    Raises:
        ConfigurationError: ``settings`` have no database URL, or one that is not PostgreSQL's.
    """
    return StoreParts(
        store=PostgresStore(settings, telemetry),
        wake_ups=PostgresWakeUps(settings),
        keeper=PostgresAttemptKeeper(settings, telemetry),
        leader_lock=PostgresLeaderLock(settings),
    )


def memory(clock: Clock, *, aging_seconds: float = DEFAULT_AGING_SECONDS) -> StoreParts:
    """Return the parts of a store in this process's memory, for users' unit tests: the same contract, not durable."""
    store = MemoryStore(clock, aging_seconds)
    return StoreParts(
        store=store,
        wake_ups=MemoryWakeUps(store),
        keeper=MemoryAttemptKeeper(store),
        leader_lock=store.leader_lock,
    )
