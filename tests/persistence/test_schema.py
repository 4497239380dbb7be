"""The migrated database against the metadata and the state machine; what the guards refuse."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg import errors as pg

from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.state import EDGES, TERMINAL, Reason, Status
from callboard.persistence.engine import make_sync_engine
from callboard.persistence.guards import (
    batch_status_check,
    edge_check,
    forbidden_batch_change,
    forbidden_change,
    item_status_check,
    reason_check,
    status_check,
)
from callboard.persistence.migrate import migration_sql
from callboard.persistence.schema import metadata, owed_callback

Connection = psycopg.Connection[Any]

PATHS: dict[Status, tuple[Status, ...]] = {
    Status.CREATED: (Status.CREATED,),
    Status.PENDING: (Status.PENDING,),
    Status.RUNNING: (Status.PENDING, Status.RUNNING),
    Status.COMPLETED: (Status.PENDING, Status.RUNNING, Status.COMPLETED),
    Status.FAILED: (Status.PENDING, Status.FAILED),
    Status.CANCELLED: (Status.PENDING, Status.CANCELLED),
}
"""How a job comes into each status by edges that exist."""


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def squeezed(sql: str) -> str:
    return " ".join(sql.split()).replace("( ", "(").replace(" )", ")")


@pytest.mark.filterwarnings("ignore:Can't validate argument 'dialect_options'")  # of a constraint that is NOT VALID
def test_the_migration_is_what_the_metadata_says(database_url: str) -> None:
    def ours(name: str | None, kind: str, parents: object) -> bool:
        partition_or_version = r"history_(default|\d{4}w\d\d)|schema_version"
        return not (kind == "table" and name is not None and re.fullmatch(partition_or_version, name))

    with make_sync_engine(database_url).connect() as connection:
        connection.dialect.default_schema_name = "callboard"
        options = {"include_name": ours, "compare_server_default": False}
        connection.execute(sa.text("SET search_path = callboard"))
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize(
    "make",
    [
        status_check,
        edge_check,
        reason_check,
        forbidden_change,
        batch_status_check,
        item_status_check,
        forbidden_batch_change,
        owed_callback,
    ],
)
def test_the_guards_in_the_migration_are_those_of_the_state_machine(make: Any) -> None:
    assert squeezed(make()) in squeezed(migration_sql())


def test_the_status_guard_refuses_every_change_that_is_no_edge(connection: Connection) -> None:
    for before, after in itertools.permutations(Status, 2):
        job_id = uuid7()
        first, *others = PATHS[before]
        insert_job(connection, job_id, first)
        for status in others:
            connection.execute(*change_to(status, job_id))
        change = change_to(after, job_id)
        if (before, after) in EDGES:
            assert connection.execute(*change).rowcount == 1
        else:
            with pytest.raises(pg.IntegrityConstraintViolation, match=f"no edge from {before} to {after}"):
                connection.execute(*change)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_the_guard_does_not_mind_other_changes_of_an_ended_job(connection: Connection, status: Status) -> None:
    job_id = uuid7()
    for step, value in enumerate(PATHS[status]):
        if step:
            connection.execute(*change_to(value, job_id))
        else:
            insert_job(connection, job_id, value)
    change = "UPDATE callboard.jobs SET status = status, metadata = '{}' WHERE id = %s"
    assert connection.execute(change, [job_id]).rowcount == 1


def insert_job(connection: Connection, job_id: object, status: Status) -> None:
    connection.execute(
        "INSERT INTO callboard.jobs (id, kind, queue, arguments, status, max_attempts, turn)"
        " VALUES (%s, 'kind', 'default', '{}', %s, 1, CASE WHEN %s THEN now() END)",
        [job_id, status, status is Status.PENDING],
    )


def change_to(status: Status, job_id: object) -> tuple[LiteralString, list[object]]:
    """Return the update that gives a job a status, and a turn if it is queued then."""
    change = "UPDATE callboard.jobs SET status = %s, turn = CASE WHEN %s THEN now() END WHERE id = %s"
    return change, [status, status is Status.PENDING, job_id]


def test_who_is_queued_has_a_turn_or_is_delayed_and_nobody_else(connection: Connection) -> None:
    job_id = uuid7()
    insert_job(connection, job_id, Status.PENDING)
    for change in (
        "turn = NULL",
        "delayed = true",
        "waiting_on = 'children'",
        "status = 'running'",
        "status = 'running', turn = NULL, delayed = true",
    ):
        with pytest.raises(pg.CheckViolation, match="jobs_turn"):
            connection.execute(f"UPDATE callboard.jobs SET {change} WHERE id = %s".encode(), [job_id])
    connection.execute("UPDATE callboard.jobs SET turn = NULL, delayed = true WHERE id = %s", [job_id])


def insert_history(
    connection: Connection, source: Status | None, target: str, reason: str = "claimed", at: str = "now"
) -> None:
    connection.execute(
        "INSERT INTO callboard.history_batches"
        " (number, at, from_status, to_status, reason, actor, job_ids, sequences, attempts, older, lease_expires_at)"
        " VALUES (1, %s, %s, %s, %s, 'test', %s, '{1}', '{1}', '{NULL}', CASE WHEN %s THEN now() END)",
        [at, source, target, reason, [uuid7()], target == Status.RUNNING],
    )


def test_the_history_takes_edges_and_nothing_else(connection: Connection) -> None:
    for source, target in itertools.product([None, *Status], Status):
        if (source, target) in EDGES:
            insert_history(connection, source, target)
        else:
            with pytest.raises(pg.CheckViolation, match="history_edge"):
                insert_history(connection, source, target)
    for reason in Reason:
        insert_history(connection, None, Status.PENDING, reason)
    with pytest.raises(pg.CheckViolation, match="history_reason"):
        insert_history(connection, None, Status.PENDING, "whim")


def test_a_status_that_does_not_exist_is_refused(connection: Connection) -> None:
    with pytest.raises(pg.CheckViolation, match="jobs_status"):
        connection.execute(
            "INSERT INTO callboard.jobs (id, kind, queue, arguments, status, max_attempts)"
            " VALUES (%s, 'kind', 'default', '{}', 'asleep', 1)",
            [uuid7()],
        )


def test_a_batch_has_as_many_of_each_column_as_jobs(connection: Connection) -> None:
    with pytest.raises(pg.CheckViolation, match="history_columns"):
        connection.execute(
            "INSERT INTO callboard.history_batches"
            " (number, to_status, reason, actor, job_ids, sequences, attempts, older)"
            " VALUES (1, 'pending', 'spawned', 'test', %s, '{1}', '{1,1}', '{NULL}')",
            [[uuid7()]],
        )


def test_claims_of_workers_that_know_of_no_claims_are_refused(connection: Connection) -> None:
    with pytest.raises(pg.CheckViolation, match="history_lease"):
        connection.execute(
            "INSERT INTO callboard.history_batches"
            " (number, from_status, to_status, reason, actor, job_ids, sequences, attempts, older)"
            " VALUES (1, 'pending', 'running', 'claimed', 'test', %s, '{1}', '{1}', '{NULL}')",
            [[uuid7()]],
        )


def partitions(connection: Connection) -> list[str]:
    rows = connection.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent = 'callboard.history_batches'::regclass ORDER BY 1"
    )
    return [name for (name,) in rows]


@pytest.mark.parametrize("command", ["UPDATE {} SET actor = 'nobody'", "DELETE FROM {}", "TRUNCATE {}"])
def test_promise_9_the_history_cannot_be_changed_through_any_of_its_tables(
    connection: Connection, command: str
) -> None:
    insert_history(connection, None, Status.PENDING, "spawned")
    connection.execute("SELECT callboard.make_history_partition(now() + interval '1 year')")
    for table in ["callboard.history_batches", *partitions(connection)]:
        with pytest.raises(pg.InsufficientPrivilege, match=r"append-only: (UPDATE|DELETE|TRUNCATE) of .* refused"):
            connection.execute(command.format(table).encode())
    with pytest.raises((pg.ObjectNotInPrerequisiteState, pg.WrongObjectType)):
        connection.execute(command.format("callboard.history").encode())
    assert connection.execute("SELECT count(*) FROM callboard.history").fetchone() == (1,)


def test_a_week_has_one_partition_from_monday(connection: Connection) -> None:
    def make(moment: str) -> bool:
        [(made,)] = connection.execute("SELECT callboard.make_history_partition(%s::timestamptz)", [moment]).fetchall()
        return bool(made)

    before = partitions(connection)
    assert make("2031-01-01 12:00+00")
    assert not make("2030-12-30 00:00+00")
    assert not make("2031-01-05 23:59:59+00")
    assert make("2031-01-06 00:00+00")
    assert sorted({*partitions(connection)} - {*before}) == ["callboard.history_2031w01", "callboard.history_2031w02"]


def test_the_time_zone_of_the_session_does_not_move_a_week(connection: Connection) -> None:
    connection.execute("SET TimeZone = 'Pacific/Kiritimati'")
    connection.execute("SELECT callboard.make_history_partition('2031-01-06 00:00+00')")
    connection.execute("SET TimeZone = 'UTC'")
    bounds = "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'history_2031w02'"
    [(bound,)] = connection.execute(bounds).fetchall()
    assert bound == "FOR VALUES FROM ('2031-01-06 00:00:00+00') TO ('2031-01-13 00:00:00+00')"


def test_a_week_with_rows_in_the_default_partition_stays_there(connection: Connection) -> None:
    insert_history(connection, None, Status.PENDING, "spawned", at="2031-01-01")
    [(made,)] = connection.execute("SELECT callboard.make_history_partition('2031-01-02')").fetchall()
    assert made is False
    assert connection.execute("SELECT count(*) FROM callboard.history_default").fetchone() == (1,)


def test_this_week_has_its_partition_from_the_start(connection: Connection) -> None:
    insert_history(connection, None, Status.PENDING, "spawned")
    assert connection.execute("SELECT count(*) FROM callboard.history_default").fetchone() == (0,)


def test_the_vacuum_of_a_queue_is_set_for_its_table(connection: Connection) -> None:
    rows = connection.execute(
        "SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'callboard'::regnamespace AND reloptions <> '{}'"
    ).fetchall()
    options = {name: dict(option.split("=") for option in settings) for name, settings in rows}
    assert float(options["jobs"]["autovacuum_vacuum_scale_factor"]) < 0.1
    assert options["jobs"]["autovacuum_vacuum_cost_delay"] == "0"
    assert options["jobs"]["vacuum_truncate"] == "off"
    assert int(options["nodes"]["fillfactor"]) < 100
