"""Ordinary queries: jobs, history, counts, nodes. SQLAlchemy Core throughout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by, array, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from callboard.actors.jobs.limits import Limits, LimitScope
from callboard.actors.jobs.state import UNFINISHED, Reason, Status, WaitingOn
from callboard.actors.jobs.types import (
    ErrorCount,
    HistoryRow,
    JobFilter,
    JobRecord,
    Node,
    QueueControl,
    QueueDepth,
    RequestsWaiting,
    StatusCount,
    StoreSummary,
)
from callboard.actors.jobs.usage import QuotaUsage, usages

from .limiting import limit_from_row
from .literals import metadata_pairs
from .schema import callbacks, jobs, limits, llm_requests, nodes, permits, queues

_EXPIRED = sa.and_(
    jobs.c.result_ttl_seconds.is_not(None),
    jobs.c.finished_at + jobs.c.result_ttl_seconds * sa.text("interval '1 second'") <= sa.func.now(),
)
_TEXTS = {
    "arguments": sa.cast(jobs.c.arguments, sa.Text),
    "result": sa.case((_EXPIRED, None), else_=sa.cast(jobs.c.result, sa.Text)),
}
_OURS = {
    *("transitions", "newest_history", "older_history"),
    *("turn", "delayed", "waiting", "sought", "result_expires_at"),
}
"""Columns that are nobody else's business."""
_RECORD = sa.select(
    sa.func.coalesce(_EXPIRED, sa.false()).label("result_expired"),
    *(
        _TEXTS[column.name].label(column.name) if column.name in _TEXTS else column
        for column in jobs.columns
        if column.name not in _OURS
    ),
    callbacks.c.sent_at.label("callback_sent_at"),
    callbacks.c.status_code.label("callback_status_code"),
    callbacks.c.error.label("callback_error"),
).select_from(jobs.outerjoin(callbacks, callbacks.c.job_id == jobs.c.id))


def _record(row: sa.Row[Any]) -> JobRecord:
    values = row._asdict()
    values["status"] = Status(row.status)
    values["waiting_on"] = WaitingOn(row.waiting_on) if row.waiting_on else None
    values["tags"] = tuple(row.tags or ())
    values["unique_statuses"] = None if row.unique_statuses is None else tuple(map(Status, row.unique_statuses))
    values["metadata"] = values["metadata"] or {}
    return JobRecord(**values)


async def get_many(connection: AsyncConnection, job_ids: Sequence[UUID]) -> list[JobRecord]:
    """Read the jobs that exist among these."""
    wanted = sa.any_(sa.cast(list(job_ids), sa.ARRAY(sa.Uuid)))
    rows = await connection.execute(_RECORD.where(jobs.c.id == wanted))
    return [_record(row) for row in rows]


async def children(connection: AsyncConnection, parent_id: UUID, child_key: str) -> list[JobRecord]:
    """Read a parent's children of one key, by index."""
    statement = _RECORD.where(jobs.c.parent_id == parent_id, jobs.c.child_key == child_key)
    return [_record(row) for row in await connection.execute(statement.order_by(jobs.c.child_index))]


async def list_jobs(
    connection: AsyncConnection, schema: str, where: JobFilter, *, limit: int, before: UUID | None
) -> list[JobRecord]:
    """List jobs, newest first."""
    statement = select_jobs(schema, where, limit=limit, before=before)
    return [_record(row) for row in await connection.execute(statement)]


def select_jobs(schema: str, where: JobFilter, *, limit: int, before: UUID | None) -> sa.Select[Any]:
    """Return the statement that lists jobs."""
    statement = _RECORD.where(*_conditions(where, schema)).order_by(jobs.c.id.desc()).limit(limit)
    return statement if before is None else statement.where(jobs.c.id < before)


