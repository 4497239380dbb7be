"""What a job actor is told."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple, TypeAlias

from .call import Outcome


class StopCause(Enum):
    """Why an attempt has to stop."""

    CANCELLED = auto()
    """The job is cancelled: final in the database already."""
    LOST = auto()
    """The attempt is not ours any more: rescued by another node."""
    SHUTDOWN = auto()
    """This worker stops; the job goes back to the queue."""
    TIMEOUT = auto()
    """The attempt took too long."""


class CodeStarted(NamedTuple):
    """The executor began to run the function."""


class CodeNotStarted(NamedTuple):
    """The executor could not take the function."""

    exception: Exception


class StopAttempt(NamedTuple):
    """End the attempt."""

    cause: StopCause


class GraceOver(NamedTuple):
    """The function had its time to clean up."""


class KindUnknownFor(NamedTuple):
    """How long ago a worker first met this job without knowing its kind."""

    seconds: float


class ReportStored(NamedTuple):
    """The attempt's last progress report is stored."""


JobMessage: TypeAlias = Outcome | KindUnknownFor | CodeStarted | CodeNotStarted | StopAttempt | GraceOver | ReportStored
"""An ``Outcome`` tells that the function has ended, and how."""
