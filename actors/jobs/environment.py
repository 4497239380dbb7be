"""What all job actors of a runtime share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from callboard.actors.clock import Clock
from callboard.actors.executors.base import Executor
from callboard.actors.outbox import Outbox
from callboard.actors.ports import Telemetry
from callboard.actors.progress import ProgressBoard
from callboard.actors.retry import WaitStrategy
from callboard.actors.running_jobs import RunningJobs

from .context import ContextServices
from .decide import Policy
from .definition import JobRegistry
from .settlement import Settlement


@dataclass(frozen=True, slots=True)
class JobEnvironment:
    """What all job actors of a runtime share."""

    registry: JobRegistry
    executors: Mapping[str, Executor]
    services: ContextServices
    outbox: Outbox
    running: RunningJobs
    settlement: Settlement
    progress: ProgressBoard
    telemetry: Telemetry
    clock: Clock
    policy: Policy
    retry: WaitStrategy
    cancel_grace_seconds: float
    result_limit_bytes: int
