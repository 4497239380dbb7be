"""Every error that Callboard raises on purpose.

::

    CallboardError
    ├── ConfigurationError            settings, flags or a specification are wrong
    │   ├── InvalidSpecification      of a supervisor or a child, by OTP's name of what is wrong
    │   └── JobDefinitionError        a ``@job`` that cannot work, or two jobs of one kind
    ├── InvalidArguments              a spawn whose arguments do not fit the job's signature
    ├── InvalidResult                 a job returned what cannot be stored
    ├── PayloadTooLarge               arguments or a result over the limit
    ├── UnknownJobKind                a kind that this process has not imported
    ├── QueueFull                     refused for now: a bound on what waits is reached, or a queue is being drained
    ├── DuplicateJob                  another job holds the unique_key, and the spawn asked to be told
    ├── InvalidBatch                  requests that cannot be sent as a batch
    ├── BatchNotFound
    ├── JobNotFound
    ├── ResultExpired                 the job completed, and its result was not to be kept any longer
    ├── RuntimeStopped                the runtime is not running (any more)
    ├── ProcessDied                   the process that ran a job died
    │   └── MemoryLimitExceeded       killed: the job took more than its memory_limit_bytes
    ├── TransitionRefused             a write that lost; the row stays as it was
    │   ├── InvalidTransition         the state machine has no such edge
    │   └── StaleAttempt              another attempt owns the job now
    ├── NotLeader                     this process does not lead, or cannot be sure that it still does
    │   └── StaleTerm                 the database refused a leader's write: its term is over; nothing was written
    ├── JobEnded                      raised by ``JobRef.result()``
    │   ├── JobFailed
    │   └── JobCancelled
    ├── StoreError                    the database said no
    │   ├── StoreUnavailable          unreachable, or lost on the way; worth another try
    │   ├── ValueNotStorable          the database cannot store a value; nothing was written
    │   ├── ServerTooOld
    │   ├── SchemaMissing
    │   └── SchemaMismatch            older or newer than this code
    ├── EmbeddedServerError           no binaries, no start, no stop
    ├── AdminUnavailable              no worker answers on its admin socket
    ├── AdminRefused                  a worker answered that it cannot do what was asked
    └── ActorError
        ├── RestartIntensityReached   a supervisor gave up
        ├── QuotaExceeded             a supervisor ended, because its children used too much
        ├── WouldDeadlock             a blocking call that could never return
        ├── ProcessExited             a process ended that was not asked to
        ├── MailboxFull
        └── StashOverflow

Control flow of job functions (``Retry``, ``Snooze``) lives in ``actors/jobs/control.py``, that of actors (``Stop``,
``Ignore``) in ``actors/control.py``: answers, not errors.
Every message says what was got, what was expected and what to do.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID


class CallboardError(Exception):
    """Base of everything Callboard raises on purpose."""


class ConfigurationError(CallboardError):
    """Settings, flags or a specification are wrong. Nothing was started."""


class InvalidSpecification(ConfigurationError):
    """A flag of a supervisor or a child's specification is wrong. Nothing was started.

    Attributes:
        reason: what is wrong, by the name that Erlang/OTP's ``supervisor`` has for it (rules A3 to A8), such as
            ``invalid_restart_type``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class JobDefinitionError(ConfigurationError):
    """A ``@job`` that cannot work as it is written, or a second job of the same kind."""


class InvalidArguments(CallboardError, TypeError):
    """The arguments of a spawn do not fit the job's signature. Nothing was written."""


class InvalidResult(CallboardError, TypeError):
    """A job or a step returned what its annotation does not allow or JSON cannot hold. The job fails."""


class PayloadTooLarge(CallboardError, ValueError):
    """Serialized arguments or result exceed the limit in bytes. Nothing was written."""


class UnknownJobKind(CallboardError, LookupError):
    """No job of this kind is registered in this process."""


class QueueFull(CallboardError):
    """The queue refuses more work for now.

    Attributes:
        retry_after_seconds: when another try is worth it.
    """

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DuplicateJob(CallboardError):
    """Another job holds the ``unique_key``, and ``on_conflict`` is ``raise``. Nothing was written.

    Attributes:
        job_id: the job that holds it.
    """

    def __init__(self, job_id: UUID, kind: str, unique_key: str, status: str) -> None:
        super().__init__(
            f"job {job_id} of kind {kind} is {status} and holds the unique_key {unique_key!r}; nothing was written. "
            f"Wait for its end, or spawn with on_conflict='return', 'replace' or 'reschedule'"
        )
        self.job_id = job_id


class ResultExpired(CallboardError, LookupError):
    """The job completed, and its result is gone: it was kept for ``result_ttl_seconds``."""

    def __init__(self, job_id: UUID, result_ttl_seconds: float) -> None:
        super().__init__(
            f"the result of job {job_id} was kept for {result_ttl_seconds:g} s after its end and is gone; "
            f"spawn with a longer result_ttl_seconds, or ask sooner"
        )
        self.job_id = job_id


class JobNotFound(CallboardError, LookupError):
    """No job has this id."""

    def __init__(self, job_id: UUID) -> None:
        super().__init__(f"no job has the id {job_id}: it was never spawned here, or retention has removed it")
        self.job_id = job_id


class InvalidBatch(CallboardError, ValueError):
    """Requests that cannot be sent as a batch: none, malformed, two of one custom_id, or too many. Nothing was sent."""


