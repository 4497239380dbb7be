"""Every metric family that ``/metrics`` shows, as data.

docs/metrics.md is made from this list, the collectors build their families from it, and the tests hold each against
it. Families of parts that do not exist yet (connection pool, webhooks) join with them.

Rules (Prometheus' naming and instrumentation guides, checked by tests and by ``promtool check metrics``): one prefix;
base units with the unit in the name; counters and only they end in ``_total``; moments are exported as timestamps, so
that age is ``time() - x``; every label takes few values, known in advance or registered by the program, never an id, a
user, a tag or the text of an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, get_args

from callboard.actors.batches.metrics import CycleOutcome, PollStage
from callboard.actors.batches.state import OUTCOMES
from callboard.actors.batches.state import TERMINAL as TERMINAL_BATCHES
from callboard.actors.breaker import BreakerState
from callboard.actors.callbacks.attempts import CallbackOutcome
from callboard.actors.dead_letters import DeadLetterReason
from callboard.actors.executors.process_limits import ProcessEnd
from callboard.actors.jobs.limits import LimitScope
from callboard.actors.jobs.state import EDGES, TERMINAL, UNFINISHED, Reason, Status
from callboard.actors.jobs.usage import QUOTAS
from callboard.actors.statistics import STOP_REASONS

from .leader_telemetry import ElectionOutcome, LockLoss
from .processes.telemetry import ExitCause
from .quota import ACTIONS, Action
from .strategy import Strategy

PREFIX: Final = "callboard_"

LABEL_LIMIT: Final = 100
"""Most values of a label whose values the program registers; further ones show as ``OTHER``."""
OTHER: Final = "other"

FAST_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds for what should take milliseconds."""
WAIT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Upper bounds in seconds for waiting in a queue."""
JOB_BUCKETS: Final = (
    *(0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0),
    *(21600.0, 86400.0),
)
"""Upper bounds in seconds for runs of jobs, which take milliseconds or, with a language model, hours."""


class MetricType(StrEnum):
    """The types of the exposition format that are in use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"
    """A gauge that is always 1 and whose labels are the news."""


class Scope(StrEnum):
    """What a value speaks of."""

    PROCESS = "process"
    """This process: sum over the processes."""
    CLUSTER = "cluster"
    """The whole database, as last read by the leader: no other process shows it."""


