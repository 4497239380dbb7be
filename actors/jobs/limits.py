"""Limits on what runs and on what waits: which jobs of a list may start, and whether a queue takes more.

Pure: usage and time come as arguments. The stores count, ask, and write what is answered, all under one lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from callboard.actors.errors import ConfigurationError

EVERY: Final = "*"
"""As the name of a limit: each queue (kind, owner, key) that has none of its own."""

LONGEST_NAME: Final = 200
LARGEST_LIMIT: Final = 2**31 - 1


class LimitScope(StrEnum):
    """What a limit counts."""

    QUEUE = "queue"
    KIND = "kind"
    OWNER = "owner"
    KEY = "key"
    """Jobs with one ``concurrency_key``."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Bounds on the jobs of one queue, kind, owner or concurrency key, over all nodes.

    Attributes:
        scope: what is counted.
        name: which queue, kind, owner or key; ``*`` for each that has no limit of its own (each counted by itself).
        max_running: most jobs that run at a time; None is unlimited.
        max_queued: most jobs that wait, for queues and owners; beyond, ``spawn`` raises ``QueueFull``.
        rate: most starts in ``rate_period_seconds``, as a token bucket that holds as many; None is unlimited.
        rate_period_seconds: of the rate; at least a second.

    Raises:
        ConfigurationError: a bound is out of bounds, or there is none at all.
    """

    scope: LimitScope
    name: str
    max_running: int | None = None
    max_queued: int | None = None
    rate: int | None = None
    rate_period_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= LONGEST_NAME or not self.name.isprintable():
            raise ConfigurationError(f"limit: name {self.name!r}: expected 1 to {LONGEST_NAME} printable characters")
        for field in ("max_running", "max_queued", "rate"):
            value = getattr(self, field)
            if value is not None and (not isinstance(value, int) or not 0 <= value <= LARGEST_LIMIT):
                raise ConfigurationError(f"limit of {self}: {field}: got {value!r}, expected a number from 0 up")
        if self.max_running is None and self.max_queued is None and self.rate is None:
            raise ConfigurationError(f"limit of {self}: expected one of max_running, max_queued and rate, got none")
        if self.max_queued is not None and self.scope not in {LimitScope.QUEUE, LimitScope.OWNER}:
            raise ConfigurationError(f"limit of {self}: max_queued is for queues and owners; bound the queue instead")
        if not 1 <= self.rate_period_seconds <= LARGEST_LIMIT:
            raise ConfigurationError(
                f"limit of {self}: rate_period_seconds: got {self.rate_period_seconds!r}, expected 1 or more; "
                f"write 1000 a second as rate=1000"
            )

    def __str__(self) -> str:
        return f"{self.scope} {self.name}"

    @property
    def bounds_starts(self) -> bool:
        """Whether it has a say when a job is to start."""
        return self.max_running is not None or self.rate is not None


class Limits:
    """The limits that hold now.

    Args:
        limits: all of them; one for each scope and name.
    """

    def __init__(self, limits: Iterable[Limit] = ()) -> None:
        self._limits = {(limit.scope, limit.name): limit for limit in limits}
        starting = {limit.scope for limit in self._limits.values() if limit.bounds_starts}
        self.bounds_every_queue = bool(starting & {LimitScope.KIND, LimitScope.OWNER})
        """Whether jobs of any queue may be hindered: a limit of kinds or owners counts over all queues."""
        self.bounds_queued = any(limit.max_queued is not None for limit in self._limits.values())

    def __iter__(self) -> Iterator[Limit]:
        return iter(sorted(self._limits.values(), key=lambda limit: (limit.scope, limit.name)))

    def of(self, scope: LimitScope, name: str) -> Limit | None:
        """Return the limit of a name: its own, or that of ``*``."""
        return self._limits.get((scope, name)) or self._limits.get((scope, EVERY))

    def bounds_queue(self, queue: str) -> bool:
        """Tell whether a limit may hinder a job of this queue from starting, its concurrency key aside."""
        if self.bounds_every_queue:
            return True
        limit = self.of(LimitScope.QUEUE, queue)
        return limit is not None and limit.bounds_starts


class Candidate(NamedTuple):
    """A job that would start if no limit hindered it."""

    id: UUID
    queue: str
    kind: str
    owner: str | None
    concurrency_key: str | None
    concurrency_limit: int | None


class Requirement(NamedTuple):
    """One limit that a job is subject to."""

    permit: str
    """What the jobs under it have in common: ``scope:name``."""
    max_running: int | None
    rate: int | None


class Admission(NamedTuple):
    """Which jobs start, and what they take."""

    permits: dict[UUID, tuple[str, ...]]
    """The jobs that start, in order, each with the permits that it holds while it runs."""
    spent: dict[str, int]
    """Tokens taken from each bucket."""
    exhausted: frozenset[str]
    """Permits that hindered somebody: whoever needs one of them cannot start now."""
    rate_limited: frozenset[str] = frozenset()
    """Those of them whose bucket is empty."""


def permit(scope: LimitScope, name: str) -> str:
    """Return what jobs under one limit have in common."""
    return f"{scope.value}:{name}"


def requirements(job: Candidate, limits: Limits) -> list[Requirement]:
    """Return the limits that a job is subject to. The limit set for a key wins over the job's own."""
    names = (
        (LimitScope.QUEUE, job.queue),
        (LimitScope.KIND, job.kind),
        (LimitScope.OWNER, job.owner),
        (LimitScope.KEY, job.concurrency_key),
    )
    found = []
    for scope, name in names:
        if name is None:
            continue
        limit = limits.of(scope, name)
        max_running = None if limit is None else limit.max_running
        if scope is LimitScope.KEY and max_running is None:
            max_running = job.concurrency_limit
        rate = None if limit is None else limit.rate
        if max_running is not None or rate is not None:
            found.append(Requirement(permit(scope, name), max_running, rate))
    return found


