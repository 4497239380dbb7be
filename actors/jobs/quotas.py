"""Bounds on what waits: whether a spawn is taken or refused. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from callboard.actors.errors import QueueFull

from .controls import Controls
from .limits import Limits, LimitScope
from .types import NewJob

RETRY_AFTER_SECONDS: Final = 1.0
"""When another try is worth it, where a queue or an owner is full."""
DRAINING_RETRY_AFTER_SECONDS: Final = 60.0
"""The same for a queue that is being drained: somebody has to resume it."""


class QuotaCheck(NamedTuple):
    """One bound that a spawn has to keep."""

    scope: LimitScope
    name: str
    max_queued: int
    adding: int
    """How many jobs the spawn would add."""


def quota_checks(jobs: Sequence[NewJob], limits: Limits) -> list[QuotaCheck]:
    """Return the bounds that these jobs have to keep, in the order in which they are to be locked."""
    if not limits.bounds_queued:
        return []
    adding: Counter[tuple[LimitScope, str]] = Counter()
    for job in jobs:
        adding[LimitScope.QUEUE, job.queue] += 1
        if job.owner is not None:
            adding[LimitScope.OWNER, job.owner] += 1
    found = []
    for (scope, name), count in sorted(adding.items()):
        limit = limits.of(scope, name)
        if limit is not None and limit.max_queued is not None:
            found.append(QuotaCheck(scope, name, limit.max_queued, count))
    return found


def require_room(check: QuotaCheck, queued: int) -> None:
    """Accept jobs for which there is room.

    Args:
        check: the bound.
        queued: how many wait now; counted no further than the bound.

    Raises:
        QueueFull: there is no room for all of them.
    """
    if queued + check.adding <= check.max_queued:
        return
    found = f"{queued:,}" if queued < check.max_queued else "all of them"
    advice = (
        "none of them fits even when nothing waits: spawn fewer at a time, or raise the limit"
        if check.adding > check.max_queued
        else f"try again in {RETRY_AFTER_SECONDS:g} s, or raise the limit"
    )
    raise QueueFull(
        f"{check.scope} {check.name!r} may have {check.max_queued:,} jobs waiting and has {found}; "
        f"{check.adding:,} more were refused, nothing was written; {advice} "
        f"(callboard limit set {check.scope} {check.name} --max-queued N)",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )


def require_open_queues(jobs: Iterable[NewJob], controls: Controls) -> None:
    """Accept jobs of queues that are not being drained. Children are taken: their parents were there before.

    Raises:
        QueueFull: a queue is being drained.
    """
    for queue in sorted({job.queue for job in jobs if job.parent_id is None}):
        if controls.is_draining(queue):
            raise QueueFull(
                f"queue {queue!r} is being drained and takes no new jobs; nothing was written. Use another queue, or "
                f"wait until somebody runs `callboard queue resume {queue}`",
                retry_after_seconds=DRAINING_RETRY_AFTER_SECONDS,
            )
