"""Commands that ask the database, or tell it something, and end: a store, and no runtime around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from callboard import Settings
from callboard.actors.job_store import JobStore
from callboard.actors.ports import NoTelemetry
from callboard.persistence import stores

T = TypeVar("T")


def with_store(settings: Settings, action: Callable[[JobStore], Awaitable[T]]) -> T:
    """Open the store, do one thing with it, close it.

    Raises:
        StoreUnavailable, ServerTooOld, SchemaMissing, SchemaMismatch: the database is not usable.
    """

    async def run() -> T:
        store = stores.postgres(settings, NoTelemetry()).store
        try:
            await store.open()
            return await action(store)
        finally:
            await store.close()

    return asyncio.run(run())


def actor(settings: Settings) -> str:
    """Return who does it, for the history."""
    return f"client:{settings.node()}"