@dataclass(frozen=True, slots=True)
class Label:
    """One label of a family.

    Attributes:
        name: as it stands in the exposition.
        values: all that it can be; None where the program registers them (bounded by ``LABEL_LIMIT``).
    """

    name: str
    values: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MetricFamily:
    """One metric family. Families are equal when they are the same object.

    Attributes:
        name: with its prefix, as it stands in the exposition.
        type: counter, gauge, histogram or info.
        help: one sentence.
        labels: in order.
        buckets: upper bounds in ascending order, for histograms.
        scope: whose value it is.
    """

    name: str
    type: MetricType
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    scope: Scope = Scope.PROCESS

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the labels, in order."""
        return tuple(label.name for label in self.labels)


def _values(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(str(value) for value in values))


def _counter(name: str, text: str, *labels: Label) -> MetricFamily:
    return MetricFamily(PREFIX + name, MetricType.COUNTER, text, labels)


def _gauge(name: str, text: str, *labels: Label, scope: Scope = Scope.PROCESS) -> MetricFamily:
    return MetricFamily(PREFIX + name, MetricType.GAUGE, text, labels, scope=scope)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: Label) -> MetricFamily:
    return MetricFamily(PREFIX + name, MetricType.HISTOGRAM, text, labels, buckets)


# Labels whose values the program registers.
_KIND = Label("kind")
_QUEUE = Label("queue")
_ACTOR_TYPE = Label("actor_type")
_SUPERVISOR = Label("supervisor")
_OPERATION = Label("operation")
_PROCESS = Label("process")

_LEAVING_RUNNING = {target: reasons for (source, target), reasons in EDGES.items() if source is Status.RUNNING}
_STATUS_NAMES = _values(Status)

READINESS_STATES: Final = ("starting", "ready", "degraded", "draining")
LEASE_FAILURES: Final = ("error", "lost")
REFUSAL_CAUSES: Final = ("invalid", "missing", "stale")
RESCUE_REASONS: Final = (Reason.DEADLINE.value, Reason.LEASE_EXPIRED.value)
STRATEGIES: Final = _values(get_args(Strategy))
QUOTA_OUTCOMES: Final = ("allowed", "denied")
PROCESS_STATES: Final = ("busy", "idle")
THREAD_STATES: Final = ("abandoned", "busy", "idle")

# Runtime
BUILD_INFO: Final = MetricFamily(
    PREFIX + "build_info",
    MetricType.INFO,
    "Constant 1; version labels live only here (join with group_left).",
    (Label("version"), Label("python_version")),
)
READINESS_STATE: Final = _gauge(
    "readiness_state", "One-hot readiness: what /readyz answers.", Label("state", READINESS_STATES)
)

# Actors
ACTORS_ALIVE: Final = _gauge("actors_alive", "Actors now running, by class.", _ACTOR_TYPE)
ACTOR_STARTS: Final = _counter("actor_starts_total", "Actors started, restarts included.", _ACTOR_TYPE)
ACTOR_STOPS: Final = _counter("actor_stops_total", "Actors ended.", _ACTOR_TYPE, Label("reason", _values(STOP_REASONS)))
ACTOR_RESTARTS: Final = _counter("actor_restarts_total", "Restarts by a supervisor after defects.", _ACTOR_TYPE)
ACTOR_MAILBOX_DEPTH: Final = _gauge(
    "actor_mailbox_depth", "Messages waiting, summed over the mailboxes of the class.", _ACTOR_TYPE
)
ACTOR_MAILBOX_DEPTH_MAX: Final = _gauge(
    "actor_mailbox_depth_max", "Deepest single mailbox of the class (finds one stuck actor).", _ACTOR_TYPE
)
ACTOR_MESSAGES_HANDLED: Final = _counter(
    "actor_messages_handled_total", "Messages whose handler has ended, well or not.", _ACTOR_TYPE
)
ACTOR_MESSAGES_REJECTED: Final = _counter(
    "actor_messages_rejected_total",
    "Messages dropped by the policy of a full mailbox.",
    _ACTOR_TYPE,
    Label("reason", ("mailbox_full",)),
)
ACTOR_ASK_ERRORS: Final = _counter(
    "actor_ask_errors_total", "Exceptions that went back to whoever asked; the actor went on.", _ACTOR_TYPE
)
DEAD_LETTERS: Final = _counter(
    "dead_letters_total", "Messages that nobody will handle.", Label("reason", _values(get_args(DeadLetterReason)))
)

# Supervisors
SUPERVISORS_ALIVE: Final = _gauge("supervisors_alive", "Supervisors running.")
SUPERVISOR_CHILDREN: Final = _gauge("supervisor_children", "Live children.", _SUPERVISOR)
SUPERVISOR_RESTARTS: Final = _counter(
    "supervisor_restarts_total",
    "Restarts of children after defects, tries included; those after an outage of the database are not counted.",
    _SUPERVISOR,
    Label("strategy", STRATEGIES),
)
SUPERVISOR_GIVE_UPS: Final = _counter(
    "supervisor_restart_limit_exceeded_total",
    "Times that the supervisor gave up: more restarts within its period than its intensity allows.",
    _SUPERVISOR,
)

# Quotas
QUOTA_CHECKS: Final = _counter(
    "quota_checks_total",
    "Times that a quota was compared with what is used; denied: more than it allows.",
    Label("quota"),
    Label("outcome", QUOTA_OUTCOMES),
)
QUOTA_ACTIONS: Final = _counter(
    "quota_actions_total",
    "Times that something was done about too much of a resource.",
    Label("quota"),
    Label("resource", _values(ACTIONS)),
    Label("action", _values(get_args(Action))),
)

RATE_LIMITED: Final = _counter(
    "rate_limited_total",
    "Claims in which a rate's bucket ran empty with runnable jobs left that needed a token, by what the rate is of.",
    Label("limiter", _values(LimitScope)),
)
QUOTA_USAGE: Final = _gauge(
    "quota_usage_max_ratio",
    "Jobs ÷ what a limit allows, the highest among all that are subject to one; absent without a limit.",
    Label("quota", _values(QUOTAS)),
    scope=Scope.CLUSTER,
)
QUOTA_AT_LIMIT: Final = _gauge(
    "quota_tenants_at_limit",
    "Queues, kinds, owners or keys that have as many jobs as a limit allows, or more; absent without a limit.",
    Label("quota", _values(QUOTAS)),
    scope=Scope.CLUSTER,
)

# Processes of a worker with several: shown by their parent
PROCESS_STARTS: Final = _counter(
    "process_starts_total",
    "Processes started, whether they got ready or not; one that was the spare counts again in its place.",
    _PROCESS,
)
PROCESS_EXITS: Final = _counter(
    "process_exits_total",
    "Processes that ended: as they were asked to, by exit code 0 unasked, by another, by a signal, or killed by us.",
    Label("cause", _values(get_args(ExitCause))),
)
PROCESS_RECYCLES: Final = _counter(
    "process_recycles_total",
    "Processes over their memory limit: replaced, or kept because the replacement failed.",
    Label("outcome", ("failed", "replaced")),
)
PROCESS_MEMORY: Final = _gauge(
    "process_memory_bytes", "Resident memory of the process in this place, or of the spare.", _PROCESS
)

# Jobs, this process
JOBS_CREATED: Final = _counter("jobs_created_total", "Jobs inserted by this process.", _KIND, _QUEUE)
JOBS_CLAIMED: Final = _counter("jobs_claimed_total", "Jobs claimed.", _KIND, _QUEUE)
JOBS_FINISHED: Final = _counter(
    "jobs_finished_total",
    "Jobs that ended in an attempt of this process.",
    _KIND,
    _QUEUE,
    Label("status", _values(TERMINAL)),
)
JOB_RETRIES: Final = _counter(
    "job_retries_total", "Attempts put back.", _KIND, Label("reason", _values(_LEAVING_RUNNING[Status.PENDING]))
)
JOB_TRANSITIONS: Final = _counter(
    "job_transitions_total",
    "Changes of status committed for attempts of this process.",
    Label("from_status", _values({Status.PENDING, Status.RUNNING})),
    Label("to_status", _values({Status.RUNNING, *_LEAVING_RUNNING})),
)
JOB_TRANSITIONS_REJECTED: Final = _counter(
    "job_transitions_rejected_total",
    "Changes of status refused; the row stayed as it was.",
    Label("from_status", _STATUS_NAMES),
    Label("to_status", _STATUS_NAMES),
    Label("reason", REFUSAL_CAUSES),
)
JOBS_RUNNING: Final = _gauge("jobs_running", "Jobs executing in this process.", _KIND)
JOB_SLOTS: Final = _gauge("job_slots", "Concurrency limit of this process (for slots used / slots).", _QUEUE)
JOB_THREADS: Final = _gauge(
    "job_threads",
    "Threads for jobs; an abandoned one still runs code whose attempt is over.",
    Label("state", THREAD_STATES),
)
JOB_PROCESSES: Final = _gauge(
    "job_processes", "Child processes for jobs; one of them runs one job at a time.", Label("state", PROCESS_STATES)
)
JOB_PROCESS_MEMORY: Final = _gauge("job_process_memory_bytes", "Resident memory of all child processes for jobs.")
JOB_PROCESS_ENDS: Final = _counter(
    "job_process_ends_total",
    "Child processes for jobs that ended: by themselves, by a job's memory limit, because they did not begin in time, "
    "worn out, or because an attempt that had to stop did not.",
    Label("reason", _values(get_args(ProcessEnd))),
)
JOB_RUN_SECONDS: Final = _histogram(
    "job_run_seconds",
    "Execution time of one attempt, by the status that it led to.",
    JOB_BUCKETS,
    _KIND,
    Label("status", _values(_LEAVING_RUNNING)),
)
JOB_WAIT_SECONDS: Final = _histogram("job_wait_seconds", "From runnable to claimed.", WAIT_BUCKETS, _QUEUE)
JOB_LEASE_FAILURES: Final = _counter(
    "job_lease_failures_total",
    "Renewals of leases that failed (error), and leases found lost.",
    Label("reason", LEASE_FAILURES),
)
JOB_RESCUES: Final = _counter(
    "job_rescues_total", "Jobs taken back from dead workers.", Label("reason", RESCUE_REASONS)
)

# Jobs, cluster
JOBS: Final = _gauge(
    "jobs", "Jobs that have not ended.", _KIND, _QUEUE, Label("status", _values(UNFINISHED)), scope=Scope.CLUSTER
)
QUEUE_DEPTH: Final = _gauge(
    "queue_depth", "Runnable jobs waiting; the number that max_queue_length means.", _QUEUE, scope=Scope.CLUSTER
)
QUEUE_OLDEST_JOB: Final = _gauge(
    "queue_oldest_job_timestamp_seconds",
    "When the oldest runnable job became runnable; absent when the queue is empty.",
    _QUEUE,
    scope=Scope.CLUSTER,
)
QUEUE_PAUSED: Final = _gauge(
    "queue_paused",
    "Whether nobody may claim from the queue: 1 when paused; absent where nobody has ever set anything.",
    _QUEUE,
    scope=Scope.CLUSTER,
)
JOBS_PRUNED: Final = _counter(
    "retention_deleted_total",
    "What retention has deleted, by this process.",
    Label("what", ("batch", "history_partition", "job", "result")),
)

# Leader
_ELECTION = Label("election", ("leader",))
LEADER_IS_LEADER: Final = _gauge(
    "leader_is_leader",
    "Whether this process leads and has proved it within its trust window (1) or not (0).",
    _ELECTION,
)
LEADER_TERM: Final = _gauge("leader_term", "Term last seen, whoever has it.", _ELECTION)
LEADER_ELECTIONS: Final = _counter(
    "leader_elections_total",
    "Terms that began here (won) or elsewhere (lost), and failures to take part (error).",
    _ELECTION,
    Label("outcome", _values(get_args(ElectionOutcome))),
)
LEADER_FAILOVERS: Final = _counter("leader_failovers_total", "Changes of leader that this process saw.", _ELECTION)
LEADER_LOCK_ACQUIRED: Final = _gauge(
    "leader_lock_acquired_timestamp_seconds",
    "When this process got the lock; absent where it has it not.",
    _ELECTION,
)
LEADER_LOCK_RENEWED: Final = _gauge(
    "leader_lock_renewed_timestamp_seconds",
    "Last proof that it has it still; absent where it has it not.",
    _ELECTION,
)
LEADER_LOCK_LOST: Final = _counter(
    "leader_lock_lost_total",
    "Ends of terms of this process: handed over, the session ended, or no proof in time.",
    _ELECTION,
    Label("reason", _values(get_args(LockLoss))),
)

# LLM batches
_PROVIDER = Label("provider")
BATCH_POLL_START: Final = _gauge("batch_poll_start_timestamp_seconds", "When the last cycle of polling began.")
BATCH_POLL_BATCHES: Final = _gauge("batch_poll_batches", "Batches that were due in the last cycle.", _PROVIDER)
BATCH_POLL_RUNNING: Final = _gauge(
    "batch_poll_running_batches", "Batches that had not ended after the last cycle.", _PROVIDER
)
BATCH_POLL_COMPLETED: Final = _gauge(
    "batch_poll_completed_batches", "Batches that ended in the last cycle, in whatever status.", _PROVIDER
)
BATCH_POLL_UPDATED_ITEMS: Final = _gauge(
    "batch_poll_updated_items", "Items that got their outcome in the last cycle.", _PROVIDER
)
BATCH_POLL_LAST_SUCCESS: Final = _gauge(
    "batch_poll_last_success_timestamp_seconds", "End of the last cycle in which nothing failed."
)
BATCH_POLL_CYCLES: Final = _counter(
    "batch_poll_cycles_total",
    "Cycles of polling: all went well, something failed (partial), or nothing could be done (error).",
    Label("outcome", _values(get_args(CycleOutcome))),
)
BATCH_POLL_ERRORS: Final = _counter(
    "batch_poll_errors_total", "Failures of polls.", _PROVIDER, Label("stage", _values(get_args(PollStage)))
)
BATCH_POLL_UNRECOGNIZED: Final = _counter(
    "batch_poll_unrecognized_total", "Answers with a status that this version does not know.", _PROVIDER
)
BATCHES_FINISHED: Final = _counter(
    "batches_finished_total",
    "Batches that ended.",
    _PROVIDER,
    Label("status", _values(TERMINAL_BATCHES)),
)
BATCH_ITEMS_UPDATED: Final = _counter(
    "batch_items_updated_total",
    "Items that got their outcome.",
    _PROVIDER,
    Label("result", _values(OUTCOMES)),
)
LLM_REQUESTS_PUT_BACK: Final = _counter(
    "llm_requests_put_back_total", "Requests of jobs that had no answer in a batch, and are sent again.", _PROVIDER
)
LLM_REQUESTS_WAITING: Final = _gauge(
    "llm_requests_waiting", "Requests of unfinished jobs that are in no batch yet.", _PROVIDER, scope=Scope.CLUSTER
)
LLM_REQUESTS_OLDEST: Final = _gauge(
    "llm_requests_oldest_timestamp_seconds",
    "When the oldest of them was asked; absent where none waits.",
    _PROVIDER,
    scope=Scope.CLUSTER,
)
BATCH_POLL_SECONDS: Final = _histogram("batch_poll_cycle_seconds", "Length of a cycle of polling.", JOB_BUCKETS)
BREAKER_STATE: Final = _gauge(
    "circuit_breaker_state",
    "One-hot: whether calls of a provider are let through.",
    Label("breaker"),
    Label("state", _values(BreakerState)),
)
BREAKER_TRANSITIONS: Final = _counter(
    "circuit_breaker_transitions_total", "State changes.", Label("breaker"), Label("to_state", _values(BreakerState))
)

# Database
WEBHOOK_DELIVERIES: Final = _counter(
    "webhook_deliveries_total", "Attempts to deliver callbacks.", Label("outcome", _values(CallbackOutcome))
)
WEBHOOK_DELIVERY_SECONDS: Final = _histogram(
    "webhook_delivery_seconds", "Time of an attempt to deliver a callback.", FAST_BUCKETS
)
WEBHOOKS_PUT_OFF: Final = _counter(
    "webhooks_put_off_total", "Callbacks that were due, and wait because their host does not answer."
)
WEBHOOK_HOSTS_SILENT: Final = _gauge(
    "webhook_hosts_silent", "Hosts that this process leaves alone for a while, because they do not answer."
)
WEBHOOKS_PENDING: Final = _gauge("webhooks_pending", "Callbacks that are to be delivered.", scope=Scope.CLUSTER)

DB_QUERY_SECONDS: Final = _histogram(
    "db_query_seconds", "The store's own statements, by fixed name.", FAST_BUCKETS, _OPERATION
)

# The metrics themselves
_COLLECTOR = Label("collector", ("store_summary",))
METRICS_REFRESH_TIMESTAMP: Final = _gauge(
    "metrics_refresh_timestamp_seconds", "Last refresh of the numbers read from the database.", _COLLECTOR
)
METRICS_REFRESH_DURATION: Final = _gauge(
    "metrics_refresh_duration_seconds", "How long the last refresh took.", _COLLECTOR
)
METRICS_REFRESH_ERRORS: Final = _counter("metrics_refresh_errors_total", "Refreshes that failed.", _COLLECTOR)
METRICS_LABEL_OVERFLOW: Final = _counter(
    "metrics_label_overflow_total",
    "Measurements shown as 'other' because the label has too many values.",
    Label(
        "label", _values({"actor_type", "breaker", "kind", "operation", "process", "provider", "queue", "supervisor"})
    ),
)

SECTIONS: Final[dict[str, tuple[MetricFamily, ...]]] = {
    "Runtime": (BUILD_INFO, READINESS_STATE),
    "Actors": (
        ACTORS_ALIVE,
        ACTOR_STARTS,
        ACTOR_STOPS,
        ACTOR_RESTARTS,
        ACTOR_MAILBOX_DEPTH,
        ACTOR_MAILBOX_DEPTH_MAX,
        ACTOR_MESSAGES_HANDLED,
        ACTOR_MESSAGES_REJECTED,
        ACTOR_ASK_ERRORS,
        DEAD_LETTERS,
    ),
    "Supervisors": (SUPERVISORS_ALIVE, SUPERVISOR_CHILDREN, SUPERVISOR_RESTARTS, SUPERVISOR_GIVE_UPS),
    "Quotas": (QUOTA_CHECKS, QUOTA_ACTIONS, QUOTA_USAGE, QUOTA_AT_LIMIT, RATE_LIMITED),
    "Processes": (PROCESS_STARTS, PROCESS_EXITS, PROCESS_RECYCLES, PROCESS_MEMORY),
    "Jobs, this process": (
        JOBS_CREATED,
        JOBS_CLAIMED,
        JOBS_FINISHED,
        JOB_RETRIES,
        JOB_TRANSITIONS,
        JOB_TRANSITIONS_REJECTED,
        JOBS_RUNNING,
        JOB_SLOTS,
        JOB_THREADS,
        JOB_PROCESSES,
        JOB_PROCESS_MEMORY,
        JOB_PROCESS_ENDS,
        JOB_RUN_SECONDS,
        JOB_WAIT_SECONDS,
        JOB_LEASE_FAILURES,
        JOB_RESCUES,
    ),
    "Jobs, cluster": (JOBS, QUEUE_DEPTH, QUEUE_OLDEST_JOB, QUEUE_PAUSED, JOBS_PRUNED),
    "Leader": (
        LEADER_IS_LEADER,
        LEADER_TERM,
        LEADER_ELECTIONS,
        LEADER_FAILOVERS,
        LEADER_LOCK_ACQUIRED,
        LEADER_LOCK_RENEWED,
        LEADER_LOCK_LOST,
    ),
    "LLM batches": (
        BATCH_POLL_START,
        BATCH_POLL_BATCHES,
        BATCH_POLL_RUNNING,
        BATCH_POLL_COMPLETED,
        BATCH_POLL_UPDATED_ITEMS,
        BATCH_POLL_LAST_SUCCESS,
        BATCH_POLL_CYCLES,
        BATCH_POLL_ERRORS,
        BATCH_POLL_UNRECOGNIZED,
        BATCHES_FINISHED,
        BATCH_ITEMS_UPDATED,
        LLM_REQUESTS_PUT_BACK,
        LLM_REQUESTS_WAITING,
        LLM_REQUESTS_OLDEST,
        BATCH_POLL_SECONDS,
        BREAKER_STATE,
        BREAKER_TRANSITIONS,
    ),
    "Callbacks": (
        WEBHOOK_DELIVERIES,
        WEBHOOK_DELIVERY_SECONDS,
        WEBHOOKS_PUT_OFF,
        WEBHOOK_HOSTS_SILENT,
        WEBHOOKS_PENDING,
    ),
    "Database": (DB_QUERY_SECONDS,),
    "The metrics themselves": (
        METRICS_REFRESH_TIMESTAMP,
        METRICS_REFRESH_DURATION,
        METRICS_REFRESH_ERRORS,
        METRICS_LABEL_OVERFLOW,
    ),
}
"""The families by section, in the order of docs/metrics.md."""

FAMILIES: Final[tuple[MetricFamily, ...]] = tuple(family for families in SECTIONS.values() for family in families)
