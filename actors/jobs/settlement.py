"""What follows when the database has answered an attempt's last transition."""

from __future__ import annotations

import logging
from typing import assert_never

from callboard.actors.errors import InvalidTransition, JobNotFound, StaleAttempt
from callboard.actors.outbox import Answer, Write

from .decide import Fail, Transition, decide
from .ended import Ended
from .environment import JobEnvironment
from .failure import describe
from .state import Reason, Status
from .types import Applied, AttemptKey, ClaimedJob, Refused

_log = logging.getLogger(__name__)

_REFUSALS = {
    "stale": StaleAttempt.__name__,
    "invalid": InvalidTransition.__name__,
    "missing": JobNotFound.__name__,
}
"""What a refused write is called, by its cause."""


class Settlement:
    """An attempt whose code has ended and whose last transition is in the outbox. Its actor is gone.

    Once it is answered, the slot is free, the lease let go and whoever waits for the job told: after COMMIT, and
    whatever goes wrong here.
    """

    __slots__ = ("_claimed", "_environment", "_started", "_transition")

    def __init__(
        self, claimed: ClaimedJob, transition: Transition, started: float, environment: JobEnvironment
    ) -> None:
        self._claimed = claimed
        self._transition = transition
        self._started = started
        self._environment = environment

    def answered(self, answer: Answer) -> None:
        """Take the answer. On the loop."""
        if isinstance(answer, Exception) and self._transition.reason is not Reason.NOT_RETRYABLE:
            self._write_plain_error(answer)
            return
        try:
            match answer:
                case Applied():
                    self._applied()
                case Refused():
                    self._refused(answer)
                case Exception():
                    self._not_storable(answer)
                case _:
                    assert_never(answer)
        finally:
            claimed = self._claimed
            self._environment.let_go(claimed, AttemptKey(claimed.id, claimed.token))

    def _applied(self) -> None:
        environment, claimed, transition = self._environment, self._claimed, self._transition
        run_seconds = environment.clock.monotonic() - self._started
        environment.telemetry.attempt_ended(
            claimed.kind, claimed.queue, transition.to_status, transition.reason, run_seconds
        )
        if claimed.id in environment.waiters and transition.to_status.is_terminal:
            ended = Ended(
                claimed.id, claimed.kind, transition.to_status, transition.result, transition.reason, transition.error
            )
            environment.waiters.ended(ended)

    def _refused(self, refused: Refused) -> None:
        claimed, transition = self._claimed, self._transition
        self._environment.telemetry.transition_refused(Status.RUNNING, transition.to_status, refused.cause)
        _log.warning(
            "%s: job %s (%s): %s of the attempt with token %d refused, the job is %s; another attempt or a cancel was "
            "first",
            _REFUSALS[refused.cause],
            claimed.id,
            claimed.kind,
            transition.to_status,
            transition.token,
            refused.actual_status,
        )

    def _write_plain_error(self, exception: Exception) -> None:
        """Let the job fail by what the database does not accept of its outcome."""
        claimed, environment = self._claimed, self._environment
        _log.error("job %s (%s): its outcome cannot be stored", claimed.id, claimed.kind, exc_info=exception)
        event = Fail(describe(exception), 0.0, retryable=False)
        self._transition = decide(claimed, event, environment.policy, environment.clock.now())
        environment.outbox.put(Write(self._transition, self.answered))

    def _not_storable(self, exception: Exception) -> None:
        claimed = self._claimed
        _log.error(
            "job %s (%s): not even its plain error can be stored; its lease expires, and the attempt counts",
            claimed.id,
            claimed.kind,
            exc_info=exception,
        )
        self._environment.running.crashed(claimed)
