"""Jobs, their history, and nodes.

Revision ID: 0001
"""

from __future__ import annotations

from alembic import context, op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Without per cent signs and colons: the offline output would double the former and take the latter for parameters.
_JOBS = """
CREATE TABLE {schema}.jobs (
    id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deadline timestamptz,
    parent_id uuid,
    timeout_seconds double precision,
    child_index integer,
    max_attempts smallint NOT NULL,
    priority smallint NOT NULL DEFAULT 0,
    -- What an attempt changes stands together, so that an update within a page logs only this stretch.
    run_at timestamptz NOT NULL DEFAULT now(),
    token bigint NOT NULL DEFAULT 0,
    lease_expires_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    newest_history bigint,
    older_history bigint,
    transitions integer NOT NULL DEFAULT 1,
    attempt smallint NOT NULL DEFAULT 0,
    status text NOT NULL,
    stop_reason text,
    waiting_on text,
    node text,
    result json,
    error json,
    progress json,
    kind text NOT NULL,
    queue text NOT NULL,
    owner text,
    unique_key text,
    child_key text,
    tags text[],
    metadata json,
    arguments json NOT NULL,
    CONSTRAINT jobs_pkey PRIMARY KEY (id),
    CONSTRAINT jobs_status CHECK (
        status IN ('created', 'pending', 'running', 'completed', 'failed', 'cancelled')
    ),
    CONSTRAINT jobs_waiting_on CHECK (waiting_on IN ('children')),
    CONSTRAINT jobs_child CHECK ((parent_id IS NULL) = (child_key IS NULL)),
    CONSTRAINT jobs_child_index CHECK ((child_key IS NULL) = (child_index IS NULL))
) WITH (
    fillfactor = 40,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0,
    -- Giving the empty end of the file back takes an exclusive lock; the next jobs fill it.
    vacuum_truncate = off
);

CREATE INDEX jobs_runnable ON {schema}.jobs (queue, priority, run_at, id)
    WHERE status = 'pending' AND waiting_on IS NULL;
CREATE INDEX jobs_lease ON {schema}.jobs (lease_expires_at) WHERE status = 'running';
CREATE INDEX jobs_deadline ON {schema}.jobs (deadline)
    WHERE deadline IS NOT NULL AND status IN ('created', 'pending');
CREATE UNIQUE INDEX jobs_unique_key ON {schema}.jobs (kind, unique_key)
    WHERE unique_key IS NOT NULL AND status IN ('created', 'pending', 'running');
CREATE UNIQUE INDEX jobs_child_key ON {schema}.jobs (parent_id, child_key, child_index)
    WHERE parent_id IS NOT NULL;
CREATE INDEX jobs_unfinished_child ON {schema}.jobs (parent_id)
    WHERE parent_id IS NOT NULL AND status IN ('created', 'pending', 'running');
"""

_JOBS_GUARD = """
CREATE FUNCTION {schema}.refuse_status_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = 'jobs_edge', MESSAGE =
        'job ' || old.id || ': the state machine has no edge from ' || old.status || ' to ' || new.status;
END $$;

-- AFTER, because a BEFORE trigger locks (and logs) each row once more. The function is called only to refuse.
CREATE TRIGGER jobs_edge AFTER UPDATE OF status ON {schema}.jobs FOR EACH ROW
    WHEN (old.status <> new.status AND old.status || '>' || new.status NOT IN (
         'created>pending',
         'created>cancelled',
         'created>failed',
         'pending>running',
         'pending>cancelled',
         'pending>failed',
         'running>completed',
         'running>failed',
         'running>cancelled',
         'running>pending'
     ))
    EXECUTE FUNCTION {schema}.refuse_status_change();
"""

