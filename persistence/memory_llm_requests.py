"""Requests of jobs to a model, in this process's memory: the same contract, not durable."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from callboard.actors.batches.provider import BatchLimits
from callboard.actors.batches.requests import fitting
from callboard.actors.batches.state import ItemStatus
from callboard.actors.batches.types import BatchResult, NewBatch, NewItem, WaitingRequest, lost_reply
from callboard.actors.clock import Clock
from callboard.actors.jobs.types import AttemptKey, JobRecord, RequestsWaiting

from .families import require_running_attempt
from .memory_batches import MemoryBatches


@dataclass(slots=True)
class _Request:
    job_id: UUID
    key: str
    provider: str
    params: str
    requested_at: datetime
    batch_id: UUID | None = None
    position: int = 0
    resubmissions: int = 0


class MemoryLlmRequests:
    """Implements ``LlmRequestStore``.

    Args:
        clock: the "database's" clock.
        job: finds a job.
        batches: records the batches that requests are gathered into.
        require_term: refuses the writes of a leader whose term is over.
    """

    def __init__(
        self,
        clock: Clock,
        job: Callable[[UUID], JobRecord | None],
        batches: MemoryBatches,
        require_term: Callable[[int], None],
    ) -> None:
        self._clock = clock
        self._job = job
        self._batches = batches
        self._require_term = require_term
        self._requests: dict[UUID, dict[str, _Request]] = {}

    async def ask(self, attempt: AttemptKey, key: str, provider: str, params: str) -> BatchResult | None:
        """Record a request, the first under its key only; return its outcome, if there is one."""
        found = self._job(attempt.job_id)
        status, token = (None, None) if found is None else (found.status, found.token)
        require_running_attempt(attempt, status, token, may="ask nothing")
        known = self._requests.setdefault(attempt.job_id, {})
        return self._reply(known.setdefault(key, _Request(attempt.job_id, key, provider, params, self._clock.now())))

    def _reply(self, request: _Request) -> BatchResult | None:
        if request.batch_id is None:
            return None
        reply = self._batches.result(request.batch_id, request.position)
        if reply is None:
            return lost_reply(request.key, request.batch_id)
        if reply.status is ItemStatus.PENDING:
            return None
        return BatchResult(request.key, reply.status, reply.result, reply.error)

    async def waiting(self, *, limit: int) -> list[WaitingRequest]:
        """Read what is in no batch yet, the oldest first."""
        found = sorted(self._waiting(), key=lambda one: (one.requested_at, one.job_id, one.key))
        return [
            WaitingRequest(one.job_id, one.key, one.provider, one.requested_at, one.resubmissions)
            for one in found[:limit]
        ]

    def counted(self) -> tuple[RequestsWaiting, ...]:
        """Count what is in no batch yet, by provider."""
        found: dict[str, list[datetime]] = {}
        for one in self._waiting():
            found.setdefault(one.provider, []).append(one.requested_at)
        return tuple(RequestsWaiting(name, len(times), min(times)) for name, times in sorted(found.items()))

    async def providers(self) -> list[str]:
        """Return whom requests wait for."""
        return sorted({request.provider for request in self._waiting()})

    def _waiting(self) -> list[_Request]:
        return [
            request
            for job_id, requests in self._requests.items()
            if (job := self._job(job_id)) is not None and not job.status.is_terminal
            for request in requests.values()
            if request.batch_id is None
        ]

    async def gather(
        self,
        batch_id: UUID,
        provider: str,
        endpoint: str | None,
        limits: BatchLimits,
        *,
        grace_seconds: float,
        actor: str,
        term: int | None = None,
    ) -> int:
        """Record a batch of the requests that have waited longest; return how many."""
        if term is not None:
            self._require_term(term)
        waiting = [request for request in self._waiting() if request.provider == provider][: limits.max_requests]
        if not waiting:
            return 0
        items = fitting(
            [NewItem(place, f"{one.job_id}/{one.key}", one.params) for place, one in enumerate(waiting)], limits
        )
        batch = NewBatch(batch_id, provider, endpoint, tuple(items))
        await self._batches.record(batch, grace_seconds=grace_seconds, actor=actor)
        for item, request in zip(items, waiting, strict=False):
            request.batch_id, request.position = batch_id, item.position
        return len(items)

    def put_back(self, batch_id: UUID, positions: Collection[int], most: int) -> int:
        """Let requests that have no answer in a batch be gathered again, each so often at most; return how many."""
        places = set(positions)
        found = [
            request
            for job_id in self.askers(batch_id)
            if (job := self._job(job_id)) is not None and not job.status.is_terminal
            for request in self._requests[job_id].values()
            if request.batch_id == batch_id and request.position in places and request.resubmissions < most
        ]
        for request in found:
            request.batch_id, request.position = None, 0
            request.resubmissions += 1
        return len(found)

    def askers(self, batch_id: UUID) -> list[UUID]:
        """Return the jobs whose requests are in a batch."""
        return [
            job_id
            for job_id, requests in self._requests.items()
            if any(request.batch_id == batch_id for request in requests.values())
        ]

    def is_answered(self, job_id: UUID) -> bool:
        """Tell whether all that a job has asked has its outcome."""
        return all(self._reply(request) is not None for request in self._requests.get(job_id, {}).values())

    def forget(self, job_id: UUID) -> None:
        """A job was deleted."""
        self._requests.pop(job_id, None)