def _conditions(where: JobFilter, schema: str) -> Iterator[sa.ColumnElement[bool]]:
    statuses = tuple(status.value for status in where.statuses)
    for any_column, wanted in ((jobs.c.status, statuses), (jobs.c.kind, where.kinds), (jobs.c.queue, where.queues)):
        if wanted:
            yield any_column.in_(wanted)
    if where.tags:
        yield jobs.c.tags.is_not(None)
        yield jobs.c.tags.contains(list(where.tags))
    if where.owner is not None:
        yield jobs.c.owner == where.owner
    if where.parent_id is not None:
        yield jobs.c.parent_id == where.parent_id
    if where.metadata:
        yield jobs.c.metadata.is_not(None)
        pairs = _metadata_pairs(schema, jobs.c.metadata)
        yield pairs.contains(sa.cast(metadata_pairs(where.metadata), ARRAY(sa.Text)))
    if where.error_types:
        yield _ERROR_TYPE.in_(where.error_types)
    if where.waiting_on is not None:
        yield jobs.c.waiting_on == where.waiting_on.value
    if where.retried is not None:
        copy = jobs.alias("copy")
        pairs = _metadata_pairs(schema, copy.c.metadata)
        copied = sa.exists().where(copy.c.metadata.is_not(None), pairs.contains(_RETRY_PAIR))
        yield copied if where.retried else ~copied


def _metadata_pairs(schema: str, metadata: sa.Column[Any]) -> sa.TypeCoerce[Any]:
    """Return what the index of metadata has of a row; the function is in the schema of the tables."""
    function = getattr(sa.func, schema).metadata_pairs(metadata)
    return sa.type_coerce(function, ARRAY(sa.Text))


_ERROR_TYPE = jobs.c.error["type"].as_string()
_RETRY_PAIR = array([sa.func.concat('retry_of="', jobs.c.id, '"')])
"""What the metadata of a job's copy have."""


async def errors(connection: AsyncConnection, schema: str, where: JobFilter) -> list[ErrorCount]:
    """Count failed jobs by kind, queue and error, the latest first."""
    error_type = sa.func.coalesce(_ERROR_TYPE, "").label("error_type")
    latest_at = sa.func.max(jobs.c.finished_at).label("latest_at")
    statement = (
        sa.select(
            jobs.c.kind,
            jobs.c.queue,
            error_type,
            sa.func.count().label("jobs"),
            latest_at,
            sa.func.array_agg(aggregate_order_by(jobs.c.id, jobs.c.finished_at.desc(), jobs.c.id.desc()))[1],
        )
        .where(jobs.c.status == sa.literal_column("'failed'"), *_conditions(where, schema))
        .group_by(jobs.c.kind, jobs.c.queue, error_type)
        .order_by(latest_at.desc(), jobs.c.kind, jobs.c.queue, error_type)
    )
    return [ErrorCount(*row) for row in await connection.execute(statement)]


async def read_history(connection: AsyncConnection, schema: str, job_id: UUID, after: int) -> list[HistoryRow]:
    """Read a job's transitions, oldest first."""
    statement = sa.text(f'SELECT * FROM "{schema}".history_of(:job_id, :after)')
    return [
        HistoryRow(
            sequence=row.sequence,
            job_id=row.job_id,
            from_status=Status(row.from_status) if row.from_status else None,
            to_status=Status(row.to_status),
            attempt=row.attempt,
            reason=Reason(row.reason),
            actor=row.actor,
            at=row.at,
        )
        for row in await connection.execute(statement, {"job_id": job_id, "after": after})
    ]


