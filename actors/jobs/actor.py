"""The actor of one claimed job: its mailbox orders what happens to the attempt.

::

    running ──code finished──────────────────▶ gone, its last transition in the outbox
       │                                        ▲
       └─stop──▶ stopping ──finished or grace over
                     └──(cancelled, lost: nothing left to write)──▶ gone

What the outbox holds is beyond recall: no message could change it any more. The slot is free, the lease let go and the
caller told when it is answered, after COMMIT: see ``settlement.py``.
"""

from __future__ import annotations

import logging
from typing import Any, assert_never

from callboard.actors.actor import EventActor
from callboard.actors.executors.base import Execution
from callboard.actors.outbox import Write
from callboard.actors.retry import next_delay_seconds

from .call import Call, Judged, Outcome, Raised, Returned, was_cancelled
from .context import JobContext
from .decide import Event, Fail, SoftStop, Succeed, TimeOut, Transition, UnknownKind, decide, succeed
from .definition import JobDefinition
from .environment import JobEnvironment
from .failure import describe, plain_error
from .interpret import interpret
from .messages import (
    CodeNotStarted,
    CodeStarted,
    GraceOver,
    JobMessage,
    KindUnknownFor,
    ReportStored,
    StopAttempt,
    StopCause,
)
from .state import Reason, Status
from .types import AttemptKey, ClaimedJob

_log = logging.getLogger(__name__)


