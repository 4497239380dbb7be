"""The metric families of the leader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from threading import Lock
from typing import Final

from prometheus_client.core import Metric

from . import metric_list as families
from .leader_telemetry import ElectionOutcome, LockLoss
from .metric_series import LabelGuard, Numbers, new_metric

_ELECTION: Final = "leader"
_COUNTED: Final = (families.LEADER_ELECTIONS, families.LEADER_FAILOVERS, families.LEADER_LOCK_LOST)


class LeaderMetrics:
    """Implements ``LeaderTelemetry`` for a scrape. Every method may be called from any thread.

    Args:
        leads: asked in each scrape: whether this process may act as the leader then.
        guard: bounds of label values.
    """

    def __init__(self, leads: Callable[[], bool], guard: LabelGuard) -> None:
        self._leads = leads
        self._lock = Lock()
        self._counters = {family: Numbers(family, guard) for family in _COUNTED}
        self._term: int | None = None
        self._acquired_at: datetime | None = None
        self._proved_at: datetime | None = None
        self._counters[families.LEADER_FAILOVERS].set(_ELECTION, value=0)
        for family in (families.LEADER_ELECTIONS, families.LEADER_LOCK_LOST):
            for value in family.labels[1].values or ():
                self._counters[family].set(_ELECTION, value, value=0)

    def election_ended(self, outcome: ElectionOutcome) -> None:
        """Count an election."""
        with self._lock:
            self._counters[families.LEADER_ELECTIONS].add(_ELECTION, outcome)

    def leader_changed(self) -> None:
        """Count a change of leader."""
        with self._lock:
            self._counters[families.LEADER_FAILOVERS].add(_ELECTION)

    def term_seen(self, term: int) -> None:
        """Set the current term."""
        with self._lock:
            self._term = term

    def lock_acquired(self, at: datetime) -> None:
        """Set when the lock was got."""
        with self._lock:
            self._acquired_at = self._proved_at = at

    def lock_proved(self, at: datetime) -> None:
        """Set when it was last proved."""
        with self._lock:
            self._proved_at = at

    def lock_lost(self, reason: LockLoss) -> None:
        """Count a lost lock."""
        with self._lock:
            self._counters[families.LEADER_LOCK_LOST].add(_ELECTION, reason)
            self._acquired_at = self._proved_at = None

    def metrics(self) -> Iterator[Metric]:
        """Yield the families as they are now."""
        with self._lock:
            counted = [counter.metric() for counter in self._counters.values()]
            term, acquired_at, proved_at = self._term, self._acquired_at, self._proved_at
        yield _gauge(families.LEADER_IS_LEADER, float(self._leads()))
        yield _gauge(families.LEADER_TERM, term)
        yield _moment(families.LEADER_LOCK_ACQUIRED, acquired_at)
        yield _moment(families.LEADER_LOCK_RENEWED, proved_at)
        yield from counted


def _gauge(family: families.MetricFamily, value: float | None) -> Metric:
    metric = new_metric(family)
    if value is not None:
        metric.add_metric((_ELECTION,), value)
    return metric


def _moment(family: families.MetricFamily, at: datetime | None) -> Metric:
    return _gauge(family, None if at is None else at.timestamp())
