"""The tables as SQLAlchemy metadata.

The metadata has no schema of its own: engines map it to ``settings.database_schema`` (``schema_translate_map``).
Migrations write their DDL out; a test compares the migrated database with what stands here, and with
``guards.py``.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSON, TIMESTAMP

from callboard.actors.batches.state import UNFINISHED as UNFINISHED_BATCHES
from callboard.actors.batches.state import BatchStatus, ItemStatus
from callboard.actors.callbacks.attempts import CallbackState
from callboard.actors.jobs.limits import LimitScope
from callboard.actors.jobs.state import TERMINAL, WaitingOn
from callboard.actors.schedules.firing import Misfire
from callboard.actors.schedules.types import ScheduleSource

from .guards import (
    UNFINISHED_SQL,
    batch_status_check,
    edge_check,
    item_status_check,
    quote_list,
    reason_check,
    status_check,
)

OLDEST_SERVER: Final = 14
"""The oldest supported major version of PostgreSQL."""


metadata = sa.MetaData()

_time = TIMESTAMP(timezone=True)

# The order of the columns is the order on disk. What changes stands together, between the narrow fixed columns and the
# long constant ones: an UPDATE within a page logs only the stretch from the first byte that changes to the last. What
# only a claim changes comes first, so that an end leaves it out.
#
# No index has a column that the end of a running job changes, in its key or its condition (but for jobs with a parent
# or a unique key): an end is then a HOT update, which writes to no index. That is what the two generated columns are
# for; neither changes at such an end.
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.Uuid, nullable=False),
    sa.Column("created_at", _time, nullable=False, server_default=sa.func.now()),
    sa.Column("deadline", _time),
    sa.Column("parent_id", sa.Uuid),
    sa.Column("timeout_seconds", sa.Double),
    sa.Column("result_ttl_seconds", sa.Double),
    sa.Column("run_at", _time, nullable=False, server_default=sa.func.now()),
    sa.Column("child_index", sa.Integer),
    sa.Column("concurrency_limit", sa.Integer),
    sa.Column("max_attempts", sa.SmallInteger, nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("token", sa.Integer, nullable=False, server_default="0"),
    sa.Column("turn", _time),
    sa.Column("started_at", _time),
    sa.Column("attempt", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("delayed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("waiting", sa.Boolean, sa.Computed("status IN ('created', 'pending')", persisted=True)),
    sa.Column("transitions", sa.Integer, nullable=False, server_default="1"),
    sa.Column("lease_expires_at", _time),
    sa.Column("finished_at", _time),
    sa.Column("result_expires_at", _time),
    sa.Column("newest_history", sa.BigInteger),
    sa.Column("older_history", sa.BigInteger),
    # Others look for it, by its parent or its unique key, until it has ended.
    sa.Column(
        "sought",
        sa.Boolean,
        sa.Computed(
            f"status IN ({UNFINISHED_SQL}) AND (parent_id IS NOT NULL OR unique_key IS NOT NULL)", persisted=True
        ),
    ),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("stop_reason", sa.Text),
    sa.Column("waiting_on", sa.Text),
    sa.Column("result", JSON(none_as_null=True)),
    sa.Column("error", JSON(none_as_null=True)),
    sa.Column("node", sa.Text),
    sa.Column("progress", JSON(none_as_null=True)),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("queue", sa.Text, nullable=False),
    sa.Column("owner", sa.Text),
    sa.Column("concurrency_key", sa.Text),
    sa.Column("unique_key", sa.Text),
    sa.Column("unique_statuses", ARRAY(sa.Text)),
    sa.Column("child_key", sa.Text),
    sa.Column("tags", ARRAY(sa.Text)),
    sa.Column("metadata", JSON(none_as_null=True)),
    sa.Column("callback_url", sa.Text),
    sa.Column("arguments", JSON(none_as_null=True), nullable=False),
    sa.PrimaryKeyConstraint("id", name="jobs_pkey"),
    sa.CheckConstraint(status_check(), name="jobs_status"),
    sa.CheckConstraint(f"waiting_on IN ({quote_list(WaitingOn)})", name="jobs_waiting_on"),
    sa.CheckConstraint("(parent_id IS NULL) = (child_key IS NULL)", name="jobs_child"),
    sa.CheckConstraint("(child_key IS NULL) = (child_index IS NULL)", name="jobs_child_index"),
    sa.CheckConstraint("(concurrency_key IS NULL) = (concurrency_limit IS NULL)", name="jobs_concurrency"),
    sa.CheckConstraint(
        "CASE WHEN status = 'pending' AND waiting_on IS NULL THEN (turn IS NULL) = delayed"
        " ELSE turn IS NULL AND NOT delayed END",
        name="jobs_turn",
    ),
)

# A queued job has either a turn, its place in the order of claims, or is delayed until its time has come.
runnable_index = sa.Index(
    "jobs_runnable",
    jobs.c.queue,
    jobs.c.turn,
    jobs.c.id,
    postgresql_where=sa.text("turn IS NOT NULL AND concurrency_key IS NULL"),
)
keyed_index = sa.Index(
    "jobs_keyed",
    jobs.c.queue,
    jobs.c.concurrency_key,
    jobs.c.turn,
    jobs.c.id,
    postgresql_where=sa.text("turn IS NOT NULL AND concurrency_key IS NOT NULL"),
)
delayed_index = sa.Index("jobs_delayed", jobs.c.queue, jobs.c.run_at, jobs.c.id, postgresql_where=sa.text("delayed"))
deadline_index = sa.Index(
    "jobs_deadline", jobs.c.deadline, postgresql_where=sa.text("waiting AND deadline IS NOT NULL")
)
queued_owner_index = sa.Index(
    "jobs_queued_owner", jobs.c.owner, postgresql_where=sa.text("waiting AND owner IS NOT NULL")
)
unique_index = sa.Index(
    "jobs_unique_key",
    jobs.c.kind,
    jobs.c.unique_key,
    unique=True,
    postgresql_where=sa.text("sought AND unique_key IS NOT NULL AND unique_statuses IS NULL"),
)
unique_span_index = sa.Index(
    "jobs_unique_span",
    jobs.c.kind,
    jobs.c.unique_key,
    jobs.c.created_at,
    postgresql_where=sa.text("unique_key IS NOT NULL AND unique_statuses IS NOT NULL"),
)
child_index = sa.Index(
    "jobs_child_key",
    jobs.c.parent_id,
    jobs.c.child_key,
    jobs.c.child_index,
    unique=True,
    postgresql_where=sa.text("parent_id IS NOT NULL"),
)
unfinished_child_index = sa.Index(
    "jobs_unfinished_child", jobs.c.parent_id, postgresql_where=sa.text("sought AND parent_id IS NOT NULL")
)
result_ttl_index = sa.Index(
    "jobs_result_ttl", jobs.c.result_expires_at, postgresql_where=sa.text("result_expires_at IS NOT NULL")
)
tags_index = sa.Index("jobs_tags", jobs.c.tags, postgresql_using="gin", postgresql_where=sa.text("tags IS NOT NULL"))
metadata_index = sa.Index(
    "jobs_metadata",
    sa.func.metadata_pairs(jobs.c.metadata),
    postgresql_using="gin",
    postgresql_where=sa.text("metadata IS NOT NULL"),
)

# How the jobs of dead nodes are found, at no cost for each job: one row a claim, whose jobs the history has. The truth
# about a job's lease stands in the job; its claim's is never later. The view ``claimed`` shows each job of each claim.
claims = sa.Table(
    "claims",
    metadata,
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("claimed_at", _time, nullable=False),
    sa.Column("lease_expires_at", _time, nullable=False),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("job_ids", ARRAY(sa.Uuid)),
    sa.PrimaryKeyConstraint("lease_expires_at", "number", name="claims_pkey"),
)

# One row for all jobs that one statement moves along the same edge for the same reason. The view ``history`` shows one
# row for each transition, and ``history_of(job)`` those of one job.
history_batches = sa.Table(
    "history_batches",
    metadata,
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("at", _time, nullable=False, server_default=sa.func.now()),
    sa.Column("from_status", sa.Text),
    sa.Column("to_status", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("job_ids", ARRAY(sa.Uuid), nullable=False),
    sa.Column("sequences", ARRAY(sa.Integer), nullable=False),
    sa.Column("attempts", ARRAY(sa.SmallInteger), nullable=False),
    sa.Column("older", ARRAY(sa.BigInteger), nullable=False),
    sa.Column("lease_expires_at", _time),
    sa.CheckConstraint(edge_check(), name="history_edge"),
    sa.CheckConstraint(reason_check(), name="history_reason"),
    sa.CheckConstraint("(to_status = 'running') = (lease_expires_at IS NOT NULL)", name="history_lease"),
    postgresql_partition_by="RANGE (at)",
)
history_index = sa.Index("history_number", history_batches.c.number)
history_numbers = sa.Sequence("history_numbers", metadata=metadata)

nodes = sa.Table(
    "nodes",
    metadata,
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("started_at", _time, nullable=False, server_default=sa.func.now()),
    sa.Column("seen_at", _time, nullable=False, server_default=sa.func.now()),
    sa.PrimaryKeyConstraint("name", name="nodes_pkey"),
)

queues = sa.Table(
    "queues",
    metadata,
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("draining", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("keyed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("changed_at", _time, nullable=False, server_default=sa.func.now()),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("name", name="queues_pkey"),
)

limits = sa.Table(
    "limits",
    metadata,
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("max_running", sa.Integer),
    sa.Column("max_queued", sa.Integer),
    sa.Column("rate", sa.Integer),
    sa.Column("rate_period_seconds", sa.Double, nullable=False, server_default="1"),
    sa.Column("changed_at", _time, nullable=False, server_default=sa.func.now()),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("scope", "name", name="limits_pkey"),
    sa.CheckConstraint(f"scope IN ({quote_list(LimitScope)})", name="limits_scope"),
)

permits = sa.Table(
    "permits",
    metadata,
    sa.Column("permit", sa.Text, nullable=False),
    sa.Column("job_id", sa.Uuid, nullable=False),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("adopted", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.PrimaryKeyConstraint("permit", "job_id", name="permits_pkey"),
)
permits_job_index = sa.Index("permits_job", permits.c.job_id)
adopted_permits_index = sa.Index("permits_adopted", permits.c.job_id, postgresql_where=sa.text("adopted"))

buckets = sa.Table(
    "buckets",
    metadata,
    sa.Column("permit", sa.Text, nullable=False),
    sa.Column("tokens", sa.Double, nullable=False),
    sa.Column("filled_at", _time, nullable=False),
    sa.PrimaryKeyConstraint("permit", name="buckets_pkey"),
)

# One row: who leads, and in which term. Written by the functions of migration 0003 only.
leadership = sa.Table(
    "leadership",
    metadata,
    sa.Column("election", sa.Text, nullable=False),
    sa.Column("term", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("holder", sa.Text),
    sa.Column("backend_pid", sa.Integer),
    sa.Column("acquired_at", _time),
    sa.Column("heartbeat_at", _time),
    sa.Column("silence_limit_seconds", sa.Double),
    sa.Column("step_down_term", sa.BigInteger),
    sa.PrimaryKeyConstraint("election", name="leadership_pkey"),
)

schedules = sa.Table(
    "schedules",
    metadata,
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("queue", sa.Text, nullable=False),
    sa.Column("arguments", JSON, nullable=False),
    sa.Column("options", JSON, nullable=False),
    sa.Column("cron", sa.Text),
    sa.Column("zone", sa.Text, nullable=False),
    sa.Column("interval_seconds", sa.Double),
    sa.Column("jitter_seconds", sa.Double, nullable=False),
    sa.Column("misfire", sa.Text, nullable=False),
    sa.Column("misfire_grace_seconds", sa.Double, nullable=False),
    sa.Column("max_catch_up", sa.Integer, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("next_tick", _time),
    sa.Column("next_fire_at", _time),
    sa.Column("last_tick", _time),
    sa.Column("last_job_id", sa.Uuid),
    sa.Column("changed_at", _time, nullable=False, server_default=sa.func.now()),
    sa.Column("changed_by", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("name", name="schedules_pkey"),
    sa.CheckConstraint("(cron IS NULL) <> (interval_seconds IS NULL)", name="schedules_recurrence"),
    sa.CheckConstraint(f"misfire IN ({quote_list(Misfire)})", name="schedules_misfire"),
    sa.CheckConstraint(f"source IN ({quote_list(ScheduleSource)})", name="schedules_source"),
)
due_schedules_index = sa.Index("schedules_due", schedules.c.next_fire_at, postgresql_where=sa.text("NOT paused"))
batches = sa.Table(
    "batches",
    metadata,
    sa.Column("id", sa.Uuid, nullable=False),
    sa.Column("created_at", _time, nullable=False, server_default=sa.func.now()),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("endpoint", sa.Text),
    sa.Column("total_items", sa.Integer, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("provider_batch_id", sa.Text),
    sa.Column("collected_items", sa.Integer, nullable=False, server_default="0"),
    sa.Column("stray_items", sa.Integer, nullable=False, server_default="0"),
    sa.Column("submissions", sa.Integer, nullable=False, server_default="1"),
    sa.Column("submitted_at", _time),
    sa.Column("next_poll_at", _time, nullable=False),
    sa.Column("polled_at", _time),
    sa.Column("expires_at", _time),
    sa.Column("provider_ended_at", _time),
    sa.Column("cancel_requested_at", _time),
    sa.Column("cancel_requested_by", sa.Text),
    sa.Column("cancel_sent_at", _time),
    sa.Column("finished_at", _time),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("short_reads", sa.Integer, nullable=False, server_default="0"),
    sa.Column("provider_status", sa.Text),
    sa.Column("provider_counts", JSON(none_as_null=True)),
    sa.Column("last_error", sa.Text),
    sa.PrimaryKeyConstraint("id", name="batches_pkey"),
    sa.CheckConstraint(batch_status_check(), name="batches_status"),
    sa.CheckConstraint("collected_items <= total_items", name="batches_collected"),
)
UNFINISHED_BATCHES_SQL: Final = quote_list(status for status in BatchStatus if status in UNFINISHED_BATCHES)
provider_batch_index = sa.Index("batches_provider_batch", batches.c.provider, batches.c.provider_batch_id, unique=True)
due_batches_index = sa.Index(
    "batches_due",
    batches.c.polled_at.asc().nulls_first(),
    batches.c.id,
    postgresql_where=sa.text(f"status IN ({UNFINISHED_BATCHES_SQL})"),
)

batch_items = sa.Table(
    "batch_items",
    metadata,
    sa.Column("batch_id", sa.Uuid, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("custom_id", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False, server_default=ItemStatus.PENDING.value),
    sa.Column("updated_at", _time),
    sa.Column("request", JSON(none_as_null=True), nullable=False),
    sa.Column("result", JSON(none_as_null=True)),
    sa.Column("error", JSON(none_as_null=True)),
    sa.PrimaryKeyConstraint("batch_id", "position", name="batch_items_pkey"),
    sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="batch_items_batch", ondelete="CASCADE"),
    sa.CheckConstraint(item_status_check(), name="batch_items_status"),
)
custom_id_index = sa.Index("batch_items_custom_id", batch_items.c.batch_id, batch_items.c.custom_id, unique=True)

batch_strays = sa.Table(
    "batch_strays",
    metadata,
    sa.Column("batch_id", sa.Uuid, nullable=False),
    sa.Column("wire_id", sa.Text, nullable=False),
    sa.Column("received_at", _time, nullable=False, server_default=sa.func.now()),
    sa.Column("content", JSON(none_as_null=True), nullable=False),
    sa.PrimaryKeyConstraint("batch_id", "wire_id", name="batch_strays_pkey"),
    sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="batch_strays_batch", ondelete="CASCADE"),
)

job_steps = sa.Table(
    "job_steps",
    metadata,
    sa.Column("job_id", sa.Uuid, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("recorded_at", _time, nullable=False, server_default=sa.func.now()),
    sa.Column("value", JSON, nullable=False),
    sa.PrimaryKeyConstraint("job_id", "key", name="job_steps_pkey"),
    sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="job_steps_job", ondelete="CASCADE"),
)

llm_requests = sa.Table(
    "llm_requests",
    metadata,
    sa.Column("job_id", sa.Uuid, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("requested_at", _time, nullable=False, server_default=sa.func.now()),
    sa.Column("batch_id", sa.Uuid),
    sa.Column("position", sa.Integer),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("params", JSON, nullable=False),
    sa.Column("resubmissions", sa.SmallInteger, nullable=False, server_default="0"),
    sa.PrimaryKeyConstraint("job_id", "key", name="llm_requests_pkey"),
    sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="llm_requests_job", ondelete="CASCADE"),
    sa.CheckConstraint("(batch_id IS NULL) = (position IS NULL)", name="llm_requests_item"),
)
waiting_requests_index = sa.Index(
    "llm_requests_waiting",
    llm_requests.c.provider,
    llm_requests.c.requested_at,
    postgresql_where=sa.text("batch_id IS NULL"),
)
batch_requests_index = sa.Index(
    "llm_requests_batch",
    llm_requests.c.batch_id,
    llm_requests.c.position,
    postgresql_where=sa.text("batch_id IS NOT NULL"),
)

callbacks = sa.Table(
    "callbacks",
    metadata,
    sa.Column("job_id", sa.Uuid, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="pending"),
    sa.Column("attempts", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("token", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("next_attempt_at", _time, nullable=False, server_default=sa.func.now()),
    sa.Column("sent_at", _time),
    sa.Column("status_code", sa.SmallInteger),
    sa.Column("error", sa.Text),
    sa.PrimaryKeyConstraint("job_id", name="callbacks_pkey"),
    sa.CheckConstraint(f"state IN ({quote_list(CallbackState)})", name="callbacks_state"),
)
due_callbacks_index = sa.Index(
    "callbacks_due", callbacks.c.next_attempt_at, postgresql_where=sa.text("state = 'pending'")
)
dead_callbacks_index = sa.Index("callbacks_dead", callbacks.c.job_id, postgresql_where=sa.text("state = 'dead'"))


def owed_callback() -> str:
    """Return the trigger condition that a job with a callback ends."""
    return (
        "new.callback_url IS NOT NULL AND old.status <> new.status\n"
        f"        AND new.status IN ({quote_list(sorted(TERMINAL))})"
    )