_HISTORY = """
-- One row for all jobs that one statement moves along the same edge for the same reason, because a row for each of them
-- costs six times as many bytes of WAL, most of them for the index. The view shows one row for each transition.
-- A job's row names its newest batch, and each batch, for each of its jobs, the one before.
CREATE TABLE {schema}.history_batches (
    number bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    from_status text,
    to_status text NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    job_ids uuid[] NOT NULL,
    sequences integer[] NOT NULL,
    attempts smallint[] NOT NULL,
    older bigint[] NOT NULL,
    CONSTRAINT history_edge CHECK (
CASE WHEN from_status IS NULL THEN to_status IN ('created', 'pending')
     ELSE from_status || '>' || to_status IN (
         'created>pending',
         'created>cancelled',
         'created>failed',
         'pending>running',
         'pending>cancelled',
         'pending>failed',
         'running>completed',
         'running>failed',
         'running>cancelled',
         'running>pending'
     ) END),
    CONSTRAINT history_reason CHECK (
        reason IN ('spawned', 'released', 'claimed', 'succeeded', 'error', 'attempts_exhausted', 'not_retryable',
                   'timeout', 'lease_expired', 'shutdown', 'snoozed', 'parked', 'cancelled', 'deadline',
                   'unknown_kind')
    ),
    CONSTRAINT history_columns CHECK (
        cardinality(job_ids) > 0 AND cardinality(sequences) = cardinality(job_ids)
        AND cardinality(attempts) = cardinality(job_ids) AND cardinality(older) = cardinality(job_ids)
    )
) PARTITION BY RANGE (at);

-- Random bits do not compress.
ALTER TABLE {schema}.history_batches ALTER COLUMN job_ids SET STORAGE EXTERNAL;

-- All batches of one statement have the same number.
CREATE SEQUENCE {schema}.history_numbers;
CREATE INDEX history_number ON {schema}.history_batches (number);

CREATE FUNCTION {schema}.refuse_history_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE =
        'history is append-only: ' || tg_op || ' of ' || tg_table_name || ' refused; retention drops whole partitions';
END $$;

CREATE TRIGGER history_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {schema}.history_batches
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_history_change();

CREATE TABLE {schema}.history_default PARTITION OF {schema}.history_batches DEFAULT;
CREATE TRIGGER history_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {schema}.history_default
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_history_change();

CREATE VIEW {schema}.history AS
SELECT entry.job_id, batch.at, entry.sequence, entry.attempt, batch.from_status, batch.to_status, batch.reason,
       batch.actor
FROM {schema}.history_batches AS batch,
     unnest(batch.job_ids, batch.sequences, batch.attempts) AS entry (job_id, sequence, attempt);

-- One job's rows of the view, oldest first, by index from batch to batch. A job whose own row is gone has no
-- first batch to begin with: its rows are looked for in all of them.
CREATE FUNCTION {schema}.history_of(job uuid, after integer DEFAULT 0) RETURNS SETOF {schema}.history
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM {schema}.jobs WHERE id = job) THEN
        RETURN QUERY SELECT * FROM {schema}.history
            WHERE job_id = job AND sequence > after ORDER BY sequence;
        RETURN;
    END IF;
    RETURN QUERY
        WITH RECURSIVE pointer (number) AS (
            SELECT newest_history FROM {schema}.jobs WHERE id = job
            UNION ALL
            SELECT batch.older[place]
            FROM pointer, {schema}.history_batches AS batch, LATERAL array_position(batch.job_ids, job) AS place
            WHERE batch.number = pointer.number AND place IS NOT NULL AND batch.sequences[place] > after + 1
        )
        SELECT job, batch.at, batch.sequences[place], batch.attempts[place], batch.from_status, batch.to_status,
               batch.reason, batch.actor
        FROM pointer, {schema}.history_batches AS batch, LATERAL array_position(batch.job_ids, job) AS place
        WHERE batch.number = pointer.number AND place IS NOT NULL AND batch.sequences[place] > after
        ORDER BY 3;
END $$;
"""

_PARTITIONS = """
-- Makes the partition of the week (from Monday, UTC) that `moment` lies in; true if it was not there. A week that has
-- rows in the default partition already stays there. Made apart and then attached, which, unlike CREATE ... PARTITION
-- OF, does not wait for those who read and write the history. Statement triggers are not inherited: each gets its own.
CREATE FUNCTION {schema}.make_history_partition(moment timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    week timestamp DEFAULT date_trunc('week', moment AT TIME ZONE 'UTC');
    starts timestamptz DEFAULT week AT TIME ZONE 'UTC';
    ends timestamptz DEFAULT (week + interval '7 days') AT TIME ZONE 'UTC';
    partition text DEFAULT '{schema}.' || to_char(week, '"history_"IYYY"w"IW');
BEGIN
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('callboard partitions {schema}', 0));
    IF to_regclass(partition) IS NOT NULL
        OR EXISTS (SELECT FROM {schema}.history_default WHERE at >= starts AND at < ends) THEN
        RETURN false;
    END IF;
    EXECUTE 'CREATE TABLE ' || partition
        || ' (LIKE {schema}.history_batches'
        || ' INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES INCLUDING STORAGE)';
    EXECUTE 'CREATE TRIGGER history_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ' || partition
        || ' FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_history_change()';
    EXECUTE 'ALTER TABLE {schema}.history_batches ATTACH PARTITION ' || partition
        || ' FOR VALUES FROM (' || quote_literal(starts) || ') TO (' || quote_literal(ends) || ')';
    RETURN true;
END $$;

SELECT {schema}.make_history_partition(now() + make_interval(weeks => n)) FROM generate_series(0, 4) AS n;
"""

_NODES = """
CREATE TABLE {schema}.nodes (
    name text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT nodes_pkey PRIMARY KEY (name)
) WITH (fillfactor = 50);
"""


def upgrade() -> None:
    """Create everything."""
    name: str = context.config.attributes["schema"]
    for script in (_JOBS, _JOBS_GUARD, _HISTORY, _PARTITIONS, _NODES):
        op.execute(script.replace("{schema}", f'"{name}"'))


def downgrade() -> None:
    """Refuse: going back would lose jobs."""
    raise NotImplementedError("the first revision is not undone: drop the schema if its jobs may be lost")