def admit(
    candidates: Sequence[Candidate],
    limits: Limits,
    running: Mapping[str, int],
    tokens: Mapping[str, float],
    at_most: Mapping[str, int],
) -> Admission:
    """Choose who starts: each in order, unless a limit is reached; whom one hinders does not hinder the next.

    Args:
        candidates: in the order in which they should start.
        limits: those that hold.
        running: permit to how many jobs hold it.
        tokens: permit to the tokens in its bucket; a bucket that is not there is full.
        at_most: queue to the number of its jobs that there is room for.
    """
    taken: dict[str, int] = {}
    spent: dict[str, int] = {}
    room = dict(at_most)
    permits: dict[UUID, tuple[str, ...]] = {}
    exhausted: set[str] = set()
    rate_limited: set[str] = set()
    for job in candidates:
        if room.get(job.queue, 0) <= 0:
            continue
        needed = requirements(job, limits)
        full = [
            one.permit
            for one in needed
            if one.max_running is not None and running.get(one.permit, 0) + taken.get(one.permit, 0) >= one.max_running
        ]
        empty = [
            one.permit
            for one in needed
            if one.rate is not None and tokens.get(one.permit, one.rate) - spent.get(one.permit, 0) < 1
        ]
        if full or empty:
            exhausted.update(full, empty)
            rate_limited.update(empty)
            continue
        room[job.queue] -= 1
        for one in needed:
            if one.max_running is not None:
                taken[one.permit] = taken.get(one.permit, 0) + 1
            if one.rate is not None:
                spent[one.permit] = spent.get(one.permit, 0) + 1
        permits[job.id] = tuple(one.permit for one in needed if one.max_running is not None)
    return Admission(permits, spent, frozenset(exhausted), frozenset(rate_limited))


def refill(tokens: float, elapsed_seconds: float, rate: int, period_seconds: float) -> float:
    """Return a bucket's tokens after some time: ``rate`` more in each period, and never more than ``rate``.

    Time that runs backwards adds none and takes none.
    """
    return min(float(rate), tokens + max(0.0, elapsed_seconds) * rate / period_seconds)
