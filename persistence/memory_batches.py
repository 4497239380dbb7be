"""Batches and their items in this process's memory: the same contract, not durable."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from callboard.actors.batches.naming import reference, wire_id
from callboard.actors.batches.provider import ProviderBatch
from callboard.actors.batches.state import UNCONFIRMED, BatchStatus, ItemStatus, final_status, submitted_status
from callboard.actors.batches.types import (
    BatchNote,
    BatchRecord,
    BatchResult,
    Collected,
    NewBatch,
    Outcome,
    Stray,
    WireRequest,
)
from callboard.actors.clock import Clock

_NOTHING = Collected({}, 0, None)


class MemoryBatches:
    """Implements ``BatchStore``; every method runs without a pause, hence as one transaction.

    Args:
        clock: the "database's" clock.
        announce: tells those who wait that a batch has changed.
        require_term: refuses the writes of a leader whose term is over.
        put_back: puts the requests of jobs at these places of a batch back, each so often at most; returns how many.
    """

    def __init__(
        self,
        clock: Clock,
        announce: Callable[[UUID], None],
        require_term: Callable[[int], None],
        put_back: Callable[[UUID, Collection[int], int], int],
    ) -> None:
        self._require_term = require_term
        self._put_back = put_back
        self._clock = clock
        self._announce = announce
        self._batches: dict[UUID, BatchRecord] = {}
        self._new: dict[UUID, NewBatch] = {}
        self._outcomes: dict[UUID, dict[int, Outcome]] = {}
        self._strays: dict[UUID, dict[str, Stray]] = {}

    async def record(self, batch: NewBatch, *, grace_seconds: float, actor: str) -> None:
        """Record the intent."""
        if batch.id in self._batches:
            return
        now = self._clock.now()
        self._new[batch.id] = batch
        self._outcomes[batch.id] = {}
        self._strays[batch.id] = {}
        self._batches[batch.id] = BatchRecord(
            id=batch.id,
            provider=batch.provider,
            endpoint=batch.endpoint,
            status=BatchStatus.SUBMITTING,
            provider_batch_id=None,
            total_items=len(batch.items),
            collected_items=0,
            stray_items=0,
            created_at=now,
            created_by=actor,
            submitted_at=None,
            submissions=1,
            next_poll_at=now + timedelta(seconds=grace_seconds),
            polled_at=None,
            provider_status=None,
            expires_at=None,
            provider_ended_at=None,
            cancel_requested_at=None,
            cancel_sent_at=None,
            failures=0,
            short_reads=0,
            last_error=None,
            finished_at=None,
            read_at=now,
        )

    async def take_submission(
        self, batch_id: UUID, submissions: int, *, grace_seconds: float, term: int | None = None
    ) -> bool:
        """Set out to submit it (again)."""
        batch = self._unfinished(batch_id, term)
        if (
            batch is None
            or batch.status not in UNCONFIRMED
            or batch.submissions != submissions
            or batch.cancel_requested
        ):
            return False
        now = self._clock.now()
        self._change(
            batch,
            status=BatchStatus.SUBMITTING,
            submissions=submissions + 1,
            polled_at=now,
            next_poll_at=now + timedelta(seconds=grace_seconds),
        )
        return True

    async def confirm(self, batch_id: UUID, answer: ProviderBatch, *, term: int | None = None) -> BatchRecord | None:
        """The provider has it."""
        if term is not None:
            self._require_term(term)
        batch = self._batches.get(batch_id)
        if batch is None or batch.status.is_terminal or batch.provider_batch_id is not None:
            return batch
        now = self._clock.now()
        return self._change(
            batch,
            status=submitted_status(cancel_requested=batch.cancel_requested),
            provider_batch_id=answer.id,
            submitted_at=now,
            next_poll_at=now,
            provider_status=answer.status,
            provider_counts=dict(answer.counts),
            expires_at=answer.expires_at,
            failures=0,
            last_error=None,
        )

    async def note(
        self, batch_id: UUID, note: BatchNote, *, status: BatchStatus | None = None, term: int | None = None
    ) -> bool:
        """Write what a poll found out."""
        batch = self._unfinished(batch_id, term)
        if batch is None:
            return False
        now = self._clock.now()
        self._change(
            batch,
            status=status if status is not None and batch.status in UNCONFIRMED else batch.status,
            polled_at=now,
            next_poll_at=now + timedelta(seconds=note.next_poll_seconds),
            provider_status=note.provider_status or batch.provider_status,
            provider_counts=batch.provider_counts if note.provider_counts is None else dict(note.provider_counts),
            expires_at=note.expires_at or batch.expires_at,
            provider_ended_at=batch.provider_ended_at or (now if note.ended else None),
            cancel_sent_at=batch.cancel_sent_at or (now if note.cancel_sent else None),
            failures=note.failures,
            short_reads=note.short_reads,
            last_error=note.last_error,
        )
        return True

    async def collect(
        self,
        batch_id: UUID,
        outcomes: Sequence[Outcome],
        strays: Sequence[Stray],
        *,
        ended_as: BatchStatus,
        resubmissions: int = 0,
        term: int | None = None,
    ) -> Collected:
        """Record outcomes, each item's first one only; end the batch with the last."""
        batch = self._unfinished(batch_id, term)
        if batch is None:
            return _NOTHING
        known = self._outcomes[batch_id]
        updated: Counter[ItemStatus] = Counter()
        again: list[int] = []
        for outcome in outcomes:
            if outcome.position not in known:
                known[outcome.position] = outcome
                updated[outcome.status] += 1
                again += [outcome.position] * outcome.again
        for stray in strays:
            self._strays[batch_id].setdefault(stray.wire_id, stray)
        put_back = self._put_back(batch_id, again, 0 if batch.cancel_requested else resubmissions)
        return self._settled(batch, updated, ended_as, None, put_back)

    async def end(
        self,
        batch_id: UUID,
        status: BatchStatus,
        *,
        leftover: ItemStatus,
        error: str | None,
        resubmissions: int = 0,
        term: int | None = None,
    ) -> Collected:
        """End a batch as it is."""
        batch = self._unfinished(batch_id, term)
        if batch is None:
            return _NOTHING
        item_error = None if error is None else json.dumps({"type": "batch_error", "message": error})
        known = self._outcomes[batch_id]
        rest = [position for position in range(batch.total_items) if position not in known]
        known.update({position: Outcome(position, leftover, None, item_error) for position in rest})
        put_back = self._put_back(batch_id, rest, 0 if batch.cancel_requested else resubmissions)
        return self._settled(batch, Counter({leftover: len(rest)}), status, error, put_back)

    def _settled(
        self, batch: BatchRecord, updated: Counter[ItemStatus], ended_as: BatchStatus, error: str | None, put_back: int
    ) -> Collected:
        now = self._clock.now()
        collected = len(self._outcomes[batch.id])
        batch = self._change(
            batch,
            collected_items=collected,
            stray_items=len(self._strays[batch.id]),
            provider_ended_at=batch.provider_ended_at or now,
        )
        if collected < batch.total_items:
            return Collected(updated, batch.total_items - collected, None, put_back)
        status = final_status(batch.status, ended_as, cancel_requested=batch.cancel_requested)
        self._change(batch, status=status, finished_at=now, polled_at=now, failures=0, last_error=error)
        return Collected(updated, 0, status, put_back)

    async def request_cancel(self, batch_id: UUID, *, actor: str) -> tuple[BatchRecord, bool] | None:
        """Cancel a batch."""
        batch = self._batches.get(batch_id)
        if batch is None:
            return None
        if batch.status.is_terminal or batch.cancel_requested:
            return batch, False
        status = BatchStatus.CANCELLING if batch.status is BatchStatus.RUNNING else batch.status
        return self._change(batch, status=status, cancel_requested_at=self._clock.now()), True

    async def due(self, *, limit: int | None, without: Collection[str] = ()) -> list[BatchRecord]:
        """Read the batches whose time has come, the ones not polled for the longest first."""
        now = self._clock.now()
        due = [self._read(one) for one in self._batches.values() if not one.status.is_terminal]
        due = [one for one in due if one.next_poll_at <= now and one.provider not in without]
        due.sort(key=lambda one: (one.polled_at is not None, one.polled_at or now, one.id))
        return due[:limit]

    async def get(self, batch_id: UUID) -> BatchRecord | None:
        """Read one batch."""
        batch = self._batches.get(batch_id)
        return None if batch is None else self._read(batch)

    async def list_batches(
        self, *, statuses: Collection[BatchStatus] = (), provider: str | None = None, limit: int, before: UUID | None
    ) -> list[BatchRecord]:
        """List batches, newest first."""
        found = [
            self._read(batch)
            for _, batch in sorted(self._batches.items(), reverse=True)
            if (not statuses or batch.status in statuses)
            and provider in {None, batch.provider}
            and (before is None or batch.id < before)
        ]
        return found[:limit]

    async def requests(self, batch_id: UUID) -> list[WireRequest]:
        """Read what is to be submitted."""
        name = reference(batch_id)
        new = self._new.get(batch_id)
        return [] if new is None else [WireRequest(wire_id(name, item.position), item.params) for item in new.items]

    async def results(self, batch_id: UUID, *, after: int = -1, limit: int) -> list[BatchResult]:
        """Read items and their outcomes, in order."""
        new = self._new.get(batch_id)
        if new is None:
            return []
        known = self._outcomes[batch_id]
        pending = [Outcome(item.position, ItemStatus.PENDING) for item in new.items]
        page = [
            (item.custom_id, known.get(item.position, pending[item.position]))
            for item in new.items[after + 1 : after + 1 + limit]
        ]
        return [
            BatchResult(custom_id, outcome.status, _plain(outcome.result), _plain(outcome.error))
            for custom_id, outcome in page
        ]

    def result(self, batch_id: UUID, position: int) -> BatchResult | None:
        """Read one item; None if there is no such batch."""
        new = self._new.get(batch_id)
        if new is None:
            return None
        outcome = self._outcomes[batch_id].get(position, Outcome(position, ItemStatus.PENDING))
        custom_id = new.items[position].custom_id
        return BatchResult(custom_id, outcome.status, _plain(outcome.result), _plain(outcome.error))

    async def known(self, provider: str, provider_batch_ids: Collection[str]) -> set[str]:
        """Return which names belong to batches here."""
        names = {batch.provider_batch_id for batch in self._batches.values() if batch.provider == provider}
        return {name for name in provider_batch_ids if name in names}

    def ended_before(self, moment: datetime) -> list[UUID]:
        """Return the batches that ended before a moment."""
        return [one.id for one in self._batches.values() if one.finished_at is not None and one.finished_at < moment]

    def forget(self, batch_id: UUID) -> None:
        """Delete a batch."""
        for kept in (self._batches, self._new, self._outcomes, self._strays):
            del kept[batch_id]

    def _unfinished(self, batch_id: UUID, term: int | None) -> BatchRecord | None:
        if term is not None:
            self._require_term(term)
        batch = self._batches.get(batch_id)
        return None if batch is None or batch.status.is_terminal else batch

    def _read(self, batch: BatchRecord) -> BatchRecord:
        return replace(batch, read_at=self._clock.now())

    def _change(self, batch: BatchRecord, **changes: Any) -> BatchRecord:
        changed = self._batches[batch.id] = replace(batch, **changes, read_at=self._clock.now())
        self._announce(batch.id)
        return changed


def _plain(text: str | None) -> Any:
    return None if text is None else json.loads(text)
