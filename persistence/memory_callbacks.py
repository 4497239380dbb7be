"""Callbacks in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from callboard.actors.callbacks.attempts import Attempt, CallbackState, Verdict
from callboard.actors.callbacks.types import CallbackRecord, DueCallback
from callboard.actors.clock import Clock
from callboard.actors.jobs.types import JobRecord


@dataclass(slots=True)
class _Callback:
    next_attempt_at: datetime
    state: CallbackState = CallbackState.PENDING
    attempts: int = 0
    token: int = 0
    sent_at: datetime | None = None
    status_code: int | None = None
    error: str | None = None


class MemoryCallbacks:
    """Implements ``CallbackStore``.

    Args:
        clock: the "database's" clock.
        job: returns a job, if it is kept.
        announce: tells the nodes that there is something to deliver.
    """

    def __init__(self, clock: Clock, job: Callable[[UUID], JobRecord | None], announce: Callable[[], None]) -> None:
        self._clock = clock
        self._job = job
        self._announce = announce
        self._callbacks: dict[UUID, _Callback] = {}

    def owe(self, job: JobRecord) -> None:
        """A job has ended."""
        if job.callback_url is not None and job.id not in self._callbacks:
            self._callbacks[job.id] = _Callback(self._clock.now())
            self._announce()

    async def claim(self, limit: int, *, lease_seconds: float) -> list[DueCallback]:
        """Take callbacks whose time has come."""
        now = self._clock.now()
        due = [
            (callback.next_attempt_at, job_id)
            for job_id, callback in self._callbacks.items()
            if callback.state is CallbackState.PENDING and callback.next_attempt_at <= now
        ]
        return [self._claim(job_id, now + timedelta(seconds=lease_seconds)) for _, job_id in sorted(due)[:limit]]

    def _claim(self, job_id: UUID, until: datetime) -> DueCallback:
        callback, job = self._callbacks[job_id], self._job(job_id)
        assert job is not None
        assert job.callback_url is not None
        assert job.finished_at is not None
        callback.attempts += 1
        callback.token += 1
        callback.next_attempt_at = until
        return DueCallback(
            job_id=job_id,
            token=callback.token,
            attempt=callback.attempts,
            url=job.callback_url,
            kind=job.kind,
            queue=job.queue,
            status=job.status.value,
            stop_reason=job.stop_reason,
            job_attempt=job.attempt,
            created_at=job.created_at,
            finished_at=job.finished_at,
            metadata=json.dumps(job.metadata) if job.metadata else None,
        )

    async def record(self, callback: DueCallback, attempt: Attempt, verdict: Verdict) -> bool:
        """Write down what came of an attempt; False if another one has begun meanwhile."""
        known = self._callbacks.get(callback.job_id)
        if known is None or known.token != callback.token or known.state is not CallbackState.PENDING:
            return False
        now = self._clock.now()
        known.state = verdict.state
        known.next_attempt_at = now + timedelta(seconds=verdict.delay_seconds)
        known.sent_at = known.sent_at if attempt.blocked else now
        known.status_code, known.error = attempt.status_code, attempt.error
        return True

    async def put_off(self, callbacks: Sequence[tuple[DueCallback, float]]) -> None:
        """Give back callbacks that were claimed and not attempted."""
        for callback, seconds in callbacks:
            known = self._callbacks.get(callback.job_id)
            if known is not None and known.token == callback.token and known.state is CallbackState.PENDING:
                known.attempts -= 1
                known.next_attempt_at = self._clock.now() + timedelta(seconds=seconds)

    async def read(self, state: CallbackState | None, *, limit: int) -> list[CallbackRecord]:
        """Return callbacks, those of the newest jobs first."""
        found = [self._read(job_id) for job_id in sorted(self._callbacks, reverse=True)]
        return [one for one in found if one is not None and state in {None, one.state}][:limit]

    def _read(self, job_id: UUID) -> CallbackRecord | None:
        callback, job = self._callbacks[job_id], self._job(job_id)
        if job is None or job.callback_url is None:
            return None
        pending = callback.state is CallbackState.PENDING
        return CallbackRecord(
            job_id,
            job.callback_url,
            callback.state,
            callback.attempts,
            callback.next_attempt_at if pending else None,
            callback.sent_at,
            callback.status_code,
            callback.error,
        )

    def of(self, job_id: UUID) -> tuple[datetime | None, int | None, str | None]:
        """Return what a job's record shows of its callback."""
        callback = self._callbacks.get(job_id)
        return (None, None, None) if callback is None else (callback.sent_at, callback.status_code, callback.error)

    def is_pending(self, job_id: UUID) -> bool:
        """Tell whether somebody is still to be told of a job."""
        callback = self._callbacks.get(job_id)
        return callback is not None and callback.state is CallbackState.PENDING

    def forget(self, job_id: UUID) -> None:
        """A job was deleted."""
        self._callbacks.pop(job_id, None)

    async def replay(self, job_ids: Sequence[UUID]) -> list[UUID]:
        """Begin anew with those that are delivered or dead; returns which."""
        replayed = []
        for job_id in dict.fromkeys(job_ids):
            callback = self._callbacks.get(job_id)
            if callback is not None and callback.state is not CallbackState.PENDING:
                callback.state, callback.attempts = CallbackState.PENDING, 0
                callback.token += 1
                callback.next_attempt_at = self._clock.now()
                replayed.append(job_id)
        if replayed:
            self._announce()
        return replayed