async def summary(connection: AsyncConnection) -> StoreSummary:
    """Count, in one snapshot: the caller's transaction is REPEATABLE READ."""
    count = sa.func.count().label("jobs")
    counts = await connection.execute(
        sa.select(jobs.c.kind, jobs.c.queue, jobs.c.status, count)
        .group_by(jobs.c.kind, jobs.c.queue, jobs.c.status)
        .order_by(jobs.c.kind, jobs.c.queue, jobs.c.status)
    )
    runnable = sa.and_(jobs.c.status == sa.literal_column("'pending'"), jobs.c.waiting_on.is_(None))
    depths = await connection.execute(
        sa.select(jobs.c.queue, count, sa.func.min(jobs.c.run_at).label("oldest"))
        .where(runnable, jobs.c.run_at <= sa.func.now())
        .group_by(jobs.c.queue)
        .order_by(jobs.c.queue)
    )
    running = (
        sa.select(jobs.c.node, count)
        .where(jobs.c.status == sa.literal_column("'running'"))
        .group_by(jobs.c.node)
        .subquery()
    )
    known = await connection.execute(
        sa.select(nodes, sa.func.coalesce(running.c.jobs, 0).label("running"))
        .outerjoin(running, running.c.node == nodes.c.name)
        .order_by(nodes.c.name)
    )
    set_by_hand = await connection.execute(sa.select(queues).order_by(queues.c.name))
    quotas = await _quota_usages(connection)
    pending = sa.select(sa.func.count()).where(callbacks.c.state == sa.literal_column("'pending'"))
    waiting = await connection.execute(
        sa.select(llm_requests.c.provider, count, sa.func.min(llm_requests.c.requested_at).label("oldest"))
        .join(jobs, jobs.c.id == llm_requests.c.job_id)
        .where(llm_requests.c.batch_id.is_(None), jobs.c.status.in_([status.value for status in UNFINISHED]))
        .group_by(llm_requests.c.provider)
        .order_by(llm_requests.c.provider)
    )
    return StoreSummary(
        llm_requests=tuple(RequestsWaiting(row.provider, row.jobs, row.oldest) for row in waiting),
        callbacks_pending=(await connection.execute(pending)).scalar_one(),
        controls=tuple(
            QueueControl(row.name, row.paused, row.draining, row.changed_at, row.changed_by) for row in set_by_hand
        ),
        counts=tuple(StatusCount(row.kind, row.queue, Status(row.status), row.jobs) for row in counts),
        depths=tuple(QueueDepth(row.queue, row.jobs, row.oldest) for row in depths),
        nodes=tuple(Node(row.name, row.started_at, row.seen_at, row.running) for row in known),
        quotas=quotas,
    )


async def _quota_usages(connection: AsyncConnection) -> tuple[QuotaUsage, ...]:
    found = Limits([limit_from_row(row._asdict()) for row in await connection.execute(sa.select(limits))])
    held = await connection.execute(
        sa.select(permits.c.permit, sa.func.count().label("jobs"), sa.func.max(jobs.c.concurrency_limit).label("own"))
        .join(jobs, jobs.c.id == permits.c.job_id)
        .group_by(permits.c.permit)
    )
    running: dict[tuple[LimitScope, str], int] = {}
    own_limits: dict[str, int] = {}
    for row in held:
        scope, _, name = row.permit.partition(":")
        running[LimitScope(scope), name] = row.jobs
        if scope == LimitScope.KEY and row.own is not None:
            own_limits[name] = row.own
    queued = await _queued(connection) if found.bounds_queued else {}
    return usages(found, running, own_limits, queued)


async def _queued(connection: AsyncConnection) -> dict[tuple[LimitScope, str], int]:
    """Count what waits as a spawn does that is held against a limit."""
    count = sa.func.count().label("jobs")
    runnable = sa.and_(jobs.c.status == sa.literal_column("'pending'"), jobs.c.waiting_on.is_(None))
    by_queue = await connection.execute(sa.select(jobs.c.queue, count).where(runnable).group_by(jobs.c.queue))
    unfinished = sa.and_(jobs.c.waiting, jobs.c.owner.is_not(None))
    by_owner = await connection.execute(sa.select(jobs.c.owner, count).where(unfinished).group_by(jobs.c.owner))
    return {(LimitScope.QUEUE, row.queue): row.jobs for row in by_queue} | {
        (LimitScope.OWNER, row.owner): row.jobs for row in by_owner
    }


async def register_node(connection: AsyncConnection, node: str) -> None:
    """Record a node's heartbeat."""
    statement = insert(nodes).values(name=node)
    seen = statement.on_conflict_do_update(index_elements=[nodes.c.name], set_={"seen_at": sa.func.now()})
    await connection.execute(seen)


async def forget_node(connection: AsyncConnection, node: str) -> None:
    """Remove a node."""
    await connection.execute(sa.delete(nodes).where(nodes.c.name == node))


async def housekeep(connection: AsyncConnection, schema: str, *, weeks_ahead: int = 4) -> None:
    """Make the partitions of the coming weeks; forget nodes unseen for a day."""
    ahead = sa.text(
        f'SELECT "{schema}".make_history_partition(now() + make_interval(weeks => n)) '
        f"FROM generate_series(0, CAST(:weeks AS integer)) AS n"
    )
    await connection.execute(ahead, {"weeks": weeks_ahead})
    unseen = nodes.c.seen_at < sa.func.now() - sa.text("interval '1 day'")
    await connection.execute(sa.delete(nodes).where(unseen))
