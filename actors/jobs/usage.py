"""How much of the limits is used, over all queues, kinds, owners and keys that they bound. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from .limits import EVERY, Limits, LimitScope

Bound: TypeAlias = Literal["running", "queued"]

QUOTAS: Final = (*(f"{scope}_running" for scope in LimitScope), "queue_queued", "owner_queued")
"""What limits bound, by the names that metrics have for it."""


class QuotaUsage(NamedTuple):
    """One kind of limit, and those who are subject to it."""

    quota: str
    """One of ``QUOTAS``."""
    max_ratio: float
    """The highest of what is used ÷ what is allowed; 1 where nothing is allowed."""
    at_limit: int
    """How many use all that they may, or more."""


def usages(
    limits: Limits,
    running: Mapping[tuple[LimitScope, str], int],
    own_limits: Mapping[str, int],
    queued: Mapping[tuple[LimitScope, str], int],
) -> tuple[QuotaUsage, ...]:
    """Return how much is used of each kind of limit that there is.

    Args:
        limits: those that hold.
        running: scope and name to the jobs that run and count.
        own_limits: concurrency key to the limit that its running jobs have brought themselves.
        queued: queue or owner to the jobs that wait.
    """
    counts: dict[Bound, Mapping[tuple[LimitScope, str], int]] = {"running": running, "queued": queued}
    ratios: dict[str, list[float]] = {}
    for bound, used in counts.items():
        for scope, name, allowed in _bounded(limits, bound, used, own_limits):
            jobs = used.get((scope, name), 0)
            ratios.setdefault(f"{scope}_{bound}", []).append(jobs / allowed if allowed else 1.0)
    return tuple(
        QuotaUsage(quota, max(ratios[quota]), sum(ratio >= 1 for ratio in ratios[quota]))
        for quota in QUOTAS
        if quota in ratios
    )


def _bounded(
    limits: Limits, bound: Bound, used: Mapping[tuple[LimitScope, str], int], own_limits: Mapping[str, int]
) -> Iterator[tuple[LimitScope, str, int]]:
    """Yield everybody who is subject to a limit, whether anything of theirs is there or not, and the limit."""
    named = {(limit.scope, limit.name) for limit in limits if limit.name != EVERY}
    own = {(LimitScope.KEY, key) for key in own_limits} if bound == "running" else set()
    for scope, name in sorted({*used, *named, *own}):
        limit = limits.of(scope, name)
        allowed = None if limit is None else getattr(limit, f"max_{bound}")
        if allowed is None and (scope, name) in own:
            allowed = own_limits[name]
        if allowed is not None:
            yield scope, name, allowed
