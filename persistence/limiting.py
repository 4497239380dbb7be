"""Claiming from queues in which limits have a say: count, decide, take, all under one lock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import psycopg

from callboard.actors.jobs.limits import Admission, Candidate, Limit, Limits, LimitScope, admit, permit, refill
from callboard.actors.jobs.types import AttemptKey, ClaimedJob, QueueDemand

from .limit_statements import LimitStatements
from .literals import plain_array, text_array
from .statements import PROMOTED_TOGETHER

_Native = psycopg.AsyncConnection[Any]

_ROUNDS: Final = 50
"""Each round but the last meets a limit that was not known as exhausted; what is left waits for the next claim."""


@dataclass(slots=True)
class _Usage:
    """What is known under the lock."""

    limits: Limits
    paused: frozenset[str]
    running: dict[str, int]
    tokens: dict[str, float]
    at: datetime
    exhausted: set[str]
    rate_limited: set[str]

    def quota(self, demand: QueueDemand) -> int:
        """Return how many jobs of a queue may start, by the limit of the queue itself."""
        limit = self.limits.of(LimitScope.QUEUE, demand.queue)
        if demand.queue in self.paused:
            return 0
        name = permit(LimitScope.QUEUE, demand.queue)
        room = demand.limit
        if limit is not None and limit.max_running is not None:
            room = min(room, limit.max_running - self.running.get(name, 0))
        if limit is not None and limit.rate is not None:
            room = min(room, int(self.tokens.get(name, limit.rate)))
        return room

    def add(self, admission: Admission) -> None:
        """Count what was admitted."""
        for permits in admission.permits.values():
            for name in permits:
                self.running[name] = self.running.get(name, 0) + 1
        for name, count in admission.spent.items():
            self.tokens[name] = self.tokens.get(name, self._rate(name)) - count
        self.exhausted |= admission.exhausted
        self.rate_limited |= admission.rate_limited

    def emptied(self, demands: Iterable[QueueDemand], started: Mapping[str, int]) -> list[str]:
        """Return the queues of which more would have been taken, but for the queue's rate."""
        found = []
        for demand in demands:
            limit = self.limits.of(LimitScope.QUEUE, demand.queue)
            jobs = started.get(demand.queue, 0)
            if limit is None or limit.rate is None or not 0 < jobs < demand.limit:
                continue
            if self.tokens.get(permit(LimitScope.QUEUE, demand.queue), limit.rate) < 1:
                found.append(demand.queue)
        return found

    def _rate(self, name: str) -> float:
        limit = limit_of_permit(name, self.limits)
        return 0.0 if limit is None or limit.rate is None else float(limit.rate)

    def find_exhausted(self) -> set[str]:
        """Return the permits of queues, kinds and owners that nobody can have now."""
        return {name for name in {*self.running, *self.tokens} if self._is_exhausted(name)}

    def _is_exhausted(self, name: str) -> bool:
        limit = limit_of_permit(name, self.limits)
        if limit is None:
            return False
        full = limit.max_running is not None and self.running.get(name, 0) >= limit.max_running
        return full or (limit.rate is not None and self.tokens.get(name, limit.rate) < 1)


def limit_of_permit(name: str, limits: Limits) -> Limit | None:
    """Return the limit that a permit belongs to; None where there is none any more, or only the jobs' own."""
    scope, _, rest = name.partition(":")
    return limits.of(LimitScope(scope), rest)


class Claimed(NamedTuple):
    """What was taken, and what was left."""

    jobs: list[ClaimedJob]
    holders: list[AttemptKey]
    """Those of them that hold permits, which are to be released when they end."""
    rate_limited: frozenset[str]
    """Permits whose bucket ran empty with jobs left that needed a token."""


async def claim(
    connection: _Native, sql: LimitStatements, demands: Sequence[QueueDemand], *, node: str, lease_seconds: float
) -> Claimed:
    """Take runnable jobs as far as the limits allow, in one transaction."""
    claimed: list[ClaimedJob] = []
    holders: list[AttemptKey] = []
    async with connection.transaction():
        await connection.execute(sql.lock.native)
        await connection.execute(sql.forget_adopted.native)
        queues = text_array([demand.queue for demand in demands])
        await connection.execute(sql.promote.native, {"queues": queues, "limit": PROMOTED_TOGETHER})
        usage = await _read_usage(connection, sql)
        room = {demand.queue: usage.quota(demand) for demand in demands}
        spent: set[str] = set()
        for _ in range(_ROUNDS):
            candidates = await _candidates(connection, sql, room, usage.exhausted)
            admission = admit(candidates, usage.limits, usage.running, usage.tokens, room)
            if admission.permits:
                jobs = await _take(connection, sql, admission, node, lease_seconds)
                holders += [AttemptKey(job.id, job.token) for job in jobs if admission.permits[job.id]]
                claimed += jobs
                for job in jobs:
                    room[job.queue] -= 1
            usage.add(admission)
            spent |= admission.spent.keys()
            if not admission.exhausted or not any(quota > 0 for quota in room.values()):
                break
        if spent:
            await _write_tokens(connection, sql, usage)
            emptied = usage.emptied(demands, Counter(job.queue for job in claimed))
            usage.rate_limited |= await _still_wanted(connection, sql, emptied)
    return Claimed(claimed, holders, frozenset(usage.rate_limited & spent))


