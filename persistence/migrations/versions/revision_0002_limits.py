"""Limits, queues that pause and drain, unique jobs beyond the unfinished, results that expire, indexed metadata.

Revision ID: 0002
"""

from __future__ import annotations

from alembic import context, op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Without per cent signs and colons: the offline output would double the former and take the latter for parameters.
_JOBS = """
ALTER TABLE {schema}.jobs
    ADD COLUMN concurrency_key text,
    ADD COLUMN concurrency_limit integer,
    ADD COLUMN unique_statuses text[],
    ADD COLUMN result_ttl_seconds double precision,
    ADD CONSTRAINT jobs_concurrency CHECK ((concurrency_key IS NULL) = (concurrency_limit IS NULL));

-- Jobs with a concurrency key have an index of their own, so that the claim of the others never sees them.
DROP INDEX {schema}.jobs_runnable;
CREATE INDEX jobs_runnable ON {schema}.jobs (queue, priority, run_at, id)
    WHERE status = 'pending' AND waiting_on IS NULL AND concurrency_key IS NULL;
CREATE INDEX jobs_keyed ON {schema}.jobs (queue, concurrency_key, priority, run_at, id)
    WHERE status = 'pending' AND waiting_on IS NULL AND concurrency_key IS NOT NULL;

DROP INDEX {schema}.jobs_unique_key;
CREATE UNIQUE INDEX jobs_unique_key ON {schema}.jobs (kind, unique_key)
    WHERE unique_key IS NOT NULL AND unique_statuses IS NULL AND status IN ('created', 'pending', 'running');
CREATE INDEX jobs_unique_span ON {schema}.jobs (kind, unique_key, created_at)
    WHERE unique_key IS NOT NULL AND unique_statuses IS NOT NULL;

CREATE INDEX jobs_queued_owner ON {schema}.jobs (owner)
    WHERE owner IS NOT NULL AND status IN ('created', 'pending');
CREATE INDEX jobs_result_ttl ON {schema}.jobs (finished_at)
    WHERE result_ttl_seconds IS NOT NULL AND result IS NOT NULL;
CREATE INDEX jobs_tags ON {schema}.jobs USING gin (tags) WHERE tags IS NOT NULL;
"""

_METADATA = """
-- The top level of a job's metadata as 'name=JSON value', for the index. Metadata that text cannot hold (an escaped NUL
-- character in a name) are left out of it: a search does not find them, and a spawn is not refused.
CREATE FUNCTION {schema}.metadata_pairs(metadata json) RETURNS text[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (SELECT array_agg(left(pair.key || '=' || CAST(pair.value AS text), 1000)) FROM json_each(metadata) AS pair);
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;

CREATE INDEX jobs_metadata ON {schema}.jobs USING gin ({schema}.metadata_pairs(metadata)) WHERE metadata IS NOT NULL;
"""

_CONTROLS = """
CREATE TABLE {schema}.queues (
    name text NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    draining boolean NOT NULL DEFAULT false,
    keyed boolean NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text NOT NULL,
    CONSTRAINT queues_pkey PRIMARY KEY (name)
);

CREATE TABLE {schema}.limits (
    scope text NOT NULL,
    name text NOT NULL,
    max_running integer,
    max_queued integer,
    rate integer,
    rate_period_seconds double precision NOT NULL DEFAULT 1,
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text NOT NULL,
    CONSTRAINT limits_pkey PRIMARY KEY (scope, name),
    CONSTRAINT limits_scope CHECK (scope IN ('queue', 'kind', 'owner', 'key'))
);

-- One row for each limit that a running job is counted under. Adopted ones are those of jobs that ran already when the
-- limit was set.
CREATE TABLE {schema}.permits (
    permit text NOT NULL,
    job_id uuid NOT NULL,
    token bigint NOT NULL,
    adopted boolean NOT NULL DEFAULT false,
    CONSTRAINT permits_pkey PRIMARY KEY (permit, job_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX permits_job ON {schema}.permits (job_id);
CREATE INDEX permits_adopted ON {schema}.permits (job_id) WHERE adopted;

CREATE TABLE {schema}.buckets (
    permit text NOT NULL,
    tokens double precision NOT NULL,
    filled_at timestamptz NOT NULL,
    CONSTRAINT buckets_pkey PRIMARY KEY (permit)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
"""


def upgrade() -> None:
    """Add them."""
    name: str = context.config.attributes["schema"]
    for script in (_JOBS, _METADATA, _CONTROLS):
        op.execute(script.replace("{schema}", f'"{name}"'))


def downgrade() -> None:
    """Refuse: going back would forget limits that somebody relies on."""
    raise NotImplementedError("limits are not undone: restore a backup of before")
