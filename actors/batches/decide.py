"""What follows from an answer of a provider, or from none. Functions of their arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from .provider import FailureKind, Phase, ProviderBatch, ProviderFailure
from .state import BatchStatus, ItemStatus
from .types import BatchNote, BatchRecord

HOUR_SECONDS: Final = 3_600.0
DAY_SECONDS: Final = 86_400.0
WEEK_SECONDS: Final = 7 * DAY_SECONDS


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """The settings of the decisions.

    Attributes:
        interval_seconds: of polls.
        lookback_seconds: a batch older than this that still runs there is given up.
        overdue_seconds: so long after its own deadline as well. Source: providers promise to end it within 24 hours.
        results_kept_seconds: so long after its creation a provider keeps results (Anthropic: 29 days).
        max_backoff_seconds: longest pause after failures, unless the provider asks for more.
        young_seconds: so long a batch that the provider does not know may be one that it does not know yet.
        forgotten_failures: so many failures in a row end a batch that the provider does not know, or whose polls it
            refuses.
        max_short_reads: so many complete reads of results, each too short, end the waiting for the rest.
        resubmissions: so often a request of a job that expired, or failed by the provider's own fault, is sent again.
    """

    interval_seconds: float = 300.0
    lookback_seconds: float = 2 * WEEK_SECONDS
    overdue_seconds: float = HOUR_SECONDS
    results_kept_seconds: float = 29 * DAY_SECONDS
    max_backoff_seconds: float = HOUR_SECONDS
    young_seconds: float = HOUR_SECONDS
    forgotten_failures: int = 5
    max_short_reads: int = 24
    resubmissions: int = 1


@dataclass(frozen=True, slots=True)
class Wait:
    """Poll again later."""

    note: BatchNote


@dataclass(frozen=True, slots=True)
class Collect:
    """It has ended there: read its results."""

    note: BatchNote


@dataclass(frozen=True, slots=True)
class End:
    """End it: what has no outcome by now gets none from the provider."""

    status: BatchStatus
    leftover: ItemStatus
    error: str | None
    again: bool = False
    """Whether what has no outcome was never run, and never will be: to send it again costs nothing twice."""


Decision: TypeAlias = Wait | Collect | End


def after_answer(batch: BatchRecord, answer: ProviderBatch, policy: PollPolicy) -> Wait | Collect | End:
    """Decide what follows from a provider's answer about a batch.

    A word that is not known changes nothing: the batch goes on as it was, and is asked about again.
    """
    note = BatchNote(
        provider_status=answer.status,
        provider_counts=answer.counts,
        expires_at=answer.expires_at,
        short_reads=batch.short_reads,
    )
    if answer.phase is Phase.ENDED:
        return Collect(note._replace(ended=True, failures=batch.failures))
    overdue = _overdue(batch, answer, policy)
    if overdue is not None:
        return End(BatchStatus.EXPIRED, ItemStatus.EXPIRED, overdue)
    if answer.phase is Phase.UNRECOGNIZED:
        return Wait(note._replace(last_error=f"the provider's status {answer.status!r} is not known to this version"))
    return Wait(note)


def _overdue(batch: BatchRecord, answer: ProviderBatch, policy: PollPolicy) -> str | None:
    expires_at = answer.expires_at or batch.expires_at
    if expires_at is not None and (batch.read_at - expires_at).total_seconds() > policy.overdue_seconds:
        return f"it was to end by {expires_at.isoformat()}, and is {answer.status} still"
    if batch.age_seconds > policy.lookback_seconds:
        return (
            f"it is {answer.status} still, {batch.age_seconds / DAY_SECONDS:.1f} days after its creation; "
            f"the look-back is {policy.lookback_seconds / WEEK_SECONDS:g} weeks"
        )
    return None


def after_failure(batch: BatchRecord, failure: ProviderFailure, policy: PollPolicy) -> Wait | End:
    """Decide what follows from a poll, or a reading of results, that failed.

    What may be there still is not given up before the provider itself would have deleted it.
    """
    message = str(failure)
    if failure.kind is FailureKind.CREDENTIALS:  # not the batch's fault, and soon over once somebody has helped
        note = BatchNote(failures=batch.failures, short_reads=batch.short_reads, last_error=message)
        return Wait(note._replace(next_poll_seconds=policy.interval_seconds))
    failures = batch.failures + 1
    if batch.age_seconds > policy.results_kept_seconds:
        return End(BatchStatus.EXPIRED, ItemStatus.EXPIRED, f"its results are not kept for so long; {message}")
    gone = failure.kind in {FailureKind.NOT_FOUND, FailureKind.REFUSED}
    if gone and failures >= policy.forgotten_failures and batch.age_seconds > policy.young_seconds:
        return End(BatchStatus.FAILED, ItemStatus.ERRORED, message)
    return Wait(
        BatchNote(
            next_poll_seconds=pause_seconds(failures, failure.retry_after_seconds, policy),
            failures=failures,
            short_reads=batch.short_reads,
            last_error=message,
        )
    )


def after_reading(batch: BatchRecord, answer: ProviderBatch, seen: int, policy: PollPolicy) -> Wait | End:
    """Decide what follows from results that were read to a clean end, though some items have no outcome.

    A short file with a clean end is no error to anybody who does not count.

    Args:
        batch: as it is.
        answer: how the provider described it.
        seen: how many different items of the batch the file had.
        policy: the settings.
    """
    if answer.expected_results is not None and seen >= answer.expected_results:
        never_run = answer.leftover is ItemStatus.EXPIRED
        return End(answer.ended_as, answer.leftover, answer.error, again=never_run)
    expected = batch.total_items if answer.expected_results is None else answer.expected_results
    short_reads = batch.short_reads + 1
    message = f"the results have {seen} of {expected} items"
    if short_reads >= policy.max_short_reads or batch.age_seconds > policy.results_kept_seconds:
        return End(answer.ended_as, ItemStatus.ERRORED, f"{message}, after {short_reads} complete reads")
    return Wait(
        BatchNote(
            next_poll_seconds=pause_seconds(short_reads, None, policy),
            provider_status=answer.status,
            ended=True,
            failures=batch.failures + 1,
            short_reads=short_reads,
            last_error=message,
        )
    )


def pause_seconds(failures: int, retry_after_seconds: float | None, policy: PollPolicy) -> float:
    """Return how long a batch is left alone: doubling from the interval on, and never less than the provider asks.

    Args:
        failures: how many there have been in a row, from 1.
        retry_after_seconds: what the provider asked for.
        policy: the settings.
    """
    doubled = policy.interval_seconds * 2.0 ** min(failures - 1, 30)
    backoff = min(doubled, max(policy.interval_seconds, policy.max_backoff_seconds))
    return max(backoff, retry_after_seconds or 0.0)
