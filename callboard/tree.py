"""The tree: every supervised part of a runtime, who starts again with whom, and when that has been too often.

::

    root                     one_for_one
    ├── heart                shows that the event loop lives
    ├── result_watcher       finds results for those who wait
    ├── writer               commits what the jobs became      ┐
    ├── progress             stores their reports              │
    ├── rescuer              takes back what no lease holds    │ only where jobs run
    ├── housekeeper          keeps the tables in shape         │
    ├── deliverer            calls back, where there is a secret   │
    ├── work                 rest_for_one                      │
    │   ├── jobs             a child for each running job      │
    │   └── claimer          brings them                       ┘
    ├── store_check          asks whether the database answers
    ├── listener             hears the database's wake-ups
    └── leader               takes part in elections, only where jobs run
        └── duties           one_for_one, while this node leads (duties.py)
            ├── retention        deletes what was kept for long enough
            ├── store_summary    counts for /metrics
            └── batch_poller     follows LLM batches, where that is enabled

Children start in this order and end in the opposite one: nobody claims before somebody can write and rescue.

Most parts stand alone, because what must survive a crash is no part of an actor: the outbox, the running jobs, the
reports, the waiting callers. So the end of one is no reason to disturb another (``one_for_one``). The exception is the
claimer, which starts jobs below ``jobs``: when that ends, all jobs here end with it, and the claimer starts over as
well (``rest_for_one``); the end of the claimer leaves the jobs alone.

An outage of the database ends the parts that talk to it, again and again, each time after a longer delay; that does not
count. A defect does: ``MAX_RESTARTS`` of those in ``RESTART_PERIOD_SECONDS`` are borne, one more ends the runtime.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from callboard.actors.batches.providers import Providers
from callboard.actors.callbacks.deliverer import Deliverer
from callboard.actors.callbacks.sender import Sender
from callboard.actors.claimer import Claimer
from callboard.actors.clock import Clock
from callboard.actors.errors import StoreError
from callboard.actors.jobs.supervisor import JobSupervisor
from callboard.actors.listener import Listener
from callboard.actors.periodic import Periodic
from callboard.actors.result_watcher import ResultWatcher
from callboard.actors.settings import Settings
from callboard.actors.waiters import Waiters
from callboard.persistence.stores import StoreParts
from callboard.persistence.writer import Writer
from callboard.supervision.backoff import Backoff
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.leadership import CurrentLeadership
from callboard.supervision.metrics import PrometheusTelemetry
from callboard.supervision.quota import Limit, Quota
from callboard.supervision.supervisor import Supervisor

from . import duties
from .worker import Worker

MAX_RESTARTS = 10
RESTART_PERIOD_SECONDS: Final = 60
MAX_RESTARTS_OF_WORK: Final = 3
"""Few, so that a claimer that always crashes uses up the root's restarts well within their period."""
RESTART_BACKOFF: Final = Backoff(initial_seconds=0.05, max_seconds=2.5, jitter_ratio=1.0, uncounted=(StoreError,))
"""At most 5 s, so that work goes on soon after an outage; the half of it by chance, so that no two processes of many
come back together."""

HEARTBEAT_SECONDS: Final = 1.0
BEATS: Final = 4
"""A loop that is busy, but not for as long as the hang limit, beats at least so often within it, less one."""
PROGRESS_SECONDS: Final = 0.5
HOUSEKEEPING_SECONDS: Final = 3600.0
STORE_CHECK_SECONDS: Final = 5.0

