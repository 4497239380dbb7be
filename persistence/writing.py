"""Writing transitions: compare-and-set, history, parents and notifications, within the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg

from callboard.actors.jobs.decide import Transition
from callboard.actors.jobs.state import Status
from callboard.actors.jobs.types import Applied, AttemptKey, Refused

from .completing import complete
from .literals import json_text, plain_array, text_array
from .statements import Statements

_IDS_PER_PAYLOAD = 200
"""A payload of NOTIFY holds less than 8,000 bytes; 200 ids take 7,400."""


class TransitionWriter:
    """Writes batches of transitions within one open transaction, and announces them once at its end.

    Args:
        connection: in a transaction.
        sql: the statements.
        actor: who does it, for the history.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any], sql: Statements, actor: str) -> None:
        self._connection = connection
        self._sql = sql
        self._actor = actor
        self._runnable_queues: set[str] = set()
        self._ended = 0
        self._ended_id: str | None = None
        self._cancelled: list[UUID] = []

    async def write(self, transitions: Sequence[Transition]) -> list[Applied | Refused]:
        """Write transitions, each by compare-and-set; positional.

        A job that comes twice is written in two rounds, so that the second sees what the first did.
        """
        answers: list[Applied | Refused | None] = [None] * len(transitions)
        for places in _rounds(transitions):
            await self._write_round(transitions, places, answers)
        return [answer for answer in answers if answer is not None]

    async def complete(self, completions: Sequence[Transition]) -> list[Applied | Refused]:
        """Write completions in one statement, which announces them itself, and so needs no transaction; positional."""
        answers: list[Applied | Refused | None] = [
            *await complete(self._connection, self._sql.complete.native, completions, self._actor)
        ]
        refused = [place for place, answer in enumerate(answers) if answer is None]
        if refused:
            await self._explain(refused, completions, answers)
        return [answer for answer in answers if answer is not None]

    async def _write_round(
        self, transitions: Sequence[Transition], places: Sequence[int], answers: list[Applied | Refused | None]
    ) -> None:
        batch = [transitions[place] for place in places]
        cursor = await self._connection.execute(self._sql.apply.native, columns(batch, self._actor))
        row = await cursor.fetchone()
        written, ended_parents, parked, queues, ended, ended_id = row or (None,) * 6
        for number in written or ():
            transition = batch[number - 1]
            answers[places[number - 1]] = Applied(transition.job_id, transition.to_status)
        self._runnable_queues.update(queues or ())
        self._ended += ended or 0
        self._ended_id = ended_id or self._ended_id
        parents = {*(ended_parents or ()), *(parked or ())}
        if parents:
            await self._wake(parents, parked or ())
        if len(written or ()) < len(batch):
            await self._explain([place for place in places if answers[place] is None], transitions, answers)

    async def _wake(self, parents: set[UUID], parked: Sequence[UUID]) -> None:
        """Queue those that wait for nothing any more; what they wait for may have come before they were parked."""
        ids = {"ids": plain_array(sorted(parent.hex for parent in parents))}
        await self._connection.execute(self._sql.lock_parents.native, ids)
        cursor = await self._connection.execute(self._sql.wake_parents.native, ids)
        self._runnable_queues.update(queue for (queue,) in await cursor.fetchall())
        if parked:
            ids = {"ids": plain_array(sorted(job_id.hex for job_id in parked))}
            cursor = await self._connection.execute(self._sql.wake_askers.native, ids)
            self._runnable_queues.update(queue for (queue,) in await cursor.fetchall())

    async def _explain(
        self, places: Sequence[int], transitions: Sequence[Transition], answers: list[Applied | Refused | None]
    ) -> None:
        ids = plain_array({transitions[place].job_id.hex for place in places})
        cursor = await self._connection.execute(self._sql.actual.native, {"ids": ids})
        actual = {job_id: (Status(status), token) for job_id, status, token in await cursor.fetchall()}
        for place in places:
            transition = transitions[place]
            answers[place] = refusal(transition, *actual.get(transition.job_id, (None, None)))

    def cancelled(self, job_ids: Sequence[UUID]) -> None:
        """Note running jobs that were cancelled, for their workers."""
        self._cancelled.extend(job_ids)

    async def announce(self) -> None:
        """Send what happened, in one statement; delivered with the commit. Nothing is sent where nothing happened."""
        payloads = [f"runnable:{queue}" for queue in sorted(self._runnable_queues)]
        if self._ended:
            payloads.append(f"ended:{self._ended_id}" if self._ended == 1 else "ended:")
        payloads.extend(
            "cancelled:" + ",".join(map(str, self._cancelled[start : start + _IDS_PER_PAYLOAD]))
            for start in range(0, len(self._cancelled), _IDS_PER_PAYLOAD)
        )
        if payloads:
            await self._connection.execute(self._sql.notify.native, {"payloads": text_array(payloads)})


def renewal(attempts: Sequence[AttemptKey], lease_seconds: float) -> dict[str, object]:
    """Return the parameters of ``LeaseStatements.renew``, in the order of ids (against deadlocks)."""
    ordered = sorted(attempts)
    return {
        "ids": plain_array([attempt.job_id.hex for attempt in ordered]),
        "tokens": plain_array([str(attempt.token) for attempt in ordered]),
        "lease": lease_seconds,
    }


def progress_columns(reports: Mapping[AttemptKey, Mapping[str, Any]]) -> dict[str, str]:
    """Return the parameters of ``Statements.progress``, in the order of ids (against deadlocks)."""
    attempts = sorted(reports)
    return {
        "ids": plain_array([attempt.job_id.hex for attempt in attempts]),
        "tokens": plain_array([str(attempt.token) for attempt in attempts]),
        "reports": text_array(
            [json_text(f"progress of job {attempt.job_id}", reports[attempt]) for attempt in attempts]
        ),
    }


def refusal(transition: Transition, status: Status | None, token: int | None) -> Refused:
    """Say why a transition lost against what was found."""
    if status is None:
        return Refused(transition.job_id, "missing", None, None)
    cause = "invalid" if token == transition.token else "stale"
    return Refused(transition.job_id, cause, status, token)  # type: ignore[arg-type]


def _rounds(transitions: Sequence[Transition]) -> list[list[int]]:
    """Split the places so that no job comes twice in one round, each round in the order of ids (against deadlocks)."""
    rounds: list[list[int]] = []
    seen: dict[UUID, int] = {}
    for place, transition in enumerate(transitions):
        job_id = transition.job_id
        number = seen.get(job_id, 0)
        seen[job_id] = number + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(place)
    for places in rounds:
        places.sort(key=lambda place: transitions[place].job_id.int)
    return rounds


def columns(transitions: Sequence[Transition], actor: str) -> dict[str, str]:
    """Return the parameters of ``Statements.apply``."""
    return {
        "ids": plain_array([change.job_id.hex for change in transitions]),
        "sources": plain_array([change.from_status for change in transitions]),
        "tokens": plain_array([str(change.token) for change in transitions]),
        "targets": plain_array([change.to_status for change in transitions]),
        "reasons": plain_array([change.reason for change in transitions]),
        "returned": plain_array(["0" if change.counted else "1" for change in transitions]),
        "delays": plain_array([str(change.delay_seconds) for change in transitions]),
        "results": text_array([change.result for change in transitions]),
        "errors": text_array(
            [
                json_text(f"error of job {change.job_id}", change.error) if change.error else None
                for change in transitions
            ]
        ),
        "waits": plain_array([change.waiting_on or "NULL" for change in transitions]),
        "actor": actor,
    }