class LlmRequestFailed(CallboardError):
    """A request of a job to a model has no reply, and will have none: the next attempt finds the same outcome.

    Attributes:
        key: of the request.
        status: ``errored``, ``canceled`` or ``expired``.
        error: what the provider said, as plain JSON data, or None.
    """

    def __init__(self, key: str, status: str, error: Any) -> None:
        super().__init__(f"ctx.llm_batch {key!r} ended {status}: {error}. To ask again, and pay again, use another key")
        self.key = key
        self.status = status
        self.error = error


class BatchNotFound(CallboardError, LookupError):
    """No batch has this id."""

    def __init__(self, batch_id: UUID) -> None:
        super().__init__(f"no batch has the id {batch_id}: it was never submitted here")
        self.batch_id = batch_id


class RuntimeStopped(CallboardError):
    """The runtime has not started, or has stopped. Jobs are not touched by that."""


class ProcessDied(CallboardError):
    """The process that ran a job died, or had to be killed, before the function had ended. The attempt has failed."""


class MemoryLimitExceeded(ProcessDied):
    """The job's process was killed because it took more memory than ``memory_limit_bytes``."""


class TransitionRefused(CallboardError):
    """A change of status that lost against the rules or against another writer. The row stays as it was.

    Attributes:
        job_id: whose status it was.
        actual_status: the status found in the database (or in the decision's input).
        wanted_status: the status that the refused write asked for.
    """

    def __init__(self, message: str, *, job_id: UUID, actual_status: str, wanted_status: str) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.actual_status = actual_status
        self.wanted_status = wanted_status


class InvalidTransition(TransitionRefused):
    """The state machine has no edge from the job's status to the wanted one."""


class StaleAttempt(TransitionRefused):
    """The writer's attempt token is no longer the job's: another attempt owns it, or it was taken back."""


class NotLeader(CallboardError):
    """This process does not lead, or cannot be sure that it still does."""


class StaleTerm(NotLeader):
    """A leader's write was refused, because its term is over. Nothing was written.

    Attributes:
        term: the writer's.
    """

    def __init__(self, term: int) -> None:
        super().__init__(
            f"term {term} is over: another leader has been elected since, or may be now. Nothing was written; the "
            f"current leader does this"
        )
        self.term = term


class JobEnded(CallboardError):
    """Base of what ``JobRef.result()`` raises for a job that ended without a result.

    Attributes:
        job_id: the job.
        stop_reason: why it ended, see ``actors/jobs/state.py``.
        error: ``{"type": str, "message": str, "traceback": str | None}`` as stored, or None.
    """

    def __init__(self, job_id: UUID, kind: str, *, stop_reason: str, error: dict[str, Any] | None) -> None:
        self.job_id = job_id
        self.kind = kind
        self.stop_reason = stop_reason
        self.error = error
        cause = f": {error['type']}: {error['message']}" if error else ""
        super().__init__(f"job {kind} {job_id} {self._verb} ({stop_reason}){cause}")

    _verb = "ended"


class JobFailed(JobEnded):
    """The job is ``failed``."""

    _verb = "failed"


class JobCancelled(JobEnded):
    """The job is ``cancelled``."""

    _verb = "was cancelled"


class StoreError(CallboardError):
    """The database refused or could not do what was asked."""


class StoreUnavailable(StoreError):
    """The database cannot be reached, the connection was lost, or the server refuses for now. Try again."""


class ValueNotStorable(StoreError):
    """The database cannot store a value: the one error of a store that is about the data. Nothing was written."""


class ServerTooOld(StoreError):
    """The server is older than the oldest supported PostgreSQL (14)."""


class SchemaMissing(StoreError):
    """The schema is not there: run ``callboard migrate``."""


class SchemaMismatch(StoreError):
    """The schema is of another revision than this code; the message says which is newer and what to do."""


class EmbeddedServerError(CallboardError):
    """The private PostgreSQL could not be found, started or stopped."""


class AdminUnavailable(CallboardError):
    """No process answers on an admin socket."""


class AdminRefused(CallboardError):
    """A process cannot do what an administrator asked for.

    Attributes:
        code: ``not_found``, ``ambiguous``, ``refused``, ``start_failed``, ``unanswered``, ``stopping``, ``busy``,
            ``bad_request`` or ``failed``; docs/admin.md explains them.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class ActorError(CallboardError):
    """Base of the kernel's own errors."""


class RestartIntensityReached(ActorError):
    """A supervisor gave up: more of its children's restarts than it allows, in the time that it looks at."""


class QuotaExceeded(ActorError):
    """A supervisor ended, because its children used more than a quota whose action is ``escalate`` allows."""


class WouldDeadlock(ActorError):
    """A blocking call was refused because it could never return; the message names the cycle."""


class MailboxFull(ActorError):
    """A bounded mailbox with the policy ``raise`` (or a ``block`` whose timeout passed) took no more."""


class StashOverflow(ActorError):
    """A bounded stash is full."""


class ProcessExited(ActorError):
    """A supervised process has failed: it ended with an error or by a signal, or did not start.

    Attributes:
        exit_code: its exit code; None if a signal ended it.
        signal_number: the signal that ended it; None if it exited.
        last_message: what it said of its failure; empty if nothing.
    """

    def __init__(
        self, message: str, *, exit_code: int | None, signal_number: int | None = None, last_message: str = ""
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.signal_number = signal_number
        self.last_message = last_message
