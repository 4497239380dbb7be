"""Jobs in another order on disk, ends that touch no index, and one lease for all jobs of a claim to be found by.

Revision ID: 0010
"""

from __future__ import annotations

from alembic import context, op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Without per cent signs and colons, as in 0002. The order of columns needs another table. Whoever uses this one is kept
# out from here on, so that nothing is written to what is being copied. All that is changed below is locked now, before
# the work: a statement that read one of the others first would wait for the jobs, and this for it, when all is copied.
_TABLE = """
LOCK TABLE {schema}.jobs, {schema}.job_steps, {schema}.llm_requests, {schema}.history_batches IN ACCESS EXCLUSIVE MODE;
ALTER TABLE {schema}.jobs RENAME TO jobs_before;

CREATE TABLE {schema}.jobs (
    id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deadline timestamptz,
    parent_id uuid,
    timeout_seconds double precision,
    result_ttl_seconds double precision,
    run_at timestamptz NOT NULL DEFAULT now(),
    child_index integer,
    concurrency_limit integer,
    max_attempts smallint NOT NULL,
    priority smallint NOT NULL DEFAULT 0,
    -- What a claim changes.
    token integer NOT NULL DEFAULT 0,
    turn timestamptz,
    started_at timestamptz,
    attempt smallint NOT NULL DEFAULT 0,
    delayed boolean NOT NULL DEFAULT false,
    waiting boolean GENERATED ALWAYS AS (status IN ('created', 'pending')) STORED,
    -- What a claim and an end change.
    transitions integer NOT NULL DEFAULT 1,
    lease_expires_at timestamptz,
    finished_at timestamptz,
    result_expires_at timestamptz,
    newest_history bigint,
    older_history bigint,
    sought boolean GENERATED ALWAYS AS (
        status IN ('created', 'pending', 'running') AND (parent_id IS NOT NULL OR unique_key IS NOT NULL)
    ) STORED,
    status text NOT NULL,
    stop_reason text,
    waiting_on text,
    result json,
    error json,
    node text,
    progress json,
    -- What stays.
    kind text NOT NULL,
    queue text NOT NULL,
    owner text,
    concurrency_key text,
    unique_key text,
    unique_statuses text[],
    child_key text,
    tags text[],
    metadata json,
    callback_url text,
    arguments json NOT NULL,
    CONSTRAINT jobs_status CHECK (
        status IN ('created', 'pending', 'running', 'completed', 'failed', 'cancelled')
    ),
    CONSTRAINT jobs_waiting_on CHECK (waiting_on IN ('children', 'llm_batch')),
    CONSTRAINT jobs_child CHECK ((parent_id IS NULL) = (child_key IS NULL)),
    CONSTRAINT jobs_child_index CHECK ((child_key IS NULL) = (child_index IS NULL)),
    CONSTRAINT jobs_concurrency CHECK ((concurrency_key IS NULL) = (concurrency_limit IS NULL)),
    CONSTRAINT jobs_turn CHECK (
        CASE WHEN status = 'pending' AND waiting_on IS NULL THEN (turn IS NULL) = delayed
             ELSE turn IS NULL AND NOT delayed END)
) WITH (
    fillfactor = 28,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off
);

INSERT INTO {schema}.jobs (
    id, created_at, deadline, parent_id, timeout_seconds, result_ttl_seconds, run_at, child_index, concurrency_limit,
    max_attempts, priority, token, turn, started_at, attempt, delayed, transitions, lease_expires_at, finished_at,
    result_expires_at, newest_history, older_history, status, stop_reason, waiting_on, result, error, node, progress,
    kind, queue, owner, concurrency_key, unique_key, unique_statuses, child_key, tags, metadata, callback_url,
    arguments)
SELECT
    id, created_at, deadline, parent_id, timeout_seconds, result_ttl_seconds, run_at, child_index, concurrency_limit,
    max_attempts, priority, token, turn, started_at, attempt, delayed, transitions, lease_expires_at, finished_at,
    CASE WHEN result IS NOT NULL THEN finished_at + result_ttl_seconds * interval '1 second' END,
    newest_history, older_history, status, stop_reason, waiting_on, result, error, node, progress,
    kind, queue, owner, concurrency_key, unique_key, unique_statuses, child_key, tags, metadata, callback_url, arguments
FROM {schema}.jobs_before;
"""

# The new table belongs to whom the old one did, and lets in whom it let in. What others have made of the old one, such
# as a view, makes the DROP fail with its name.
_SWAP = """
DO $$
DECLARE
    permission record;
BEGIN
    EXECUTE 'ALTER TABLE {schema}.jobs OWNER TO '
        || (SELECT quote_ident(pg_get_userbyid(relowner)) FROM pg_class
            WHERE oid = CAST('{schema}.jobs_before' AS regclass));
    FOR permission IN
        SELECT entry.privilege_type, entry.is_grantable,
               CASE entry.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(entry.grantee)) END AS grantee
        FROM pg_class, LATERAL aclexplode(relacl) AS entry
        WHERE oid = CAST('{schema}.jobs_before' AS regclass) AND entry.grantee <> relowner
    LOOP
        EXECUTE 'GRANT ' || permission.privilege_type || ' ON {schema}.jobs TO ' || permission.grantee
            || CASE WHEN permission.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END;
    END LOOP;
END $$;

ALTER TABLE {schema}.job_steps DROP CONSTRAINT job_steps_job;
ALTER TABLE {schema}.llm_requests DROP CONSTRAINT llm_requests_job;
DROP TABLE {schema}.jobs_before;
ALTER TABLE {schema}.jobs ADD CONSTRAINT jobs_pkey PRIMARY KEY (id);
ALTER TABLE {schema}.job_steps ADD CONSTRAINT job_steps_job
    FOREIGN KEY (job_id) REFERENCES {schema}.jobs (id) ON DELETE CASCADE;
ALTER TABLE {schema}.llm_requests ADD CONSTRAINT llm_requests_job
    FOREIGN KEY (job_id) REFERENCES {schema}.jobs (id) ON DELETE CASCADE;
"""

