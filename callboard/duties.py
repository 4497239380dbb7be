"""The leader's duties, and the leader itself, as parts of the runtime's tree. See docs/leader.md, "Adding a duty"."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from callboard.actors.batches.decide import WEEK_SECONDS, PollPolicy
from callboard.actors.batches.gathering import LlmRequestGatherer
from callboard.actors.batches.poller import BatchPoller, PollerSettings
from callboard.actors.batches.ports import BatchStore
from callboard.actors.batches.providers import Providers
from callboard.actors.clock import Clock
from callboard.actors.errors import StoreUnavailable
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.retention import Retention
from callboard.actors.schedules.scheduler import TURN_INTERVAL_SECONDS, Scheduler
from callboard.actors.settings import Settings
from callboard.persistence.stores import StoreParts
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.duty import Duty, duty
from callboard.supervision.leader import SHUTDOWN_SECONDS, Candidate, Leader
from callboard.supervision.leadership import CurrentLeadership, Leadership
from callboard.supervision.metrics import PrometheusTelemetry
from callboard.supervision.trust_window import TrustWindow

_log = logging.getLogger(__name__)

SUMMARY_INTERVAL_SECONDS: Final = 15.0


def leader(
    node: str,
    settings: Settings,
    parts: StoreParts,
    providers: Providers,
    current: CurrentLeadership,
    telemetry: PrometheusTelemetry,
    clock: Clock,
) -> ChildSpec:
    """Return the specification of this node's leader actor, with its duties."""
    candidate = Candidate(
        node, TrustWindow(settings.leader_trust_window_seconds), settings.poll_lock_retry_interval_seconds
    )
    duties = leader_duties(node, settings, parts.store, providers, telemetry, clock)
    return ChildSpec(
        "leader",
        Leader,
        (parts.leader_lock, candidate, duties, current),
        {"telemetry": telemetry.leader, "supervisor_telemetry": telemetry},
        shutdown_seconds=SHUTDOWN_SECONDS,
    )


def leader_duties(
    node: str,
    settings: Settings,
    store: JobStore,
    providers: Providers,
    telemetry: PrometheusTelemetry,
    clock: Clock,
) -> Sequence[Duty]:
    """Return what a node does while it leads, in starting order."""
    duties = [_schedules(node, store, telemetry), _retention(settings, store, telemetry)]
    if settings.metrics_port is not None:
        duties.append(_store_summary(store, telemetry, clock))
    if settings.enable_batch_job_polling:
        duties.append(_batch_poller(settings, store.batches, providers, telemetry, clock))
        duties.append(_llm_requests(node, settings, store, providers))
    return duties


def _schedules(node: str, store: JobStore, telemetry: PrometheusTelemetry) -> Duty:
    def start(leadership: Leadership) -> ChildSpec:
        scheduler = Scheduler(store, telemetry, leadership.fence, node=node)
        return duty("schedules", scheduler.turn, interval_seconds=TURN_INTERVAL_SECONDS, jitter=0.3)

    return start


def _batch_poller(
    settings: Settings, store: BatchStore, providers: Providers, telemetry: PrometheusTelemetry, clock: Clock
) -> Duty:
    interval_seconds = settings.poll_running_llm_batches_interval_seconds
    policy = PollPolicy(
        interval_seconds=interval_seconds,
        lookback_seconds=settings.batch_job_polling_lookback_weeks * WEEK_SECONDS,
        resubmissions=settings.llm_batch_resubmissions,
    )
    how = PollerSettings(policy, settings.batch_job_polling_batch_size, settings.llm_request_timeout_seconds)

    def start(leadership: Leadership) -> ChildSpec:
        poller = BatchPoller(store, providers, how, telemetry.batches, clock, leadership.fence)
        return duty("batch_poller", poller.poll, interval_seconds=interval_seconds)

    return start


def _llm_requests(node: str, settings: Settings, store: JobStore, providers: Providers) -> Duty:
    def start(leadership: Leadership) -> ChildSpec:
        gatherer = LlmRequestGatherer(
            store.llm_requests,
            store.batches,
            providers,
            leadership.fence,
            request_timeout_seconds=settings.llm_request_timeout_seconds,
            size_limit_bytes=settings.request_size_limit_bytes,
            actor=f"node:{node}",
        )
        return duty("llm_requests", gatherer.gather, interval_seconds=settings.llm_batch_window_seconds)

    return start


def _retention(settings: Settings, store: JobStore, telemetry: PrometheusTelemetry) -> Duty:
    retention = Retention(
        settings.retention_completed_seconds,
        settings.retention_failed_seconds,
        settings.retention_history_seconds,
        settings.retention_batches_seconds,
    )

    def start(leadership: Leadership) -> ChildSpec:
        async def prune() -> None:
            pruned = await store.prune(retention, term=leadership.fence())
            telemetry.jobs_pruned(pruned)
            if any(pruned):
                _log.info(
                    "retention: %d jobs, %d results, %d batches and %d partitions of the history were deleted",
                    pruned.jobs,
                    pruned.results,
                    pruned.batches,
                    pruned.partitions,
                )

        return duty("retention", prune, interval_seconds=settings.retention_interval_seconds, jitter=0.3)

    return start


def _store_summary(store: JobStore, telemetry: PrometheusTelemetry, clock: Clock) -> Duty:
    def start(leadership: Leadership) -> ChildSpec:
        async def summarize() -> None:
            leadership.fence()
            began = time.perf_counter()
            try:
                summary = await store.summary()
            except StoreUnavailable:
                telemetry.store_summary_failed()
                raise
            telemetry.store_summary_refreshed(summary, at=clock.now(), duration_seconds=time.perf_counter() - began)

        return duty("store_summary", summarize, interval_seconds=SUMMARY_INTERVAL_SECONDS, jitter=0.2)

    return start