async def _still_wanted(connection: _Native, sql: LimitStatements, queues: Sequence[str]) -> set[str]:
    """Return the permits of those queues in which somebody waits for a turn."""
    if not queues:
        return set()
    cursor = await connection.execute(sql.runnable_queues.native, {"queues": text_array(queues)})
    return {permit(LimitScope.QUEUE, name) for (name,) in await cursor.fetchall()}


async def _read_usage(connection: _Native, sql: LimitStatements) -> _Usage:
    cursor = await connection.execute(sql.state.native)
    [(limits, paused, running, buckets, at)] = await cursor.fetchall()
    known = Limits(map(limit_from_row, limits or ()))
    tokens = {}
    for name, (level, elapsed) in (buckets or {}).items():
        limit = limit_of_permit(name, known)
        if limit is not None and limit.rate is not None:
            tokens[name] = refill(level, elapsed, limit.rate, limit.rate_period_seconds)
    usage = _Usage(known, frozenset(paused or ()), dict(running or {}), tokens, at, set(), set())
    usage.exhausted = usage.find_exhausted()
    return usage


async def _candidates(
    connection: _Native, sql: LimitStatements, room: Mapping[str, int], exhausted: Iterable[str]
) -> list[Candidate]:
    open_queues = {queue: quota for queue, quota in room.items() if quota > 0}
    if not open_queues:
        return []
    names: dict[str, list[str]] = {scope.value: [] for scope in LimitScope}
    for entry in exhausted:
        scope, _, name = entry.partition(":")
        names[scope].append(name)
    parameters = {
        "queues": text_array(open_queues),
        "quotas": plain_array(map(str, open_queues.values())),
        "kinds": text_array(names[LimitScope.KIND]),
        "owners": text_array(names[LimitScope.OWNER]),
        "keys": text_array(names[LimitScope.KEY]),
    }
    cursor = await connection.execute(sql.candidates.native, parameters)
    return list(map(Candidate._make, await cursor.fetchall()))


async def _take(
    connection: _Native, sql: LimitStatements, admission: Admission, node: str, lease_seconds: float
) -> list[ClaimedJob]:
    parameters = {
        "ids": plain_array([job_id.hex for job_id in admission.permits]),
        "node": node,
        "lease": lease_seconds,
    }
    cursor = await connection.execute(sql.claim_admitted.native, parameters)
    jobs = list(map(ClaimedJob._make, await cursor.fetchall()))
    held = [(name, job) for job in jobs for name in admission.permits[job.id]]
    if held:
        parameters = {
            "permits": text_array([name for name, _ in held]),
            "ids": plain_array([job.id.hex for _, job in held]),
            "tokens": plain_array([str(job.token) for _, job in held]),
        }
        await connection.execute(sql.hold.native, parameters)
    return jobs


async def _write_tokens(connection: _Native, sql: LimitStatements, usage: _Usage) -> None:
    levels = sorted(usage.tokens.items())
    parameters = {
        "permits": text_array([name for name, _ in levels]),
        "levels": plain_array([repr(level) for _, level in levels]),
        "at": usage.at,
    }
    await connection.execute(sql.spend.native, parameters)


async def release(connection: _Native, sql: LimitStatements, attempts: Sequence[AttemptKey]) -> None:
    """Give the permits of attempts back that end in this transaction, and say so with its commit."""
    parameters = {
        "ids": plain_array([attempt.job_id.hex for attempt in attempts]),
        "tokens": plain_array([str(attempt.token) for attempt in attempts]),
    }
    await connection.execute(sql.release.native, parameters)


async def housekeep(connection: _Native, sql: LimitStatements) -> None:
    """Forget permits of attempts that are over, and buckets that have long been full again."""
    await connection.execute(sql.forget.native)
    await connection.execute(sql.forget_buckets.native)


def limit_from_row(row: Mapping[str, Any]) -> Limit:
    """Return a limit as stored."""
    return Limit(
        scope=LimitScope(row["scope"]),
        name=row["name"],
        max_running=row["max_running"],
        max_queued=row["max_queued"],
        rate=row["rate"],
        rate_period_seconds=row["rate_period_seconds"],
    )