# No index has a column that the end of a running job changes, in its key or its condition; but for jobs with a parent
# or a unique key. The update is then a HOT one, which writes to no index.
_INDEXES = """
CREATE INDEX jobs_runnable ON {schema}.jobs (queue, turn, id) WHERE turn IS NOT NULL AND concurrency_key IS NULL;
CREATE INDEX jobs_keyed ON {schema}.jobs (queue, concurrency_key, turn, id)
    WHERE turn IS NOT NULL AND concurrency_key IS NOT NULL;
CREATE INDEX jobs_delayed ON {schema}.jobs (queue, run_at, id) WHERE delayed;
CREATE INDEX jobs_deadline ON {schema}.jobs (deadline) WHERE waiting AND deadline IS NOT NULL;
CREATE INDEX jobs_queued_owner ON {schema}.jobs (owner) WHERE waiting AND owner IS NOT NULL;
CREATE UNIQUE INDEX jobs_unique_key ON {schema}.jobs (kind, unique_key)
    WHERE sought AND unique_key IS NOT NULL AND unique_statuses IS NULL;
CREATE INDEX jobs_unique_span ON {schema}.jobs (kind, unique_key, created_at)
    WHERE unique_key IS NOT NULL AND unique_statuses IS NOT NULL;
CREATE UNIQUE INDEX jobs_child_key ON {schema}.jobs (parent_id, child_key, child_index) WHERE parent_id IS NOT NULL;
CREATE INDEX jobs_unfinished_child ON {schema}.jobs (parent_id) WHERE sought AND parent_id IS NOT NULL;
CREATE INDEX jobs_result_ttl ON {schema}.jobs (result_expires_at) WHERE result_expires_at IS NOT NULL;
CREATE INDEX jobs_tags ON {schema}.jobs USING gin (tags) WHERE tags IS NOT NULL;
CREATE INDEX jobs_metadata ON {schema}.jobs USING gin ({schema}.metadata_pairs(metadata)) WHERE metadata IS NOT NULL;
"""

_TRIGGERS = """
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
CREATE TRIGGER jobs_callback AFTER UPDATE OF status ON {schema}.jobs FOR EACH ROW
    WHEN (new.callback_url IS NOT NULL AND old.status <> new.status
        AND new.status IN ('cancelled', 'completed', 'failed'))
    EXECUTE FUNCTION {schema}.owe_callback();
CREATE TRIGGER jobs_callback_forgotten AFTER DELETE ON {schema}.jobs FOR EACH ROW
    WHEN (old.callback_url IS NOT NULL)
    EXECUTE FUNCTION {schema}.forget_callback();
"""

# Which jobs a claim took stands in the history, in the batch of the same number and moment.
_CLAIMS = """
CREATE TABLE {schema}.claims (
    number bigint NOT NULL,
    claimed_at timestamptz NOT NULL,
    -- The earliest of its running jobs' leases, or earlier; never later.
    lease_expires_at timestamptz NOT NULL,
    node text NOT NULL,
    -- Those that still ran when it was last looked at; NULL before that.
    job_ids uuid[],
    CONSTRAINT claims_pkey PRIMARY KEY (lease_expires_at, number)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE {schema}.claims ALTER COLUMN job_ids SET STORAGE EXTERNAL;

INSERT INTO {schema}.claims (number, claimed_at, lease_expires_at, node, job_ids)
SELECT newest_history, now(), coalesce(min(lease_expires_at), now()), coalesce(min(node), ''), array_agg(id)
FROM {schema}.jobs WHERE status = 'running' GROUP BY newest_history;

-- For a history that somebody has dropped by hand. Reads all jobs; a function hides what that costs from the planner,
-- which would else compile (JIT) every statement that might come to it.
CREATE FUNCTION {schema}.running_jobs(claim_number bigint) RETURNS uuid[] LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT array_agg(id) FROM {schema}.jobs WHERE newest_history = claim_number AND status = 'running');
END $$;

-- Each job of each claim, running or not.
CREATE VIEW {schema}.claimed AS
SELECT claim.number, claim.lease_expires_at, claim.node, listed.job_id
FROM {schema}.claims AS claim, LATERAL unnest(coalesce(
    claim.job_ids,
    (SELECT batch.job_ids FROM {schema}.history_batches AS batch
     WHERE batch.number = claim.number AND batch.at = claim.claimed_at AND batch.to_status = 'running'),
    {schema}.running_jobs(claim.number)
)) AS listed (job_id);

-- Claims of workers that know of no table of claims are refused: nobody would find their jobs. Their ends are not.
ALTER TABLE {schema}.history_batches ADD COLUMN lease_expires_at timestamptz;
ALTER TABLE {schema}.history_batches ADD CONSTRAINT history_lease
    CHECK ((to_status = 'running') = (lease_expires_at IS NOT NULL)) NOT VALID;

ANALYZE {schema}.jobs;
"""


def upgrade() -> None:
    """Rebuild the table of jobs; about 15 seconds for a million."""
    name: str = context.config.attributes["schema"]
    for script in (_TABLE, _SWAP, _INDEXES, _TRIGGERS, _CLAIMS):
        op.execute(script.replace("{schema}", f'"{name}"'))


def downgrade() -> None:
    """Refuse: older workers know no claims, and the running jobs of newer ones would be found by reading all jobs."""
    raise NotImplementedError("the layout is not undone: restore a backup of before")
