"""The metric families of LLM batches."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Final, get_args

from prometheus_client.core import Metric

from callboard.actors.batches.metrics import BatchPollingMetrics, CycleOutcome
from callboard.actors.batches.state import OUTCOMES, TERMINAL, BatchStatus, ItemStatus
from callboard.actors.breaker import BreakerState

from . import metric_list as families
from .metric_series import Distribution, LabelGuard, Numbers

_OF_LAST_CYCLE: Final = (
    (families.BATCH_POLL_BATCHES, "batches"),
    (families.BATCH_POLL_RUNNING, "running"),
    (families.BATCH_POLL_COMPLETED, "completed"),
    (families.BATCH_POLL_UPDATED_ITEMS, "updated_items"),
)
"""The gauges, and the cycle's numbers that they show."""
_OTHERS: Final = (
    families.BATCH_POLL_START,
    families.BATCH_POLL_LAST_SUCCESS,
    families.BATCH_POLL_CYCLES,
    families.BATCH_POLL_ERRORS,
    families.BATCH_POLL_UNRECOGNIZED,
    families.BATCHES_FINISHED,
    families.BATCH_ITEMS_UPDATED,
    families.LLM_REQUESTS_PUT_BACK,
    families.BREAKER_STATE,
    families.BREAKER_TRANSITIONS,
)


class BatchMetrics:
    """Implements ``BatchTelemetry`` for a scrape. Every method may be called from any thread.

    Args:
        guard: bounds of label values.
    """

    def __init__(self, guard: LabelGuard) -> None:
        self._lock = Lock()
        self._numbers = {
            family: Numbers(family, guard) for family in (*_OTHERS, *(gauge for gauge, _ in _OF_LAST_CYCLE))
        }
        for outcome in get_args(CycleOutcome):
            self._numbers[families.BATCH_POLL_CYCLES].set(outcome, value=0)
        self._cycles = Distribution((), families.JOB_BUCKETS, guard)
        self._providers: set[str] = set()

    def batches_polled(self, cycle: BatchPollingMetrics, seconds: float) -> None:
        """Show a cycle's numbers until the next."""
        with self._lock:
            for provider in cycle.batches:
                self._provider_seen(provider)
            for gauge, name in _OF_LAST_CYCLE:
                counts = getattr(cycle, name)
                for provider in self._providers:
                    self._numbers[gauge].set(provider, value=counts[provider])
            for (provider, stage), count in cycle.errors.items():
                self._numbers[families.BATCH_POLL_ERRORS].add(provider, stage, amount=count)
            for provider, count in cycle.unrecognized.items():
                self._numbers[families.BATCH_POLL_UNRECOGNIZED].add(provider, amount=count)
            began = cycle.start_time.timestamp()
            self._numbers[families.BATCH_POLL_START].set(value=began)
            self._numbers[families.BATCH_POLL_CYCLES].add(cycle.outcome)
            if cycle.outcome == "ok":
                self._numbers[families.BATCH_POLL_LAST_SUCCESS].set(value=began + seconds)
            self._cycles.observe((), seconds)

    def batch_ended(self, provider: str, status: BatchStatus) -> None:
        """Count a batch that ended."""
        with self._lock:
            self._provider_seen(provider)
            self._numbers[families.BATCHES_FINISHED].add(provider, status)

    def batch_items_updated(self, provider: str, status: ItemStatus, items: int) -> None:
        """Count items that got their outcome."""
        with self._lock:
            self._provider_seen(provider)
            self._numbers[families.BATCH_ITEMS_UPDATED].add(provider, status, amount=items)

    def llm_requests_put_back(self, provider: str, requests: int) -> None:
        """Count requests of jobs that are sent again."""
        with self._lock:
            self._provider_seen(provider)
            self._numbers[families.LLM_REQUESTS_PUT_BACK].add(provider, amount=requests)

    def breaker_changed(self, provider: str, state: BreakerState) -> None:
        """Show the state of a provider's breaker."""
        with self._lock:
            for other in BreakerState:
                self._numbers[families.BREAKER_STATE].set(provider, other, value=float(other is state))
            self._numbers[families.BREAKER_TRANSITIONS].add(provider, state)

    def _provider_seen(self, provider: str) -> None:
        """Show 0 for what is known in advance: a rate needs the 0 before the first 1."""
        if provider in self._providers:
            return
        self._providers.add(provider)
        self._numbers[families.LLM_REQUESTS_PUT_BACK].set(provider, value=0)
        for status in sorted(TERMINAL):
            self._numbers[families.BATCHES_FINISHED].set(provider, status, value=0)
        for outcome in sorted(OUTCOMES):
            self._numbers[families.BATCH_ITEMS_UPDATED].set(provider, outcome, value=0)

    def metrics(self) -> Iterator[Metric]:
        """Yield the families as they are now."""
        with self._lock:
            counted = [numbers.metric() for numbers in self._numbers.values()]
            cycles = self._cycles.snapshot()
        yield from counted
        yield cycles.histogram(families.BATCH_POLL_SECONDS)
