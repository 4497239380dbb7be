"""What operators have set on queues and limits, in PostgreSQL: read by every node, written by commands."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

import psycopg

from callboard.actors.jobs.controls import Controls
from callboard.actors.jobs.limits import Limit, Limits, LimitScope
from callboard.actors.jobs.quotas import QuotaCheck, require_room
from callboard.actors.jobs.types import QueueControl

from .limit_statements import LimitStatements
from .limiting import limit_from_row
from .literals import text_array
from .spawning import Execute

_Result = TypeVar("_Result")
_Native = psycopg.AsyncConnection[Any]

READ_INTERVAL_SECONDS: Final = 1.0
"""So old may be what a node believes; a notification makes it read at once."""


class Runner(Protocol):
    """Runs something on a connection of the store's pool, with its measurements and errors."""

    async def __call__(self, operation: str, body: Callable[[_Native], Awaitable[_Result]]) -> _Result:
        """Return what ``body`` returns."""
        ...


class PostgresControls:
    """Implements ``ControlStore``.

    What is believed here decides the way that a claim takes, and no more: that a queue is paused or limited the claims
    find out in the database.

    Args:
        sql: the statements.
        run: runs them.
    """

    def __init__(self, sql: LimitStatements, run: Runner) -> None:
        self._sql = sql
        self._run = run
        self._current = Controls()
        self._read_at: float | None = None
        self._marked: set[str] = set()

    def invalidate(self) -> None:
        """Read again before the next use."""
        self._read_at = None

    async def current(self) -> Controls:
        """Return what holds, as read no longer ago than the interval."""
        if self._read_at is None or time.monotonic() - self._read_at >= READ_INTERVAL_SECONDS:
            return await self.read()
        return self._current

    async def read(self) -> Controls:
        """Return what holds now."""
        began = time.monotonic()

        async def body(connection: _Native) -> Controls:
            cursor = await connection.execute(self._sql.controls.native)
            [(limits, queues)] = await cursor.fetchall()
            return _controls(limits or (), queues or ())

        self._current = await self._run("controls", body)
        self._read_at = began
        return self._current

    async def set_limit(self, limit: Limit, *, actor: str) -> None:
        """Set a limit in the place of the one that its scope and name had. What runs already counts."""
        values = {
            "max_running": limit.max_running,
            "max_queued": limit.max_queued,
            "rate": limit.rate,
            "rate_period_seconds": limit.rate_period_seconds,
            "actor": actor,
        }
        name = {"scope": limit.scope.value, "name": limit.name}

        async def body(connection: _Native) -> None:
            # First the limit, committed: claims by the other way then leave its jobs alone. Then those that it missed.
            async with connection.transaction():
                await connection.execute(self._sql.set_limit.native, name | values)
                await connection.execute(self._sql.announce.native)
            if limit.max_running is not None:
                async with connection.transaction():
                    await connection.execute(self._sql.lock.native)
                    await connection.execute(self._sql.hold_running.native, name)

        await self._run("set_limit", body)
        self.invalidate()

    async def clear_limit(self, scope: LimitScope, name: str) -> bool:
        """Remove a limit; False if there was none."""

        async def body(connection: _Native) -> bool:
            async with connection.transaction():
                cursor = await connection.execute(self._sql.clear_limit.native, {"scope": scope.value, "name": name})
                cleared = await cursor.fetchone() is not None
                await connection.execute(self._sql.announce.native)
                return cleared

        cleared = await self._run("clear_limit", body)
        self.invalidate()
        return cleared

    async def set_queue(
        self, name: str, *, paused: bool | None = None, draining: bool | None = None, actor: str
    ) -> None:
        """Pause, drain or resume a queue: from now on no claim, or no spawn, takes its jobs."""
        parameters = {"name": name, "paused": paused, "draining": draining, "actor": actor}

        async def body(connection: _Native) -> None:
            async with connection.transaction():
                await connection.execute(self._sql.set_queue.native, parameters)
                await connection.execute(self._sql.announce.native)

        await self._run("set_queue", body)
        self.invalidate()

    async def mark_keyed(self, queues: Iterable[str], *, actor: str) -> None:
        """Record that queues get jobs with concurrency keys: nodes then look for those. Once for each queue."""
        new = set(queues) - self._marked
        if not new:
            return
        parameters = {"queues": text_array(sorted(new)), "actor": actor}

        async def body(connection: _Native) -> None:
            async with connection.transaction():
                cursor = await connection.execute(self._sql.mark_keyed.native, parameters)
                if cursor.rowcount:
                    await connection.execute(self._sql.announce.native)

        await self._run("mark_keyed", body)
        self._marked |= new
        self.invalidate()

    async def require_room(self, execute: Execute, checks: Sequence[QuotaCheck], *, exact: bool) -> None:
        """Count what waits under each bound, and accept or refuse what a spawn would add.

        Args:
            execute: runs statements in the transaction of the spawn.
            checks: the bounds.
            exact: whether to lock the bounds to the end of the transaction: for short ones.

        Raises:
            QueueFull: one is reached. Nothing was written.
        """
        if exact:
            names = [f"{check.scope.value}:{check.name}" for check in checks]
            await execute(self._sql.lock_quotas, {"quotas": text_array(names)})
        for check in checks:
            is_queue = check.scope is LimitScope.QUEUE
            statement = self._sql.queued_in_queue if is_queue else self._sql.queued_of_owner
            [row] = await execute(statement, {"name": check.name, "bound": check.max_queued})
            require_room(check, row[0])


def _controls(limits: Iterable[dict[str, Any]], queues: Iterable[dict[str, Any]]) -> Controls:
    queues = list(queues)
    return Controls(
        [
            QueueControl(
                queue["name"],
                paused=queue["paused"],
                draining=queue["draining"],
                changed_at=datetime.fromisoformat(queue["changed_at"]),
                changed_by=queue["changed_by"],
            )
            for queue in queues
        ],
        Limits(map(limit_from_row, limits)),
        [queue["name"] for queue in queues if queue["keyed"]],
    )
