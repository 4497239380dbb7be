"""Reading the results of an ended batch, and recording them as they come, each item's once."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, cast

from callboard.actors.errors import ValueNotStorable

from .naming import position_of, reference
from .ports import BatchStore
from .provider import BatchProvider, FailureKind, ProviderBatch, ProviderFailure, ProviderResult
from .state import BatchStatus, ItemStatus
from .submitting import Fence
from .types import BatchRecord, Collected, Outcome, Stray

_log = logging.getLogger(__name__)

CHUNK_ITEMS: Final = 500
CHUNK_CHARACTERS: Final = 8 * 2**20
"""One transaction records so many results, or so large ones."""


@dataclass(slots=True)
class Reading:
    """What one reading of a batch's results led to.

    Attributes:
        left: items without an outcome.
        seen: places of the items that the results had.
        ended: the status in which the batch ended with its last item.
        updated: items that got their outcome by it, by status.
        put_back: requests of jobs that are sent again.
    """

    left: int
    seen: set[int] = field(default_factory=set)
    ended: BatchStatus | None = None
    updated: Counter[ItemStatus] = field(default_factory=Counter)
    put_back: int = 0


class Collector:
    """Reads the results of one batch into the store, chunk by chunk.

    Whatever ends it, the chunks before are recorded; another one begins at the beginning and passes over them.

    Args:
        store: where the batch is.
        provider: where its results are.
        batch: the batch.
        answer: how the provider described it.
        fence: the leader's.
        line_timeout_seconds: how long the next result may take to come. A stream that is slow, but comes, may go on.
        chunk_items: one transaction records so many results at most.
        resubmissions: so often a request of a job is sent again.
    """

    def __init__(
        self,
        store: BatchStore,
        provider: BatchProvider,
        batch: BatchRecord,
        answer: ProviderBatch,
        fence: Fence,
        *,
        line_timeout_seconds: float,
        chunk_items: int,
        resubmissions: int,
    ) -> None:
        self._store = store
        self._provider = provider
        self._batch = batch
        self._answer = answer
        self._fence = fence
        self._line_timeout_seconds = line_timeout_seconds
        self._chunk_items = chunk_items
        self._resubmissions = resubmissions
        self._reference = reference(batch.id)
        self._outcomes: list[Outcome] = []
        self._strays: list[Stray] = []
        self._characters = 0
        self.reading = Reading(left=batch.total_items - batch.collected_items)

    async def read(self) -> Reading:
        """Read all results.

        Raises:
            ProviderFailure: they broke off, or none came in time. What came is recorded; ``reading`` tells.
        """
        try:
            stream = cast(AsyncGenerator[ProviderResult, None], self._provider.results(self._answer))
            async with aclosing(stream):
                while self.reading.left and (result := await self._next(stream)) is not None:
                    self._take(result)
                    if len(self._outcomes) >= self._chunk_items or self._characters >= CHUNK_CHARACTERS:
                        await self._flush()
        except ProviderFailure:
            await self._flush()
            raise
        await self._flush()
        return self.reading

    async def _next(self, stream: AsyncIterator[ProviderResult]) -> ProviderResult | None:
        try:
            async with asyncio.timeout(self._line_timeout_seconds):
                return await anext(stream, None)
        except TimeoutError:
            raise ProviderFailure(f"no result for {self._line_timeout_seconds:g} s", kind=FailureKind.PASSING) from None

    def _take(self, result: ProviderResult) -> None:
        position = position_of(self._reference, result.wire_id, self._batch.total_items)
        if position is None:
            content = {"custom_id": result.wire_id, "status": result.status}
            parts = {"result": result.result, "error": result.error}
            whole = content | {name: json.loads(text) for name, text in parts.items() if text is not None}
            self._strays.append(Stray(result.wire_id, json.dumps(whole)))
            return
        if result.status is None:
            _log.error("batch %s, item %d: an outcome of an unknown kind; it is kept back", self._batch.id, position)
            return
        self.reading.seen.add(position)
        again = result.passing or result.status is ItemStatus.EXPIRED
        self._outcomes.append(Outcome(position, result.status, result.result, result.error, again))
        self._characters += len(result.result or "") + len(result.error or "")

    async def _flush(self) -> None:
        outcomes, strays = self._outcomes, self._strays
        self._outcomes, self._strays, self._characters = [], [], 0
        if not outcomes and not strays:
            return
        try:
            self._count(await self._collect(outcomes, strays))
        except ValueNotStorable:
            await self._collect_singly(outcomes, strays)

    async def _collect_singly(self, outcomes: list[Outcome], strays: list[Stray]) -> None:
        """Record one by one what cannot be recorded together, because of one that the database cannot store."""
        for outcome in outcomes:
            try:
                self._count(await self._collect([outcome], []))
            except ValueNotStorable as refusal:
                _log.error("batch %s, item %d: %s", self._batch.id, outcome.position, refusal)
                error = json.dumps({"type": "not_storable", "message": str(refusal).replace("\0", "")})
                failed = Outcome(outcome.position, ItemStatus.ERRORED, None, error)
                self._count(await self._collect([failed], []))
        for stray in strays:
            try:
                await self._collect([], [stray])
            except ValueNotStorable as refusal:
                _log.error("batch %s: a result of nobody is dropped: %s", self._batch.id, refusal)

    async def _collect(self, outcomes: list[Outcome], strays: list[Stray]) -> Collected:
        return await self._store.collect(
            self._batch.id,
            outcomes,
            strays,
            ended_as=self._answer.ended_as,
            resubmissions=self._resubmissions,
            term=self._fence(),
        )

    def _count(self, collected: Collected) -> None:
        self.reading.updated.update(collected.by_status)
        self.reading.put_back += collected.put_back
        self.reading.left = collected.left
        self.reading.ended = collected.ended or self.reading.ended
