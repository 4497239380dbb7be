"""Spawns the jobs of schedules. What the leader does again and again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from callboard.actors.job_store import JobStore
from callboard.actors.ports import Telemetry

_log = logging.getLogger(__name__)

TURN_INTERVAL_SECONDS: Final = 0.5
"""How often the leader looks: a tick is taken at most so late. One look at an index of few rows."""
SCHEDULES_PER_TURN: Final = 500


class Scheduler:
    """One leader's turns. What it must not do twice, the database keeps it from.

    Args:
        store: where schedules are.
        telemetry: counts.
        fence: returns the leader's term, or raises ``NotLeader``.
        node: who leads, for the history.
    """

    def __init__(self, store: JobStore, telemetry: Telemetry, fence: Callable[[], int], *, node: str) -> None:
        self._store = store
        self._telemetry = telemetry
        self._fence = fence
        self._node = node
        self._failing: dict[str, str] = {}

    async def turn(self) -> None:
        """Spawn what is due."""
        term = self._fence()
        fired = await self._store.schedules.fire(
            actor=f"leader:{self._node}#{term}", limit=SCHEDULES_PER_TURN, term=term
        )
        for one in fired:
            if one.error is not None:
                self._failed(one.schedule, str(one.error))
                continue
            if self._failing.pop(one.schedule, None) is not None:
                _log.info("schedule %s spawns jobs again", one.schedule)
            if one.jobs:
                self._telemetry.jobs_created(one.kind, one.queue, len(one.jobs))

    def _failed(self, schedule: str, error: str) -> None:
        if self._failing.get(schedule) != error:
            _log.warning("schedule %s cannot spawn its job, and tries again: %s", schedule, error)
            self._failing[schedule] = error
