"""Background jobs as actors, on PostgreSQL.

The whole public surface, sorted. ``callboard.sync`` has the synchronous facade, ``callboard.testing`` the in-memory
runtime for unit tests. ``callboard.actors``, ``callboard.supervision`` and ``callboard.persistence`` are for reading,
and for building on at your own risk until 1.0.

What needs the database's driver is imported when it is first asked for: a module that only defines jobs, and the child
process that runs one of them, would pay three quarters of its start for what it never uses.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

from callboard.actors.batches.state import BatchStatus, ItemStatus
from callboard.actors.batches.types import BatchRecord, BatchRequest, BatchResult
from callboard.actors.callbacks.attempts import CallbackState
from callboard.actors.callbacks.types import CallbackRecord
from callboard.actors.errors import (
    BatchNotFound,
    CallboardError,
    ConfigurationError,
    DuplicateJob,
    InvalidArguments,
    InvalidBatch,
    InvalidTransition,
    JobCancelled,
    JobDefinitionError,
    JobEnded,
    JobFailed,
    JobNotFound,
    LlmRequestFailed,
    PayloadTooLarge,
    QueueFull,
    ResultExpired,
    RuntimeStopped,
    SchemaMismatch,
    SchemaMissing,
    ServerTooOld,
    StaleAttempt,
    StoreError,
    StoreUnavailable,
    TransitionRefused,
    UnknownJobKind,
    ValueNotStorable,
)
from callboard.actors.jobs.context import JobContext
from callboard.actors.jobs.control import Abort, Retry, Snooze
from callboard.actors.jobs.definition import ConfiguredJob, JobDefinition, JobRegistry, job
from callboard.actors.jobs.limits import Limit, LimitScope
from callboard.actors.jobs.options import SpawnOptions
from callboard.actors.jobs.state import Reason, Status
from callboard.actors.jobs.types import HistoryRow, JobFilter, JobRecord, OnConflict, QueueControl, StoreSummary
from callboard.actors.schedules.firing import Misfire
from callboard.actors.schedules.types import Schedule, ScheduleRecord
from callboard.actors.settings import Settings

if TYPE_CHECKING:
    from .batch_ref import BatchRef
    from .ref import JobEvent, JobRef, ProgressEvent, TransitionEvent
    from .runtime import Runtime

_LATER: Final = {
    "BatchRef": ".batch_ref",
    "JobEvent": ".ref",
    "JobRef": ".ref",
    "ProgressEvent": ".ref",
    "Runtime": ".runtime",
    "TransitionEvent": ".ref",
}

__all__ = [
    "Abort",
    "BatchNotFound",
    "BatchRecord",
    "BatchRef",
    "BatchRequest",
    "BatchResult",
    "BatchStatus",
    "CallbackRecord",
    "CallbackState",
    "CallboardError",
    "ConfigurationError",
    "ConfiguredJob",
    "DuplicateJob",
    "HistoryRow",
    "InvalidArguments",
    "InvalidBatch",
    "InvalidTransition",
    "ItemStatus",
    "JobCancelled",
    "JobContext",
    "JobDefinition",
    "JobDefinitionError",
    "JobEnded",
    "JobEvent",
    "JobFailed",
    "JobFilter",
    "JobNotFound",
    "JobRecord",
    "JobRef",
    "JobRegistry",
    "Limit",
    "LimitScope",
    "LlmRequestFailed",
    "Misfire",
    "OnConflict",
    "PayloadTooLarge",
    "ProgressEvent",
    "QueueControl",
    "QueueFull",
    "Reason",
    "ResultExpired",
    "Retry",
    "Runtime",
    "RuntimeStopped",
    "Schedule",
    "ScheduleRecord",
    "SchemaMismatch",
    "SchemaMissing",
    "ServerTooOld",
    "Settings",
    "Snooze",
    "SpawnOptions",
    "StaleAttempt",
    "Status",
    "StoreError",
    "StoreSummary",
    "StoreUnavailable",
    "TransitionEvent",
    "TransitionRefused",
    "UnknownJobKind",
    "ValueNotStorable",
    "job",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LATER[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
