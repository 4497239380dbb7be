"""What ``callboard job retry`` does with one job. Terminal is final: an ended job is not run again, a copy of it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from callboard import JobFilter, JobRecord, Status
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.state import WaitingOn
from callboard.actors.jobs.types import NewJob

UNENDED: Final = tuple(status for status in Status if not status.is_terminal)
"""A retry is asked for, so the job that has ended, and whatever its key spans, does not keep its copy out."""


_PAGE: Final = 500


class RetryOutcome(StrEnum):
    """What a retry did."""

    COPIED = "copied"
    """The job had ended; a copy of it is queued."""
    COPY_EXISTS = "copy_exists"
    """The job had ended; an unfinished job has its unique key, so no copy was made."""
    RUNS_NOW = "runs_now"
    """The job waited for its time; it is runnable at once."""
    ALREADY_RUNNABLE = "already_runnable"
    """The job waits for nothing but a free slot."""
    WAITS_FOR_CHILDREN = "waits_for_children"
    WAITS_FOR_REPLY = "waits_for_reply"
    RUNNING = "running"
    HELD = "held"
    NOT_FOUND = "not_found"

    @property
    def done(self) -> bool:
        """Whether the job, or its copy, now runs as soon as a slot is free."""
        return self in {RetryOutcome.COPIED, RetryOutcome.RUNS_NOW, RetryOutcome.ALREADY_RUNNABLE}


class Retried(NamedTuple):
    """What a retry did with one job."""

    job_id: UUID
    outcome: RetryOutcome
    new_id: UUID | None = None
    """The copy; for ``copy_exists`` the unfinished job that has the key."""


async def retry(store: JobStore, job_ids: Sequence[UUID], *, new_id: Callable[[], UUID], actor: str) -> list[Retried]:
    """Run jobs again, or sooner. Positional.

    Args:
        store: where they are.
        job_ids: which; an id that is there twice is retried once.
        new_id: makes ids of copies.
        actor: who does it, for the history.

    Raises:
        StoreUnavailable: the database cannot be reached.
    """
    wanted = list(dict.fromkeys(job_ids))
    records = {record.id: record for record in await store.get_many(wanted)}
    ended = [records[job_id] for job_id in wanted if job_id in records and records[job_id].status.is_terminal]
    waiting = [record.id for record in records.values() if record.status is Status.PENDING]
    woken = set(await store.run_now(waiting)) if waiting else set()
    copies = [copy_of(record, new_id()) for record in ended]
    spawned = await store.spawn(copies, actor=actor) if copies else []
    copied = {
        record.id: Retried(record.id, RetryOutcome.COPIED if copy.created else RetryOutcome.COPY_EXISTS, new_id=copy.id)
        for record, copy in zip(ended, spawned, strict=True)
    }
    return [copied.get(job_id) or Retried(job_id, _unended(records.get(job_id), woken)) for job_id in wanted]


async def replay(
    store: JobStore, where: JobFilter, *, limit: int, new_id: Callable[[], UUID], actor: str
) -> list[Retried]:
    """Retry failed jobs of which there is no copy yet, the newest first.

    Args:
        store: where they are.
        where: which of them.
        limit: how many at most.
        new_id: makes ids of copies.
        actor: who does it, for the history.

    Raises:
        StoreUnavailable: the database cannot be reached. What was replayed before is.
    """
    dead = replace(where, statuses=(Status.FAILED,), retried=False)
    replayed: list[Retried] = []
    before: UUID | None = None
    while len(replayed) < limit:
        page = await store.list_jobs(dead, limit=min(_PAGE, limit - len(replayed)), before=before)
        if not page:
            break
        before = page[-1].id
        replayed += await retry(store, [record.id for record in page], new_id=new_id, actor=actor)
    return replayed


def copy_of(record: JobRecord, new_id: UUID) -> NewJob:
    """Return a job like ``record``, runnable at once; its metadata say whose copy it is. It has no parent."""
    deadline = record.deadline
    return NewJob(
        id=new_id,
        kind=record.kind,
        queue=record.queue,
        arguments=record.arguments,
        priority=record.priority,
        max_attempts=record.max_attempts,
        timeout_seconds=record.timeout_seconds,
        deadline_seconds=None if deadline is None else (deadline - record.created_at).total_seconds(),
        unique_key=record.unique_key,
        owner=record.owner,
        tags=record.tags,
        metadata=json.dumps({**record.metadata, "retry_of": str(record.id)}, ensure_ascii=False, separators=(",", ":")),
        concurrency_key=record.concurrency_key,
        concurrency_limit=record.concurrency_limit,
        unique_statuses=record.unique_statuses and UNENDED,
        result_ttl_seconds=record.result_ttl_seconds,
        callback_url=record.callback_url,
    )


def _unended(record: JobRecord | None, woken: set[UUID]) -> RetryOutcome:
    if record is None:
        return RetryOutcome.NOT_FOUND
    if record.id in woken:
        return RetryOutcome.RUNS_NOW
    if record.status is Status.CREATED:
        return RetryOutcome.HELD
    if record.status is Status.RUNNING:
        return RetryOutcome.RUNNING
    if record.waiting_on is WaitingOn.LLM_BATCH:
        return RetryOutcome.WAITS_FOR_REPLY
    return RetryOutcome.ALREADY_RUNNABLE if record.waiting_on is None else RetryOutcome.WAITS_FOR_CHILDREN
