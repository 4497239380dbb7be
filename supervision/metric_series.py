"""Where measurements add up between two scrapes: plain dictionaries, for the hot path's sake.

A metric object of prometheus_client costs a lock and a dictionary for each update of each family. Here a measurement
is one dictionary look-up, and the families are computed when somebody scrapes. Nothing in here locks: the owner does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from .metric_list import LABEL_LIMIT, OTHER, Label, MetricFamily, MetricType

LabelValues = tuple[str, ...]


class LabelGuard:
    """Keeps the number of series bounded: a value too many becomes ``OTHER``, and is counted."""

    def __init__(self, limit: int = LABEL_LIMIT) -> None:
        self._limit = limit
        self._registered: dict[str, set[str]] = {}
        self.overflows: dict[str, int] = {}
        """How many measurements were folded into ``OTHER``, by label."""

    def fold(self, labels: Sequence[Label], values: Sequence[str]) -> LabelValues:
        """Return the values, each one that its label may not take replaced by ``OTHER``."""
        return tuple(self._fold(label, str(value)) for label, value in zip(labels, values, strict=True))

    def _fold(self, label: Label, value: str) -> str:
        if label.values is not None:
            return value if value in label.values else self._other(label)
        known = self._registered.setdefault(label.name, set())
        if value in known:
            return value
        if len(known) >= self._limit:
            return self._other(label)
        known.add(value)
        return value

    def _other(self, label: Label) -> str:
        self.overflows[label.name] = self.overflows.get(label.name, 0) + 1
        return OTHER


class Numbers:
    """The values of one counter or gauge, by label values."""

    def __init__(self, family: MetricFamily, guard: LabelGuard) -> None:
        self._family = family
        self._guard = guard
        self._values: dict[LabelValues, float] = {}

    def add(self, *labels: str, amount: float = 1) -> None:
        """Add to a value, from 0 if it is new."""
        if labels not in self._values:
            labels = self._guard.fold(self._family.labels, labels)
        self._values[labels] = self._values.get(labels, 0) + amount

    def set(self, *labels: str, value: float) -> None:
        """Replace a value."""
        if labels not in self._values:
            labels = self._guard.fold(self._family.labels, labels)
        self._values[labels] = value

    def metric(self) -> Metric:
        """Return the family as it is now."""
        metric = new_metric(self._family)
        for labels, value in self._values.items():
            metric.add_metric(labels, value)
        return metric


class Distribution:
    """Counts of observations in buckets, by label values.

    The label values may be finer than those of any one family; ``merged`` adds up what a family does not tell apart.
    """

    def __init__(self, labels: tuple[Label, ...], bounds: tuple[float, ...], guard: LabelGuard) -> None:
        self._labels = labels
        self._bounds = bounds
        self._guard = guard
        self._series: dict[LabelValues, _Buckets] = {}

    def observe(self, labels: LabelValues, value: float) -> None:
        """Count one observation. This is the hot path: label values seen before cost one look-up."""
        buckets = self._series.get(labels)
        if buckets is None:
            buckets = self._folded(labels)
        buckets.counts[bisect_left(self._bounds, value)] += 1
        buckets.total += value

    def _folded(self, labels: LabelValues) -> _Buckets:
        folded = self._guard.fold(self._labels, labels)
        buckets = self._series.get(folded)
        if buckets is None:
            buckets = self._series[folded] = _Buckets(len(self._bounds) + 1)
        return buckets

    def snapshot(self) -> Distribution:
        """Return a copy that no longer changes: quick to take under a lock, to be computed with outside of it."""
        copy = Distribution(self._labels, self._bounds, self._guard)
        copy._series = {labels: buckets.copy() for labels, buckets in self._series.items()}
        return copy

    def counts(self) -> Iterator[tuple[LabelValues, int]]:
        """Yield how many observations each combination of label values has."""
        for labels, buckets in self._series.items():
            yield labels, sum(buckets.counts)

    def histogram(self, family: MetricFamily) -> HistogramMetricFamily:
        """Return a family over some of the labels."""
        positions = [self._labels.index(label) for label in family.labels]
        merged: dict[LabelValues, _Buckets] = {}
        for labels, buckets in self._series.items():
            key = tuple(labels[position] for position in positions)
            merged.setdefault(key, _Buckets(len(self._bounds) + 1)).add(buckets)
        metric = HistogramMetricFamily(family.name, family.help, labels=family.label_names)
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for key, buckets in merged.items():
            metric.add_metric(key, list(zip(bounds, accumulate(buckets.counts), strict=True)), buckets.total)
        return metric


class _Buckets:
    __slots__ = ("counts", "total")

    def __init__(self, size: int) -> None:
        self.counts = [0] * size
        self.total = 0.0

    def copy(self) -> _Buckets:
        copy = _Buckets(0)
        copy.counts = self.counts.copy()
        copy.total = self.total
        return copy

    def add(self, other: _Buckets) -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


def new_metric(family: MetricFamily) -> CounterMetricFamily | GaugeMetricFamily:
    """Return an empty counter or gauge of prometheus_client for a family of ours."""
    make = CounterMetricFamily if family.type is MetricType.COUNTER else GaugeMetricFamily
    return make(family.name, family.help, labels=family.label_names)
