"""What follows when the database has answered an attempt's last transition."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from callboard.actors.clock import Clock
from callboard.actors.errors import InvalidTransition, JobNotFound, StaleAttempt
from callboard.actors.outbox import Answer, Write
from callboard.actors.ports import Telemetry
from callboard.actors.progress import ProgressBoard
from callboard.actors.running_jobs import RunningJobs
from callboard.actors.waiters import Waiters

from .decide import Fail, Policy, decide
from .ended import Ended
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
    """Settles attempts whose code has ended and whose last transition was answered. Their actors are gone.

    The slots are free, the leases let go and whoever waits for the jobs told: after COMMIT, and whatever goes wrong
    here. All of a commit at once, as what a job costs is counted in microseconds. Loop thread only.

    Args:
        running: where the slots are.
        progress: the reports that wait.
        waiters: of jobs' ends.
        telemetry: counts.
        clock: of the attempts' starts.
        policy: for jobs whose outcome cannot be stored.
    """

    def __init__(
        self,
        running: RunningJobs,
        progress: ProgressBoard,
        waiters: Waiters,
        telemetry: Telemetry,
        clock: Clock,
        policy: Policy,
    ) -> None:
        self._running = running
        self._progress = progress
        self._waiters = waiters
        self._telemetry = telemetry
        self._clock = clock
        self._policy = policy

    def settle(self, writes: Sequence[Write], answers: Sequence[Answer]) -> list[Write]:
        """Take the answers, in order; return what is to be written instead of what cannot be stored."""
        applied: list[Write] = []
        lost: list[tuple[Write, Refused | Exception]] = []
        not_stored: list[tuple[Write, Exception]] = []
        for write, answer in zip(writes, answers, strict=True):
            if isinstance(answer, Applied):
                applied.append(write)
            elif isinstance(answer, Exception) and write.transition.reason is not Reason.NOT_RETRYABLE:
                not_stored.append((write, answer))
            else:
                lost.append((write, answer))
        try:
            self._applied(applied)
            for write, refusal in lost:
                self._lost(write, refusal)
        except Exception:  # noqa: BLE001 - a defect of ours must not keep the slots and leases
            _log.exception("a defect where the answers to %d writes are heard", len(writes))
        finally:
            self.let_go([write.claimed for write in applied] + [write.claimed for write, _ in lost])
        return [self._plain_error(write, exception) for write, exception in not_stored]

    def let_go(self, ended: Sequence[ClaimedJob]) -> None:
        """Free the slots and the leases of attempts that have ended, whatever way."""
        if self._progress:  # most jobs report nothing
            self._progress.forget([AttemptKey(claimed.id, claimed.token) for claimed in ended])
        self._running.remove(ended)

    def _applied(self, writes: Sequence[Write]) -> None:
        now = self._clock.monotonic()
        self._telemetry.attempts_ended(
            [
                (
                    (write.claimed.kind, write.claimed.queue, write.transition.to_status, write.transition.reason),
                    now - write.started,
                )
                for write in writes
            ]
        )
        if len(self._waiters):
            for write in writes:
                transition, claimed = write.transition, write.claimed
                if claimed.id in self._waiters and transition.to_status.is_terminal:
                    self._waiters.ended(
                        Ended(
                            claimed.id,
                            claimed.kind,
                            transition.to_status,
                            transition.result,
                            transition.reason,
                            transition.error,
                        )
                    )

    def _lost(self, write: Write, answer: Refused | Exception) -> None:
        if isinstance(answer, Refused):
            self._refused(write, answer)
        else:
            self._not_storable(write, answer)

    def _refused(self, write: Write, refused: Refused) -> None:
        transition, claimed = write.transition, write.claimed
        self._telemetry.transition_refused(Status.RUNNING, transition.to_status, refused.cause)
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

    def _plain_error(self, write: Write, exception: Exception) -> Write:
        """Let the job fail by what the database does not accept of its outcome."""
        claimed = write.claimed
        _log.error("job %s (%s): its outcome cannot be stored", claimed.id, claimed.kind, exc_info=exception)
        event = Fail(describe(exception), 0.0, retryable=False)
        return Write(decide(claimed, event, self._policy, self._clock.now()), claimed, write.started)

    def _not_storable(self, write: Write, exception: Exception) -> None:
        claimed = write.claimed
        _log.error(
            "job %s (%s): not even its plain error can be stored; its lease expires, and the attempt counts",
            claimed.id,
            claimed.kind,
            exc_info=exception,
        )
        self._running.crashed(claimed)
