"""What ``/metrics`` shows: measurements taken by this process, and snapshots asked for when somebody scrapes."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from threading import Lock
from typing import Final, get_args

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from callboard.actors.dead_letters import DeadLetterReason
from callboard.actors.jobs.retention import Pruned
from callboard.actors.jobs.state import TERMINAL, UNFINISHED, Reason, Status
from callboard.actors.jobs.types import ClaimedJob, StoreSummary
from callboard.actors.ports import AttemptEnd
from callboard.actors.statistics import ActorClassStatistics, SystemStatistics

from . import metric_list as families
from .batch_metrics import BatchMetrics
from .leader_metrics import LeaderMetrics
from .metric_list import Label, MetricFamily
from .metric_series import Distribution, LabelGuard, LabelValues, Numbers, new_metric
from .processes.telemetry import ExitCause

_KIND, _QUEUE, _ = families.JOBS_FINISHED.labels
_ATTEMPT_LABELS = (_KIND, _QUEUE, families.JOB_RUN_SECONDS.labels[1], Label("reason", tuple(Reason)))
_COLLECTOR = "store_summary"

_MEASURED = (
    families.ACTOR_RESTARTS,
    families.SUPERVISORS_ALIVE,
    families.SUPERVISOR_CHILDREN,
    families.SUPERVISOR_RESTARTS,
    families.SUPERVISOR_GIVE_UPS,
    families.QUOTA_ACTIONS,
    families.PROCESS_STARTS,
    families.PROCESS_EXITS,
    families.PROCESS_RECYCLES,
    families.PROCESS_MEMORY,
    families.WEBHOOK_DELIVERIES,
    families.WEBHOOKS_PUT_OFF,
    families.WEBHOOK_HOSTS_SILENT,
    families.JOBS_CREATED,
    families.JOB_TRANSITIONS_REJECTED,
    families.JOB_SLOTS,
    families.JOB_THREADS,
    families.JOB_PROCESSES,
    families.JOB_PROCESS_MEMORY,
    families.JOB_PROCESS_ENDS,
    families.JOB_LEASE_FAILURES,
    families.JOB_RESCUES,
    families.JOBS_PRUNED,
    families.QUOTA_CHECKS,
    families.RATE_LIMITED,
    families.METRICS_REFRESH_ERRORS,
)
"""Families that are counted up or set; the others are computed in the scrape."""


class PrometheusTelemetry(Collector):
    """Takes the runtime's measurements and shows them to Prometheus.

    Implements ``Telemetry`` of the kernel's ports, ``SupervisorTelemetry`` and ``ProcessTelemetry``. Every method may
    be called from any thread. To measure is one look-up and one addition; whatever must be computed is computed in the
    scrape, in the scraper's thread, and nothing in a scrape waits for the event loop or the database.

    Args:
        version: Callboard's version, for ``callboard_build_info``.
        statistics: asked in each scrape: what happened among the actors, ``ActorSystem.statistics``. The families of
            actors are absent without it.
        jobs_running: asked in each scrape: jobs executing in this process, by kind. The family is absent without it.
        readiness_state: asked in each scrape: one of ``READINESS_STATES``. The family is absent without it.
        leads: asked in each scrape: whether this process leads; only then it shows what was read from the database.
            Without it, it always does, and the leader's families are absent.

    Attributes:
        leader: takes the measurements of elections; None without ``leads``.
        batches: takes the measurements of LLM batches.
        registry: a registry of its own, with these families and those of the process, the interpreter and its garbage
            collector. A host application may also register the telemetry itself in a registry that it has.
    """

    def __init__(
        self,
        *,
        version: str,
        statistics: Callable[[], SystemStatistics] | None = None,
        jobs_running: Callable[[], Mapping[str, int]] | None = None,
        readiness_state: Callable[[], str] | None = None,
        leads: Callable[[], bool] | None = None,
    ) -> None:
        self._version = version
        self._statistics = statistics
        self._jobs_running = jobs_running
        self._readiness_state = readiness_state
        self._leads = leads
        self._lock = Lock()
        self._guard = LabelGuard()
        self.leader = None if leads is None else LeaderMetrics(leads, self._guard)
        self.batches = BatchMetrics(self._guard)
        self._attempts = Distribution(_ATTEMPT_LABELS, families.JOB_BUCKETS, self._guard)
        self._claims = Distribution((_KIND, _QUEUE), families.WAIT_BUCKETS, self._guard)
        self._deliveries = Distribution(families.WEBHOOK_DELIVERY_SECONDS.labels, families.FAST_BUCKETS, self._guard)
        self._statement_times = Distribution(families.DB_QUERY_SECONDS.labels, families.FAST_BUCKETS, self._guard)
        self._numbers = {family: Numbers(family, self._guard) for family in _MEASURED}
        for family in (families.SUPERVISORS_ALIVE, families.WEBHOOKS_PUT_OFF, families.WEBHOOK_HOSTS_SILENT):
            self._numbers[family].set(value=0)
        for family in (
            families.JOB_LEASE_FAILURES,
            families.JOB_PROCESS_ENDS,
            families.JOB_RESCUES,
            families.WEBHOOK_DELIVERIES,
            families.METRICS_REFRESH_ERRORS,
        ):
            # Known in advance, so there from the start: a rate needs the 0 before the first 1.
            for value in family.labels[0].values or ():
                self._numbers[family].set(value, value=0)
        self._refreshed: list[Metric] = []
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    # Telemetry of the kernel's ports

    def jobs_created(self, kind: str, queue: str, count: int) -> None:
        """Count jobs inserted by this process."""
        self._add(families.JOBS_CREATED, kind, queue, amount=count)

    def jobs_claimed(self, jobs: Sequence[ClaimedJob]) -> None:
        """Count claimed jobs and their waits."""
        with self._lock:
            observe = self._claims.observe
            for job in jobs:
                observe((job.kind, job.queue), job.wait_seconds)

    def attempts_ended(self, ended: Sequence[tuple[AttemptEnd, float]]) -> None:
        """Count attempts whose last transitions were committed."""
        with self._lock:
            observe = self._attempts.observe
            for how, run_seconds in ended:
                observe(how, run_seconds)

    def transition_refused(self, from_status: str, to_status: str, cause: str) -> None:
        """Count a transition that lost."""
        self._add(families.JOB_TRANSITIONS_REJECTED, from_status, to_status, cause)

    def jobs_pruned(self, pruned: Pruned) -> None:
        """Retention has deleted something."""
        self._add(families.JOBS_PRUNED, "job", amount=pruned.jobs)
        self._add(families.JOBS_PRUNED, "result", amount=pruned.results)
        self._add(families.JOBS_PRUNED, "history_partition", amount=pruned.partitions)
        self._add(families.JOBS_PRUNED, "batch", amount=pruned.batches)

    def job_rescued(self, reason: Reason) -> None:
        """Count a job taken back from a dead worker, or ended by its deadline."""
        self._add(families.JOB_RESCUES, reason)

    def lease_failed(self, reason: str) -> None:
        """Count a renewal that failed (``error``) or found the lease lost (``lost``)."""
        self._add(families.JOB_LEASE_FAILURES, reason)

    def callback_attempted(self, outcome: str, seconds: float) -> None:
        """Count an attempt to call back, and its time."""
        with self._lock:
            self._numbers[families.WEBHOOK_DELIVERIES].add(outcome)
            self._deliveries.observe((), seconds)

    def callbacks_put_off(self, count: int) -> None:
        """Count callbacks of hosts that do not answer."""
        self._add(families.WEBHOOKS_PUT_OFF, amount=count)

    def callback_hosts_silent(self, count: int) -> None:
        """Show how many hosts are left alone."""
        with self._lock:
            self._numbers[families.WEBHOOK_HOSTS_SILENT].set(value=count)

    def job_process_ended(self, reason: str) -> None:
        """Count a child process for jobs that ended."""
        self._add(families.JOB_PROCESS_ENDS, reason)

    def statement(self, operation: str, seconds: float) -> None:
        """Count one of the store's own statements and its time."""
        with self._lock:
            self._statement_times.observe((operation,), seconds)

    # SupervisorTelemetry

    def supervisor_started(self, supervisor: str) -> None:
        """Count a supervisor that runs from now on."""
        with self._lock:
            self._numbers[families.SUPERVISORS_ALIVE].add()
            self._numbers[families.SUPERVISOR_CHILDREN].add(supervisor, amount=0)
            self._numbers[families.SUPERVISOR_GIVE_UPS].add(supervisor, amount=0)
            for strategy in families.STRATEGIES:
                self._numbers[families.SUPERVISOR_RESTARTS].add(supervisor, strategy, amount=0)

    def supervisor_stopped(self, supervisor: str) -> None:
        """Count a supervisor that has ended; it has no children any more."""
        with self._lock:
            self._numbers[families.SUPERVISORS_ALIVE].add(amount=-1)
            self._numbers[families.SUPERVISOR_CHILDREN].set(supervisor, value=0)

    def children_changed(self, supervisor: str, alive: int) -> None:
        """Set how many children of a supervisor live."""
        self._set(families.SUPERVISOR_CHILDREN, supervisor, value=alive)

    def child_restarted(self, supervisor: str, strategy: str, actor_type: str) -> None:
        """Count a restart, whether it succeeds or not."""
        with self._lock:
            self._numbers[families.SUPERVISOR_RESTARTS].add(supervisor, strategy)
            self._numbers[families.ACTOR_RESTARTS].add(actor_type)

    def supervisor_gave_up(self, supervisor: str) -> None:
        """Count a supervisor whose restart limit was exceeded."""
        self._add(families.SUPERVISOR_GIVE_UPS, supervisor)

    def quota_checked(self, quota: str, allowed: bool) -> None:
        """Count a comparison of what is used with what a quota allows."""
        self._add(families.QUOTA_CHECKS, quota, "allowed" if allowed else "denied")

    def rate_limited(self, limiter: str) -> None:
        """Count a claim that a rate kept from taking more."""
        self._add(families.RATE_LIMITED, limiter)

    def quota_enforced(self, quota: str, resource: str, action: str) -> None:
        """Count what was done about too much of a resource."""
        self._add(families.QUOTA_ACTIONS, quota, resource, action)

    # ProcessTelemetry

    def process_started(self, place: str) -> None:
        """Count a process, whether it gets ready or not."""
        with self._lock:
            self._numbers[families.PROCESS_STARTS].add(place)
            for family in (families.PROCESS_EXITS, families.PROCESS_RECYCLES):
                for value in family.labels[0].values or ():  # from 0, for rates
                    self._numbers[family].add(value, amount=0)

    def process_exited(self, place: str, cause: ExitCause) -> None:
        """Count a process that has ended; its place has none until the next one starts."""
        with self._lock:
            self._numbers[families.PROCESS_EXITS].add(cause)
            self._numbers[families.PROCESS_MEMORY].set(place, value=0)

    def process_memory(self, place: str, resident_bytes: int) -> None:
        """Set how much memory the process of a place occupies."""
        self._set(families.PROCESS_MEMORY, place, value=resident_bytes)

    def process_recycled(self, replaced: bool) -> None:
        """Count a process that was to be replaced."""
        self._add(families.PROCESS_RECYCLES, "replaced" if replaced else "failed")

    # What the runtime tells

    def set_job_slots(self, queue: str, slots: int) -> None:
        """Set how many jobs of a queue this process runs at a time."""
        self._set(families.JOB_SLOTS, queue, value=slots)

    def set_job_threads(self, *, busy: int, idle: int, abandoned: int) -> None:
        """Set how many threads for jobs there are, by what they do."""
        with self._lock:
            for state, threads in (("abandoned", abandoned), ("busy", busy), ("idle", idle)):
                self._numbers[families.JOB_THREADS].set(state, value=threads)

    def set_job_processes(self, *, busy: int, idle: int, memory_bytes: int) -> None:
        """Set how many child processes for jobs there are, by what they do, and what they occupy together."""
        with self._lock:
            for state, processes in (("busy", busy), ("idle", idle)):
                self._numbers[families.JOB_PROCESSES].set(state, value=processes)
            self._numbers[families.JOB_PROCESS_MEMORY].set(value=memory_bytes)

    def store_summary_refreshed(self, summary: StoreSummary, *, at: datetime, duration_seconds: float) -> None:
        """Replace the numbers read from the database, which scrapes show until the next call.

        Args:
            summary: as ``JobStore.summary`` returned it.
            at: when it was read, timezone-aware.
            duration_seconds: how long reading took.
        """
        with self._lock:
            self._refreshed = [
                *_summary_metrics(summary, self._guard),
                _counted(families.METRICS_REFRESH_TIMESTAMP, {_COLLECTOR: at.timestamp()}),
                _counted(families.METRICS_REFRESH_DURATION, {_COLLECTOR: duration_seconds}),
            ]

    def store_summary_failed(self) -> None:
        """Count a refresh that failed; scrapes go on to show the older numbers, and their age."""
        self._add(families.METRICS_REFRESH_ERRORS, _COLLECTOR)

    # The scrape

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has a value."""
        return (metric for metric in self._metrics() if metric.samples)

    def _metrics(self) -> Iterator[Metric]:
        with self._lock:
            attempts, claims, statements, deliveries = (
                distribution.snapshot()
                for distribution in (self._attempts, self._claims, self._statement_times, self._deliveries)
            )
            measured = [numbers.metric() for numbers in self._numbers.values()]
            refreshed = self._refreshed
            overflows = dict.fromkeys(families.METRICS_LABEL_OVERFLOW.labels[0].values or (), 0) | self._guard.overflows
        yield _build_info(self._version)
        if self._readiness_state is not None:
            yield _one_hot(families.READINESS_STATE, self._readiness_state())
        if self._statistics is not None:
            yield from _actor_metrics(self._statistics())
        if self._jobs_running is not None:
            yield _counted(families.JOBS_RUNNING, self._jobs_running())
        yield from measured
        yield from _attempt_metrics(attempts, claims)
        yield statements.histogram(families.DB_QUERY_SECONDS)
        yield deliveries.histogram(families.WEBHOOK_DELIVERY_SECONDS)
        if self.leader is not None:
            yield from self.leader.metrics()
        if self._leads is None or self._leads():
            yield from refreshed
        yield from self.batches.metrics()
        yield _counted(families.METRICS_LABEL_OVERFLOW, overflows)

    def _add(self, family: MetricFamily, *labels: str, amount: float = 1) -> None:
        with self._lock:
            self._numbers[family].add(*labels, amount=amount)

    def _set(self, family: MetricFamily, *labels: str, value: float) -> None:
        with self._lock:
            self._numbers[family].set(*labels, value=value)


def _build_info(version: str) -> Metric:
    # The name without its suffix, which the exposition adds.
    metric = InfoMetricFamily(families.BUILD_INFO.name.removesuffix("_info"), families.BUILD_INFO.help)
    metric.add_metric([], {"version": version, "python_version": platform.python_version()})
    return metric


def _one_hot(family: MetricFamily, state: str) -> Metric:
    (label,) = family.labels
    return _filled(family, {(value,): float(value == state) for value in label.values or ()})


def _counted(family: MetricFamily, values: Mapping[str, float]) -> Metric:
    return _filled(family, {(label,): value for label, value in values.items()})


def _filled(family: MetricFamily, values: Mapping[LabelValues, float]) -> Metric:
    metric = new_metric(family)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric


_BY_CLASS: Final[tuple[tuple[MetricFamily, Callable[[ActorClassStatistics], float]], ...]] = (
    (families.ACTORS_ALIVE, lambda of_class: of_class.live),
    (families.ACTOR_STARTS, lambda of_class: of_class.started),
    (families.ACTOR_MAILBOX_DEPTH, lambda of_class: of_class.mailbox_depth),
    (families.ACTOR_MAILBOX_DEPTH_MAX, lambda of_class: of_class.mailbox_depth_max),
    (families.ACTOR_MESSAGES_HANDLED, lambda of_class: of_class.handled),
    (families.ACTOR_ASK_ERRORS, lambda of_class: of_class.failed_asks),
)


def _actor_metrics(statistics: SystemStatistics) -> Iterator[Metric]:
    classes = statistics.classes
    for family, value in _BY_CLASS:
        yield _counted(family, {name: value(of_class) for name, of_class in classes.items()})
    yield _filled(
        families.ACTOR_STOPS,
        {(name, reason): count for name, of_class in classes.items() for reason, count in of_class.stopped.items()},
    )
    yield _filled(
        families.ACTOR_MESSAGES_REJECTED,
        {(name, "mailbox_full"): of_class.dropped for name, of_class in classes.items()},
    )
    reasons = get_args(DeadLetterReason)
    yield _counted(families.DEAD_LETTERS, {reason: statistics.dead_letters.get(reason, 0) for reason in reasons})


def _attempt_metrics(attempts: Distribution, claims: Distribution) -> Iterator[Metric]:
    """Compute the families of attempts; every status that a kind may reach is there from its first job on, with 0."""
    claimed: dict[LabelValues, float] = dict(claims.counts())
    finished: dict[LabelValues, float] = {
        (kind, queue, status.value): 0 for kind, queue in claimed for status in sorted(TERMINAL)
    }
    retries: dict[LabelValues, float] = {}
    transitions: dict[LabelValues, float] = {(Status.PENDING, Status.RUNNING): sum(claimed.values())}
    transitions |= {(Status.RUNNING, status): 0 for status in families.JOB_RUN_SECONDS.labels[1].values or ()}
    for (kind, queue, status, reason), count in attempts.counts():
        target, label = (retries, (kind, reason)) if status == Status.PENDING else (finished, (kind, queue, status))
        target[label] = target.get(label, 0) + count
        edge = (Status.RUNNING, status)
        transitions[edge] = transitions.get(edge, 0) + count
    yield _filled(families.JOBS_CLAIMED, claimed)
    yield _filled(families.JOBS_FINISHED, finished)
    yield _filled(families.JOB_RETRIES, retries)
    yield _filled(families.JOB_TRANSITIONS, transitions)
    yield attempts.histogram(families.JOB_RUN_SECONDS)
    yield claims.histogram(families.JOB_WAIT_SECONDS)


def _summary_metrics(summary: StoreSummary, guard: LabelGuard) -> Iterator[Metric]:
    jobs: dict[LabelValues, float] = {}
    depths: dict[LabelValues, float] = {}
    oldest: dict[LabelValues, float] = {}
    for count in summary.counts:
        if count.status in UNFINISHED:
            labels = guard.fold(families.JOBS.labels, (count.kind, count.queue, count.status))
            jobs[labels] = jobs.get(labels, 0) + count.jobs
    for depth in summary.depths:
        labels = guard.fold(families.QUEUE_DEPTH.labels, (depth.queue,))
        depths[labels] = depths.get(labels, 0) + depth.runnable
        if depth.oldest_runnable_at is not None:
            runnable_since = depth.oldest_runnable_at.timestamp()
            oldest[labels] = min(oldest.get(labels, runnable_since), runnable_since)
    yield _filled(families.JOBS, jobs)
    yield _filled(families.QUEUE_DEPTH, depths)
    yield _filled(families.QUEUE_OLDEST_JOB, oldest)
    waiting = {guard.fold(families.LLM_REQUESTS_WAITING.labels, (one.provider,)): one for one in summary.llm_requests}
    yield _filled(families.LLM_REQUESTS_WAITING, {labels: one.requests for labels, one in waiting.items()})
    oldest_requests = {labels: one.oldest_at.timestamp() for labels, one in waiting.items()}
    yield _filled(families.LLM_REQUESTS_OLDEST, oldest_requests)
    yield _filled(families.WEBHOOKS_PENDING, {(): summary.callbacks_pending})
    yield _filled(families.QUOTA_USAGE, {(usage.quota,): usage.max_ratio for usage in summary.quotas})
    yield _filled(families.QUOTA_AT_LIMIT, {(usage.quota,): usage.at_limit for usage in summary.quotas})
    paused: dict[LabelValues, float] = {}
    for queue in summary.controls:
        labels = guard.fold(families.QUEUE_PAUSED.labels, (queue.name,))
        paused[labels] = max(paused.get(labels, 0.0), float(queue.paused))
    yield _filled(families.QUEUE_PAUSED, paused)