class JobActor(EventActor):
    """Runs one attempt of one job, from the claim until its last transition is on its way.

    If this actor itself crashes (a defect of ours), its slot is freed and its lease expires: the rescue then counts the
    attempt and gives the job to somebody else.
    """

    # What most attempts never change is not set for each of them.
    _context: JobContext | None = None
    _execution: Execution | None = None
    _stop_cause: StopCause | None = None
    _event: Event | None = None
    _holds = True

    def __init__(self, claimed: ClaimedJob, environment: JobEnvironment, started: float) -> None:
        super().__init__()
        self._claimed = claimed
        self._environment = environment
        self._definition: JobDefinition[..., Any] | None = environment.registry.get(claimed.kind)
        self._started = started

    @property
    def label(self) -> str:
        """Which job it runs."""
        return f"{self._claimed.kind} {self._claimed.id} attempt {self._claimed.attempt}"

    def begin(self) -> None:
        """Hand the function to its executor. Called once, on the event loop, when the actor has been started."""
        if self._definition is None:
            self.context.pipe_to_self(
                self._environment.services.unknown_for_seconds(self._claimed.id),
                on_success=KindUnknownFor,
                on_failure=lambda _: KindUnknownFor(0.0),  # the database will say no more now: put it back, ask again
            )
            return
        try:
            self._start_code(self._definition)
        except Exception as exception:  # noqa: BLE001 - no thread left, say: the attempt has failed, the worker goes on
            _log.exception("job %s (%s) cannot be started", self._claimed.id, self._claimed.kind)
            self.actor_ref.send(CodeNotStarted(exception))

    def _start_code(self, definition: JobDefinition[..., Any]) -> None:
        claimed, environment = self._claimed, self._environment
        self._context = JobContext(claimed, environment.services)
        call = Call(definition, self._context, claimed, environment.result_limit_bytes)
        if claimed.deadline is not None:
            left = max(0.0, (claimed.deadline - environment.clock.now()).total_seconds())
            self.context.start_timer("deadline", left, StopAttempt(StopCause.TIMEOUT))
        on_start = _nothing if claimed.timeout_seconds is None else self._tell_started
        self._execution = environment.executors[definition.executor].start(call, on_start, self.actor_ref.deliver)

    def _tell_started(self) -> None:
        self.actor_ref.send(CodeStarted())

    def on_receive(self, message: JobMessage) -> None:
        """Take the next step."""
        match message:
            case Returned() | Raised() | Judged():
                self._code_finished(message)
            case CodeStarted():
                self._code_started()
            case CodeNotStarted(exception):
                self._write(Fail(describe(exception), self._draw_retry_delay(exception)))
            case StopAttempt(cause):
                self._stop_attempt(cause)
            case GraceOver():
                self._grace_over()
            case ReportStored():
                self._put_decided()
            case KindUnknownFor(seconds):
                self._write(UnknownKind(seconds))
            case _:
                assert_never(message)

    def on_gone(self) -> None:
        """Free what the attempt still holds, and let its code end: this actor crashed, was killed, or shut down."""
        if not self._holds:
            return
        if self._execution is not None and self._event is None:
            self._ask_code_to_end(self._execution)
        self._environment.running.crashed(self._claimed)
        self._let_go()

    def _code_started(self) -> None:
        seconds = self._claimed.timeout_seconds
        if seconds is not None and self._event is None:
            self.context.start_timer("timeout", seconds, StopAttempt(StopCause.TIMEOUT))

    def _stop_attempt(self, cause: StopCause) -> None:
        if self._event is not None or self._execution is None:
            return  # its last transition is on the way: the database decides who was first
        first = self._stop_cause is None
        if (
            first
            or cause is StopCause.CANCELLED
            or (cause is StopCause.LOST and self._stop_cause is not StopCause.CANCELLED)
        ):
            self._stop_cause = cause
        if first:
            self._ask_code_to_end(self._execution)
            self.context.start_timer("grace", self._environment.cancel_grace_seconds, GraceOver())

    def _ask_code_to_end(self, execution: Execution) -> None:
        if self._context is not None:
            self._context.ask_to_end()
        execution.cancel()

    def _code_finished(self, outcome: Outcome) -> None:
        if self._stop_cause is None and type(outcome) is Returned and not self._environment.progress:
            self._succeed(outcome.result)  # nearly always: the short way
            return
        match self._stop_cause:
            case None:
                self._write(self._interpret(outcome))
            case StopCause.TIMEOUT:
                self._write(self._time_out())
            case StopCause.SHUTDOWN:
                # A thread that returns because it saw `cancelled` has not done its work.
                gave_in = was_cancelled(outcome) or (self._context is not None and self._context.saw_cancelled)
                self._write(SoftStop() if gave_in else self._interpret(outcome))
            case StopCause.CANCELLED | StopCause.LOST:
                self._stopped_for_others(self._stop_cause)
            case _:
                assert_never(self._stop_cause)

    def _grace_over(self) -> None:
        if self._execution is None or not self._execution.abandon():
            return  # it has just ended: its outcome is on the way
        match self._stop_cause:
            case StopCause.TIMEOUT:
                self._write(self._time_out())
            case StopCause.SHUTDOWN:
                self._write(SoftStop())
            case StopCause.CANCELLED | StopCause.LOST:
                self._stopped_for_others(self._stop_cause)
            case None:
                raise AssertionError("a grace period without a stop")

    def _interpret(self, outcome: Outcome) -> Event:
        definition = self._definition
        if definition is None:
            raise AssertionError("code of an unknown kind ran")
        return interpret(outcome, retry_on=definition.retry_on, retry_delay_seconds=self._draw_retry_delay)

    def _time_out(self) -> TimeOut:
        claimed = self._claimed
        if claimed.timeout_seconds is None or (claimed.deadline and self._environment.clock.now() >= claimed.deadline):
            limit = f"past the job's deadline {claimed.deadline}"
        else:
            limit = f"longer than timeout_seconds={claimed.timeout_seconds:g}"
        error = plain_error("TimeoutError", f"attempt {claimed.attempt} ran {limit} and was stopped")
        return TimeOut(error, self._draw_retry_delay(None))

    def _draw_retry_delay(self, exception: BaseException | None) -> float:
        attempt, default = self._claimed.attempt, self._environment.retry
        own = None if self._definition is None else self._definition.retry
        try:
            return next_delay_seconds(own or default, attempt, exception)
        except Exception:  # noqa: BLE001 - a strategy may be anybody's code, and must not cost the job its outcome
            _log.exception("the retry strategy of job kind %s raised; the default one is used", self._claimed.kind)
            return next_delay_seconds(default, attempt, exception)

    def _write(self, event: Event) -> None:
        environment = self._environment
        if self._stop_cause is not None:
            self.context.cancel_timer("grace")
        self._event = event
        attempt = AttemptKey(self._claimed.id, self._claimed.token)
        if environment.progress.waits(attempt):
            # The last report must be stored while the attempt still owns the row.
            send = self.actor_ref.send
            environment.progress.flush_before(attempt, lambda: send(ReportStored()))
        else:
            self._put_decided()

    def _put_decided(self) -> None:
        environment, event = self._environment, self._event
        if event is None:
            raise AssertionError("nothing has happened that could be written")
        if isinstance(event, Succeed):
            self._succeed(event.result)
        else:
            self._put(decide(self._claimed, event, environment.policy, environment.clock.now()))

    def _succeed(self, result: str | None) -> None:
        claimed = self._claimed
        self._put(succeed(claimed.id, claimed.token, result, claimed.parent_id is not None))

    def _put(self, transition: Transition) -> None:
        self._holds = False
        self._environment.outbox.put(Write(transition, self._claimed, self._started))
        self.actor_inbox.end_after_message()

    def _stopped_for_others(self, cause: StopCause) -> None:
        environment, claimed = self._environment, self._claimed
        if cause is StopCause.CANCELLED:
            run_seconds = environment.clock.monotonic() - self._started
            environment.telemetry.attempts_ended(
                [((claimed.kind, claimed.queue, Status.CANCELLED, Reason.CANCELLED), run_seconds)]
            )
        self._let_go()
        self.actor_inbox.end_after_message()

    def _let_go(self) -> None:
        self._holds = False
        self._environment.settlement.let_go([self._claimed])


def _nothing() -> None:
    """Nobody wants to know when a function without a time limit begins."""