Action = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a tree is made of.

    Attributes:
        node: this process's name.
        settings: intervals and sizes.
        store: the store with its wake-ups and its lease keeper.
        waiters: who waits for results.
        worker: runs jobs; None where none run.
        beat: shows that the event loop lives.
        check_store: None where nobody asks.
        on_hint: takes the database's wake-ups.
        providers: who runs LLM batches.
        leadership: whether this process leads.
        telemetry: measurements.
        clock: the time.
    """

    node: str
    settings: Settings
    store: StoreParts
    waiters: Waiters
    worker: Worker | None
    beat: Action
    check_store: Action | None
    on_hint: Callable[[str, str], None]
    providers: Providers
    leadership: CurrentLeadership
    telemetry: PrometheusTelemetry
    clock: Clock


def root(parts: Parts) -> ChildSpec:
    """Return the specification of the root supervisor."""
    return _supervisor(
        "root",
        children(parts),
        parts.telemetry,
        intensity=MAX_RESTARTS,
        quota=quota(parts.settings),
        abandoned_threads=None if parts.worker is None else parts.worker.abandoned_calls,
    )


def quota(settings: Settings) -> Quota:
    """Return what the parts may use: code that nobody can end goes with the process, before it has taken that over."""
    return Quota(
        "runtime",
        abandoned_threads=Limit(settings.max_abandoned_calls, "escalate"),
        mailbox_messages=Limit(settings.max_actor_mailbox, "stop_child"),
    )


def children(parts: Parts) -> list[ChildSpec]:
    """Return the root's children, in starting order."""
    settings, store = parts.settings, parts.store.store
    heartbeat_seconds = min(HEARTBEAT_SECONDS, settings.hang_limit_seconds / BEATS)
    specs = [
        _periodic("heart", parts.beat, heartbeat_seconds),
        ChildSpec(
            "result_watcher",
            ResultWatcher,
            (store, parts.waiters),
            {"poll_interval_seconds": settings.poll_interval_seconds},
        ),
    ]
    if parts.worker is not None:
        specs += _of_worker(parts, parts.worker)
    if parts.check_store is not None:
        specs.append(_periodic("store_check", parts.check_store, STORE_CHECK_SECONDS, jitter=0.2))
    specs.append(ChildSpec("listener", Listener, (parts.store.wake_ups, parts.on_hint)))
    if parts.worker is not None:
        specs.append(
            duties.leader(
                parts.node, settings, parts.store, parts.providers, parts.leadership, parts.telemetry, parts.clock
            )
        )
    return specs


def _of_worker(parts: Parts, worker: Worker) -> list[ChildSpec]:
    settings, store = parts.settings, parts.store.store
    return [
        ChildSpec(
            "writer",
            Writer,
            (store, worker.outbox),
            {"actor": f"node:{parts.node}", "batch_size": settings.write_batch_size},
        ),
        _periodic("progress", worker.flush_progress, PROGRESS_SECONDS),
        _periodic("rescuer", worker.rescue, settings.rescue_interval_seconds, jitter=0.3),
        _periodic("housekeeper", store.housekeep, HOUSEKEEPING_SECONDS, jitter=0.3),
        *_deliverer(parts),
        _supervisor(
            "work",
            [
                ChildSpec("jobs", JobSupervisor, (worker.environment, worker.jobs_ready), child_type="supervisor"),
                ChildSpec(
                    "claimer",
                    Claimer,
                    (store, worker.running, worker.start_jobs, parts.telemetry),
                    {
                        "node": parts.node,
                        "lease_seconds": settings.lease_seconds,
                        "batch_size": settings.claim_batch_size,
                        "poll_interval_seconds": settings.poll_interval_seconds,
                        "statement_timeout_seconds": settings.statement_timeout_seconds,
                    },
                ),
            ],
            parts.telemetry,
            strategy="rest_for_one",
            intensity=MAX_RESTARTS_OF_WORK,
        ),
    ]


def _deliverer(parts: Parts) -> list[ChildSpec]:
    settings = parts.settings
    if settings.callback_secret is None:
        return []  # others may have it
    sender = Sender(
        settings.callback_secret.get_secret_value().split(),
        settings.callback_trusted_hosts,
        timeout_seconds=settings.callback_timeout_seconds,
        now=lambda: datetime.now(UTC),
    )
    return [
        ChildSpec(
            "deliverer",
            Deliverer,
            (parts.store.store, sender, parts.telemetry),
            {
                "poll_interval_seconds": settings.poll_interval_seconds,
                "timeout_seconds": settings.callback_timeout_seconds,
                "delays_seconds": settings.callback_retry_delays_seconds,
            },
        )
    ]


def _periodic(name: str, action: Action, interval_seconds: float, *, jitter: float = 0.0) -> ChildSpec:
    return ChildSpec(name, Periodic, (action,), {"interval_seconds": interval_seconds, "jitter": jitter})


def _supervisor(name: str, specs: list[ChildSpec], telemetry: PrometheusTelemetry, **flags: Any) -> ChildSpec:
    defaults = {"period_seconds": RESTART_PERIOD_SECONDS, "backoff": RESTART_BACKOFF, "telemetry": telemetry}
    return ChildSpec(name, Supervisor, (specs,), {**defaults, **flags}, child_type="supervisor")
