"""What happened in a system, by actor class. Counted where it happens; depths and the living at the snapshot."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .messages import ERROR, KILLED, NORMAL, SHUTDOWN
from .tree_lock import tree_lock

if TYPE_CHECKING:
    from .dead_letters import DeadLetterReason, DeadLetters
    from .registry import Registry

STOP_REASONS = (NORMAL, SHUTDOWN, ERROR, KILLED)


HANDLER_SECONDS_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0)
"""Upper bounds of the buckets in which the time that handlers take is counted; a last one has no bound."""

FASTEST_BUCKET_SECONDS = HANDLER_SECONDS_BUCKETS[0]


class ClassCounters:
    """The counters of one actor class in one system.

    ``started`` and ``stopped`` change under ``tree_lock``, what concerns single messages under ``lock``; but where the
    class runs on an event loop, only that loop's thread counts handled messages, and needs no lock.
    """

    __slots__ = ("buckets", "dropped", "failed_asks", "handler_seconds", "lock", "started", "stopped")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.started = 0
        self.handler_seconds = 0.0
        self.buckets = [0] * (len(HANDLER_SECONDS_BUCKETS) + 1)
        self.failed_asks = 0
        self.dropped = 0
        self.stopped: Counter[str] = Counter()

    def add_handled(self, count: int, seconds: float, slow: list[float] | None) -> None:
        """Count messages and the time they took together; ``slow`` are those too slow for the first bucket."""
        self.handler_seconds += seconds
        # None may go down, not even for a moment: a snapshot by another thread would show a counter that was reset.
        self.buckets[0] += count - len(slow or ())
        for each in slow or ():
            self.buckets[bisect_left(HANDLER_SECONDS_BUCKETS, each)] += 1


@dataclass(frozen=True, slots=True)
class ActorClassStatistics:
    """One actor class.

    Attributes:
        started: actors started.
        stopped: actors ended, by ``normal``, ``shutdown``, ``error`` and ``killed``; other reasons count as shutdown.
        handled: messages whose handler ended, failed ones included.
        failed_asks: exceptions returned to a caller; those did not end the actor unless its class says so.
        dropped: messages dropped by the mailbox's overflow policy.
        live: actors that have not ended.
        mailbox_depth: user messages that wait, over all actors of the class.
        mailbox_depth_max: those of the actor that has most.
        handler_seconds: time from the beginning to the end of handlers, awaits included, in all.
        handler_buckets: how many messages took how long; one count for each of ``HANDLER_SECONDS_BUCKETS`` and one
            for those that took longer than the last. Their sum is ``handled``.
    """

    started: int
    stopped: Mapping[str, int]
    handled: int
    failed_asks: int
    dropped: int
    live: int
    mailbox_depth: int
    mailbox_depth_max: int
    handler_seconds: float = 0.0
    handler_buckets: tuple[int, ...] = ()

    @property
    def crashed(self) -> int:
        """Actors that ended by an exception."""
        return self.stopped[ERROR]


@dataclass(frozen=True, slots=True)
class SystemStatistics:
    """A snapshot of one system; classes by name, dead letters by reason."""

    classes: Mapping[str, ActorClassStatistics]
    dead_letters: Mapping[DeadLetterReason, int]


class Statistics:
    """The counters of one system."""

    def __init__(self, registry: Registry, dead_letters: DeadLetters) -> None:
        self._registry = registry
        self._dead_letters = dead_letters
        self._lock = threading.Lock()
        self._by_class: dict[type[Any], ClassCounters] = {}

    def of(self, actor_class: type[Any]) -> ClassCounters:
        """Return the counters of a class; made when first asked for."""
        counters = self._by_class.get(actor_class)
        if counters is None:
            with self._lock:
                counters = self._by_class.setdefault(actor_class, ClassCounters())
        return counters

    def snapshot(self) -> SystemStatistics:
        """Return the counts of now. Any thread; classes of the same name are added up."""
        with self._lock:
            by_class = list(self._by_class.items())
        by_name: dict[str, list[ActorClassStatistics]] = {}
        for actor_class, counters in by_class:
            depths = [ref.mailbox_depth for ref in self._registry.of_exactly(actor_class)]
            by_name.setdefault(actor_class.__name__, []).append(_class_statistics(counters, depths))
        return SystemStatistics(
            {name: _total(parts) for name, parts in sorted(by_name.items())}, self._dead_letters.counts()
        )


def _class_statistics(counters: ClassCounters, depths: list[int]) -> ActorClassStatistics:
    with tree_lock, counters.lock:
        buckets = tuple(counters.buckets)
        return ActorClassStatistics(
            started=counters.started,
            stopped={reason: counters.stopped[reason] for reason in STOP_REASONS},
            handled=sum(buckets),
            failed_asks=counters.failed_asks,
            dropped=counters.dropped,
            live=len(depths),
            mailbox_depth=sum(depths),
            mailbox_depth_max=max(depths, default=0),
            handler_seconds=counters.handler_seconds,
            handler_buckets=buckets,
        )


def _total(parts: list[ActorClassStatistics]) -> ActorClassStatistics:
    if len(parts) == 1:
        return parts[0]
    return ActorClassStatistics(
        started=sum(part.started for part in parts),
        stopped={reason: sum(part.stopped[reason] for part in parts) for reason in STOP_REASONS},
        handled=sum(part.handled for part in parts),
        failed_asks=sum(part.failed_asks for part in parts),
        dropped=sum(part.dropped for part in parts),
        live=sum(part.live for part in parts),
        mailbox_depth=sum(part.mailbox_depth for part in parts),
        mailbox_depth_max=max(part.mailbox_depth_max for part in parts),
        handler_seconds=sum(part.handler_seconds for part in parts),
        handler_buckets=tuple(map(sum, zip(*(part.handler_buckets for part in parts), strict=True))),
    )
