"""How the memory store makes and changes a record: what the SQL statements say, in Python."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from callboard.actors.errors import ValueNotStorable
from callboard.actors.jobs.decide import Transition
from callboard.actors.jobs.retention import Retention, result_expired
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import ClaimedJob, ErrorCount, JobFilter, JobRecord, NewJob

from .literals import metadata_pairs


def new_record(job: NewJob, now: datetime) -> JobRecord:
    """Return the record of a new job.

    Raises:
        ValueNotStorable: a text that PostgreSQL could not store either.
    """
    for name in ("kind", "queue", "unique_key", "owner", "child_key", "concurrency_key"):
        check_text(name, getattr(job, name) or "")
    for tag in job.tags:
        check_text("tags", tag)
    check_json("arguments", job.arguments)
    metadata = check_json("metadata", job.metadata or "{}")
    deadline = job.deadline_seconds
    return JobRecord(
        id=job.id,
        kind=job.kind,
        queue=job.queue,
        status=job.status,
        priority=job.priority,
        run_at=now + timedelta(seconds=job.delay_seconds) if job.run_at is None else job.run_at,
        attempt=0,
        max_attempts=job.max_attempts,
        token=0,
        arguments=job.arguments,
        result=None,
        error=None,
        stop_reason=None,
        waiting_on=None,
        progress=None,
        owner=job.owner,
        tags=tuple(job.tags),
        metadata=metadata if isinstance(metadata, dict) else {},
        unique_key=job.unique_key,
        parent_id=job.parent_id,
        child_key=job.child_key,
        child_index=job.child_index,
        node=None,
        timeout_seconds=job.timeout_seconds,
        deadline=None if deadline is None else now + timedelta(seconds=deadline),
        lease_expires_at=None,
        created_at=now,
        started_at=None,
        finished_at=None,
        concurrency_key=job.concurrency_key,
        concurrency_limit=job.concurrency_limit,
        unique_statuses=job.unique_statuses,
        result_ttl_seconds=job.result_ttl_seconds,
        callback_url=job.callback_url,
    )


def claimed_job(job: JobRecord, at: datetime) -> ClaimedJob:
    """Return what a node gets of a running job that it claimed at some time."""
    return ClaimedJob(
        id=job.id,
        kind=job.kind,
        queue=job.queue,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        token=job.token,
        arguments=job.arguments,
        timeout_seconds=job.timeout_seconds,
        deadline=job.deadline,
        owner=job.owner,
        parent_id=job.parent_id,
        wait_seconds=(at - job.run_at).total_seconds(),
    )


def transitioned(job: JobRecord, change: Transition, now: datetime) -> JobRecord:
    """Return the record after a transition."""
    ended = change.to_status is not Status.PENDING
    if ended:
        run_at = job.run_at
    elif change.from_status is Status.CREATED:
        run_at = max(job.run_at, now)
    else:
        run_at = now + timedelta(seconds=change.delay_seconds)
    keeps_error = change.to_status in {Status.FAILED, Status.PENDING}
    return replace(
        job,
        status=change.to_status,
        attempt=job.attempt if change.counted else job.attempt - 1,
        run_at=run_at,
        waiting_on=change.waiting_on,
        lease_expires_at=None,
        finished_at=now if ended else None,
        stop_reason=change.reason.value if ended else None,
        result=change.result,
        error=(change.error or job.error) if keeps_error else None,
    )


def visible(job: JobRecord, now: datetime) -> JobRecord:
    """Return what a reader sees of a job: no result that has expired."""
    if result_expired(job.finished_at, job.result_ttl_seconds, now):
        return replace(job, result=None, result_expired=True)
    return job


def prunable(job: JobRecord, parent: JobRecord | None, retention: Retention, now: datetime) -> bool:
    """Tell whether an ended job need not be kept any longer."""
    if job.finished_at is None or (parent is not None and not parent.status.is_terminal):
        return False
    kept = retention.completed_seconds if job.status is Status.COMPLETED else retention.failed_seconds
    return kept is not None and job.finished_at < now - timedelta(seconds=kept)


def count_errors(jobs: Iterable[JobRecord]) -> list[ErrorCount]:
    """Count failed jobs by kind, queue and error, the latest first."""
    groups: dict[tuple[str, str, str], list[JobRecord]] = {}
    for job in jobs:
        if job.status is Status.FAILED:
            groups.setdefault((job.kind, job.queue, (job.error or {}).get("type", "")), []).append(job)
    counts = []
    for key, failed in sorted(groups.items()):
        latest_at, latest_id = max((job.finished_at or job.created_at, job.id) for job in failed)
        counts.append(ErrorCount(*key, len(failed), latest_at, latest_id))
    return sorted(counts, key=lambda count: count.latest_at, reverse=True)


def needs_rescue(job: JobRecord, now: datetime) -> bool:
    """Tell whether a sweep must look at a job."""
    if job.status is Status.RUNNING:
        return job.lease_expires_at is not None and job.lease_expires_at < now
    return not job.status.is_terminal and job.deadline is not None and job.deadline <= now


def matches(job: JobRecord, where: JobFilter) -> bool:
    """Tell whether a job is in a listing."""
    return (
        (not where.statuses or job.status in where.statuses)
        and (not where.kinds or job.kind in where.kinds)
        and (not where.queues or job.queue in where.queues)
        and set(where.tags) <= set(job.tags)
        and (where.owner is None or job.owner == where.owner)
        and (where.parent_id is None or job.parent_id == where.parent_id)
        and where.waiting_on in {None, job.waiting_on}
        and set(metadata_pairs(where.metadata)) <= set(metadata_pairs(job.metadata))
        and (not where.error_types or (job.error or {}).get("type") in where.error_types)
    )


def check_text(field: str, value: str) -> None:
    """Refuse what PostgreSQL's ``text`` cannot hold.

    Raises:
        ValueNotStorable: a NUL character or half of a surrogate pair.
    """
    if "\x00" in value or not _encodable(value):
        raise ValueNotStorable(
            f"PostgreSQL cannot store a value ({field} has a NUL character or a lone surrogate); nothing was written"
        )


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_json(field: str, value: str) -> object:
    """Parse a JSON text.

    Raises:
        ValueNotStorable: it is not one, or has a character that PostgreSQL cannot store.
    """
    check_text(field, value)
    try:
        return json.loads(value, parse_constant=_refuse_constant)
    except ValueError as error:
        raise ValueNotStorable(
            f"PostgreSQL cannot store a value ({field} is not JSON: {error}); nothing was written"
        ) from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not in JSON")
