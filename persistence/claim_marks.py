"""Where in the order of turns a claim may begin, while what its predecessors took cannot be vacuumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from callboard.actors.jobs.types import QueueDemand

from .literals import plain_array, text_array

DEAD_ENTRIES: Final = 1_000
"""A claim that has gone through no more than so many entries for nothing makes no mark."""
WHOLE_INTERVAL_SECONDS: Final = 1.0
"""So long at most do claims begin at marks before one goes through the whole range again."""
_ENTRIES_PER_SECOND: Final = 30_000
"""For so many dead entries in the whole range, claims begin at marks for a second: the walk takes some 30 ms of it."""

_BEGINNING: Final = "-infinity"
_NO_ID: Final = UUID(int=0)


class Walk(NamedTuple):
    """How a claim has gone through one queue: the first rows of its answer."""

    queue: str
    jobs: int
    """How many it took."""
    entries: int
    """How many entries of the indexes it has looked at, for all queues together."""
    last_turn: str | None
    """The turn of the last job that it took, as PostgreSQL writes it; None where it took none that had one."""
    last_id: UUID | None
    a_second_ago: str
    """On the database's clock, as PostgreSQL writes it."""


class _Mark(NamedTuple):
    turn: str
    job_id: UUID
    delayed_until: str
    whole_at: float


class ClaimMarks:
    """One mark for each queue whose claims find much that is dead; none in ordinary times.

    A mark is a hint. Nothing that is written below it is lost: a claim goes through the whole range again when
    ``WHOLE_INTERVAL_SECONDS`` are over, or sooner. A claim that got all it wanted leaves the mark at the last job that
    it took. One that got less has taken all there was, and new jobs come at the present moment: it leaves the mark a
    second before that, so that what is committed late is found as well.

    Args:
        monotonic: the clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._marks: dict[str, _Mark] = {}

    def begin(self, demands: Sequence[QueueDemand]) -> dict[str, str]:
        """Forget the marks whose time is over; return the parameters of the claim that say where it begins."""
        now = self._monotonic()
        marks = []
        for demand in demands:
            mark = self._marks.get(demand.queue)
            if mark is not None and mark.whole_at <= now:
                del self._marks[demand.queue]
                mark = None
            marks.append(mark or _Mark(_BEGINNING, _NO_ID, _BEGINNING, now))
        return {
            "turns": text_array([mark.turn for mark in marks]),
            "turn_ids": plain_array([mark.job_id.hex for mark in marks]),
            "run_ats": text_array([mark.delayed_until for mark in marks]),
        }

    def learn(self, demands: Iterable[QueueDemand], walks: Sequence[Walk]) -> None:
        """Set the marks for the next claim.

        Args:
            demands: what the claim was asked for.
            walks: what it has come back with.
        """
        wanted = {demand.queue: demand.limit for demand in demands}
        dead = max((walk.entries for walk in walks), default=0) - sum(walk.jobs for walk in walks)
        for walk in walks:
            before = self._marks.get(walk.queue)
            if before is None:
                if dead <= DEAD_ENTRIES:
                    continue
                pause = min(WHOLE_INTERVAL_SECONDS, dead / _ENTRIES_PER_SECOND)
                before = _Mark(_BEGINNING, _NO_ID, _BEGINNING, self._monotonic() + pause)
            if walk.jobs < wanted[walk.queue]:
                mark = _Mark(walk.a_second_ago, _NO_ID, walk.a_second_ago, before.whole_at)
            elif walk.last_turn is not None and walk.last_id is not None:
                mark = before._replace(turn=walk.last_turn, job_id=walk.last_id)
            else:
                mark = before
            self._marks[walk.queue] = mark
