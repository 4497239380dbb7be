"""The leader's term, its heartbeat, and the functions by which it is won, proved, taken away and given back.

Revision ID: 0003
"""

from __future__ import annotations

from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Without per cent signs and colons, as in 0002.
_TABLE = """
-- One row. holder and what follows are NULL while nobody leads who has not handed over.
CREATE TABLE {schema}.leadership (
    election text NOT NULL,
    term bigint NOT NULL DEFAULT 0,
    holder text,
    backend_pid integer,
    acquired_at timestamptz,
    heartbeat_at timestamptz,
    silence_limit_seconds double precision,
    step_down_term bigint,
    CONSTRAINT leadership_pkey PRIMARY KEY (election)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO {schema}.leadership (election) VALUES ('leader');
"""

_LOCKS = """
-- Keys of advisory locks. 'leader' is held by the leader's session, 'fence' is shared by the writes of a term.
CREATE FUNCTION {schema}.leadership_key(purpose text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT hashtextextended('callboard ' || purpose || ' ' || current_database() || ' {name}', 0)
$$;

-- The backends that have a lock. pg_locks shows a key of 64 bits as two halves.
CREATE FUNCTION {schema}.leadership_lockers(key bigint) RETURNS SETOF integer LANGUAGE sql VOLATILE AS $$
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (CAST(classid AS bigint) << 32 | CAST(objid AS bigint)) = key
$$;

-- The fence. True: the term is the current one, and stays so until this transaction ends.
CREATE FUNCTION {schema}.hold_term(own_term bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared({schema}.leadership_key('fence'));
    RETURN EXISTS (SELECT FROM {schema}.leadership WHERE term = own_term);
END $$;
"""

_CAMPAIGN = """
-- Wait for the lock, and with it begin a term, in one transaction, so that whoever has the lock is in the row, even if
-- its process has stopped meanwhile. Without the lock, tell who leads. The waiting is an exception that is caught,
-- because one that is not would be in the server's log each time.
CREATE FUNCTION {schema}.campaign(
    node text, silence_limit double precision, wait_milliseconds integer,
    OUT won boolean, OUT current_term bigint, OUT current_holder text, OUT silent_seconds double precision,
    OUT silent_too_long boolean
) LANGUAGE plpgsql AS $$
DECLARE
    leader_key bigint = {schema}.leadership_key('leader');
    fence_key bigint = {schema}.leadership_key('fence');
    locked boolean = false;
BEGIN
    won = false;
    BEGIN
        PERFORM set_config('lock_timeout', wait_milliseconds || 'ms', true);
        PERFORM pg_advisory_lock(leader_key);
        locked = true;
        -- What the term before still writes is refused: its backends are ended, or, where that is not allowed, waited
        -- for.
        BEGIN
            PERFORM pg_terminate_backend(pid) FROM {schema}.leadership_lockers(fence_key) AS pid;
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;
        END;
        PERFORM pg_advisory_xact_lock(fence_key);
        PERFORM set_config('synchronous_commit', 'on', true);  -- whatever the session has: no term is given twice
        UPDATE {schema}.leadership
        SET term = term + 1, holder = node, backend_pid = pg_backend_pid(), acquired_at = clock_timestamp(),
            heartbeat_at = clock_timestamp(), silence_limit_seconds = silence_limit, step_down_term = NULL;
        won = true;
    EXCEPTION
        WHEN lock_not_available THEN
            IF locked THEN
                PERFORM pg_advisory_unlock(leader_key);
            END IF;
        WHEN query_canceled OR others THEN
            IF locked THEN
                PERFORM pg_advisory_unlock(leader_key);
            END IF;
            RAISE;
    END;
    SELECT term, holder, CAST(extract(epoch FROM clock_timestamp() - heartbeat_at) AS double precision),
        coalesce(extract(epoch FROM clock_timestamp() - heartbeat_at) > silence_limit_seconds, false)
    INTO current_term, current_holder, silent_seconds, silent_too_long
    FROM {schema}.leadership;
END $$;
"""

_HOLDING = """
-- The leader's proof and its heartbeat. NULL: this session has not, or no longer, the lock and the term. Else whether
-- somebody has asked it to step down.
CREATE FUNCTION {schema}.prove_leadership(own_term bigint) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    UPDATE {schema}.leadership SET heartbeat_at = clock_timestamp()
    WHERE term = own_term AND backend_pid = pg_backend_pid()
        AND pg_backend_pid() IN (SELECT {schema}.leadership_lockers({schema}.leadership_key('leader')))
    RETURNING step_down_term IS NOT DISTINCT FROM term
$$;

-- End the session of a leader that has been silent for too long; how many were ended. Only the one that the row names:
-- between a lock and its term in the row there is another already.
CREATE FUNCTION {schema}.depose_leader(silent_term bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid))
    FROM {schema}.leadership, {schema}.leadership_lockers({schema}.leadership_key('leader')) AS pid
    WHERE term = silent_term AND pid = backend_pid
        AND extract(epoch FROM clock_timestamp() - heartbeat_at) > silence_limit_seconds
$$;

-- Say in the row that nobody leads. The lock is freed by a statement of its own, once this is committed.
CREATE FUNCTION {schema}.resign_leadership(own_term bigint) RETURNS void LANGUAGE sql VOLATILE AS $$
    UPDATE {schema}.leadership
    SET holder = NULL, backend_pid = NULL, acquired_at = NULL, heartbeat_at = NULL, silence_limit_seconds = NULL
    WHERE term = own_term AND backend_pid = pg_backend_pid()
$$;
"""


def upgrade() -> None:
    """Add them."""
    name: str = context.config.attributes["schema"]
    for script in (_TABLE, _LOCKS, _CAMPAIGN, _HOLDING):
        op.execute(script.replace("{schema}", f'"{name}"').replace("{name}", name))


def downgrade() -> None:
    """Refuse: a term that is forgotten could be given twice."""
    raise NotImplementedError("terms are not undone: restore a backup of before")
