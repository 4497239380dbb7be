"""The commonest transition by far, in one round trip: running jobs without parents whose functions returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg

from callboard.actors.jobs.decide import Transition
from callboard.actors.jobs.state import Reason, Status
from callboard.actors.jobs.types import Applied

from .literals import plain_array, text_array

COMPLETE: Final = """
WITH step AS MATERIALIZED (
    SELECT nextval('{history_numbers}') AS number
), written AS (
    UPDATE {jobs} AS job
    SET status = 'completed',
        transitions = job.transitions + 1,
        newest_history = (SELECT number FROM step),
        older_history = job.newest_history,
        lease_expires_at = NULL,
        finished_at = now(),
        result_expires_at = CASE WHEN change.result IS NOT NULL
                                 THEN now() + job.result_ttl_seconds * interval '1 second' END,
        stop_reason = 'succeeded',
        result = change.result,
        error = NULL
    FROM unnest([ids uuid], [tokens bigint], [results json]) WITH ORDINALITY AS change (id, token, result, place)
    WHERE job.id = change.id AND job.status = 'running' AND job.token = change.token AND job.parent_id IS NULL
    RETURNING change.place, job.id, job.attempt, job.transitions, job.older_history
), recorded AS (
    INSERT INTO {history} (number, from_status, to_status, reason, actor, job_ids, sequences, attempts, older)
    SELECT (SELECT number FROM step), 'running', 'completed', 'succeeded', CAST(:actor AS text),
           array_agg(id), array_agg(transitions), array_agg(attempt), array_agg(older_history)
    FROM written HAVING count(*) > 0
), notified AS (
    SELECT pg_notify('{channel}', 'ended:' || CASE count(*) WHEN 1 THEN min(CAST(id AS text)) ELSE '' END)
    FROM written HAVING count(*) > 0
)
SELECT array_agg(place), (SELECT count(*) FROM notified) FROM written
"""
"""The compare-and-set of ``Statements.apply`` with everything constant that such transitions have in common."""


_RUNNING, _COMPLETED, _SUCCEEDED = Status.RUNNING, Status.COMPLETED, Reason.SUCCEEDED  # see ``decide.succeed``


def completions(transitions: Sequence[Transition]) -> list[Transition]:
    """Return the transitions that ``complete`` can write: nothing but the jobs' own rows depends on them."""
    return [
        change
        for change in transitions
        if change.reason is _SUCCEEDED and not change.has_parent and change.from_status is _RUNNING
    ]


async def complete(
    connection: psycopg.AsyncConnection[Any], statement: bytes, transitions: Sequence[Transition], actor: str
) -> list[Applied | None]:
    """Write completions; positional, with None for each that was not written.

    Atomic by itself, and its notification goes out with its commit.
    """
    places = sorted(range(len(transitions)), key=[change.job_id.int for change in transitions].__getitem__)
    ordered = [transitions[place] for place in places]  # against deadlocks
    cursor = await connection.execute(statement, completion_columns(ordered, actor))
    [(written, _)] = await cursor.fetchall()
    if written is not None and len(written) == len(transitions):
        return [Applied(change.job_id, _COMPLETED) for change in transitions]
    answers: list[Applied | None] = [None] * len(transitions)
    for number in written or ():
        answers[places[number - 1]] = Applied(ordered[number - 1].job_id, _COMPLETED)
    return answers


def completion_columns(transitions: Sequence[Transition], actor: str) -> dict[str, str]:
    """Return the parameters of ``Statements.complete``."""
    return {
        "ids": plain_array([f"{change.job_id.int:032x}" for change in transitions]),  # as UUID.hex does
        "tokens": plain_array([str(change.token) for change in transitions]),
        "results": text_array([change.result for change in transitions]),
        "actor": actor,
    }
