"""Short ways to jobs in a given state."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import Event, Policy, Transition, decide
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.state import EDGES, Status
from callboard.actors.jobs.types import Applied, ClaimedJob, JobRecord, NewJob, QueueDemand

ERROR = {"type": "ValueError", "message": "no", "traceback": None}
LONG_AGO = -1.0
"""A lease that expired, or a deadline that passed, before it was given: no test has to wait."""


def new_job(**fields: Any) -> NewJob:
    return NewJob(**({"id": uuid7(), "kind": "kind", "queue": "default", "arguments": "{}"} | fields))


async def spawned(store: JobStore, count: int = 1, **fields: Any) -> list[UUID]:
    jobs = [new_job(**fields) for _ in range(count)]
    return [answer.id for answer in await store.spawn(jobs, actor="client:test")]


async def claimed(store: JobStore, limit: int = 100, *, queue: str = "default", lease: float = 60) -> list[ClaimedJob]:
    return await store.claim([QueueDemand(queue, limit)], node="here", lease_seconds=lease)


async def running(store: JobStore, *, lease: float = 60, **fields: Any) -> ClaimedJob:
    """Spawn one job and claim it."""
    [job_id] = await spawned(store, **fields)
    [job] = [job for job in await claimed(store, lease=lease) if job.id == job_id]
    return job


def outcome(job: ClaimedJob | JobRecord, event: Event, **changes: Any) -> Transition:
    transition = decide(job, event, Policy(), datetime.now(UTC))
    return transition._replace(**{"has_parent": job.parent_id is not None, **changes})


async def applied(store: JobStore, *transitions: Transition) -> None:
    answers = await store.apply(transitions, actor="node:here")
    assert all(isinstance(answer, Applied) for answer in answers), answers


async def record(store: JobStore, job_id: UUID) -> JobRecord:
    found = await store.get(job_id)
    assert found is not None
    return found


async def statuses(store: JobStore, job_id: UUID) -> list[Status]:
    """The statuses that a job's history leads through, after checking that it is a path of the state machine."""
    rows = await store.history(job_id)
    assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
    assert rows[0].from_status is None
    assert all(earlier.to_status is later.from_status for earlier, later in pairwise(rows))
    assert all(earlier.at <= later.at for earlier, later in pairwise(rows))
    assert all(row.reason in EDGES[row.from_status, row.to_status] for row in rows)
    assert rows[-1].to_status is (await record(store, job_id)).status
    return [row.to_status for row in rows]
