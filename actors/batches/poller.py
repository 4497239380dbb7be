"""Polls batches: one cycle after another, each over all batches that are due, each batch for itself."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from callboard.actors.breaker import Breaker
from callboard.actors.clock import Clock
from callboard.actors.errors import CallboardError, ConfigurationError, StoreError, ValueNotStorable

from .collecting import CHUNK_ITEMS, Collector, Reading
from .decide import Collect, End, PollPolicy, Wait, after_answer, after_failure, after_reading
from .metrics import BatchPollingMetrics, PollStage
from .ports import BatchStore, BatchTelemetry
from .provider import BatchProvider, FailureKind, Phase, ProviderBatch, ProviderFailure
from .providers import Providers
from .state import UNCONFIRMED, BatchStatus, ItemStatus
from .submitting import Fence, Submission
from .types import BatchNote, BatchRecord, Collected

_log = logging.getLogger(__name__)

POLLS_AT_A_TIME: Final = 8
"""Over all providers. Source: operations experience; a provider's own limit is on requests a minute."""


@dataclass(frozen=True, slots=True)
class PollerSettings:
    """How to poll.

    Attributes:
        policy: what follows from what.
        batch_size: most batches of one cycle; None is all that are due.
        request_timeout_seconds: of one request to a provider; also how long the next result may take.
        polls_at_a_time: batches polled concurrently.
        chunk_items: one transaction records so many results at most.
    """

    policy: PollPolicy
    batch_size: int | None = None
    request_timeout_seconds: float = 60.0
    polls_at_a_time: int = POLLS_AT_A_TIME
    chunk_items: int = CHUNK_ITEMS


class BatchPoller:
    """Follows all unfinished batches; ``poll`` is one cycle. The leader runs it, and one at a time.

    What goes wrong with a batch is noted at that batch, which then waits longer and longer, and hinders no other. What
    the database refuses, or that somebody else leads, ends the cycle.

    Args:
        store: where the batches are.
        providers: who runs them.
        settings: how.
        telemetry: measurements.
        clock: the time.
        fence: returns the term under which to write.
    """

    def __init__(
        self,
        store: BatchStore,
        providers: Providers,
        settings: PollerSettings,
        telemetry: BatchTelemetry,
        clock: Clock,
        fence: Fence,
    ) -> None:
        self._store = store
        self._providers = providers
        self._settings = settings
        self._telemetry = telemetry
        self._clock = clock
        self._fence = fence
        self._submission = Submission(store, settings.request_timeout_seconds)
        self._breakers: dict[str, Breaker] = {}

    async def poll(self) -> None:
        """Run one cycle; log and measure it, however it ends."""
        cycle = BatchPollingMetrics(self._clock.now())
        began = self._clock.monotonic()
        try:
            await self._poll(cycle)
        finally:
            cycle.log_summary()
            self._telemetry.batches_polled(cycle, self._clock.monotonic() - began)

    async def _poll(self, cycle: BatchPollingMetrics) -> None:
        self._fence()
        try:
            batches = await self._store.due(limit=self._settings.batch_size, without=self._silent_providers())
        except StoreError:
            cycle.failed("all", "list")
            raise
        for batch in batches:
            cycle.found(batch.provider)
        queue = iter(batches)
        workers = [asyncio.create_task(self._work(queue, cycle)) for _ in range(self._settings.polls_at_a_time)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def _silent_providers(self) -> list[str]:
        """Return who is not called now; with a limit on the cycle, their batches would keep others out of it."""
        now = self._clock.monotonic()
        return [name for name, breaker in self._breakers.items() if not breaker.allows(now)]

    async def _work(self, queue: Iterator[BatchRecord], cycle: BatchPollingMetrics) -> None:
        for batch in queue:
            status = await self._poll_one(batch, cycle)
            if status.is_terminal:
                cycle.ended(batch.provider)
                self._telemetry.batch_ended(batch.provider, status)
            else:
                cycle.still_running(batch.provider)

    async def _poll_one(self, batch: BatchRecord, cycle: BatchPollingMetrics) -> BatchStatus:
        """Poll one batch; return its status afterwards."""
        name = batch.provider
        breaker = self._breakers.get(name, Breaker())
        if not breaker.allows(self._clock.monotonic()):
            return batch.status
        self._set_breaker(name, breaker.called(self._clock.monotonic()))
        poll = _Poll(self, batch, cycle)
        try:
            provider = await self._providers.get(name)
            status = await poll.run(provider)
        except ProviderFailure as failure:
            cycle.failed(name, poll.stage)
            self._provider_failed(name, failure)
            return await poll.failed(failure)
        except ConfigurationError as error:
            # Not the batch's fault: this node lacks the SDK or the key. Another one may have it.
            cycle.failed(name, poll.stage)
            self._set_breaker(name, self._breakers[name].failed(self._clock.monotonic(), at_once=True))
            _log.error("batches of %s cannot be polled here: %s", name, error)
            return batch.status
        except ValueNotStorable as error:
            cycle.failed(name, "apply")
            self._set_breaker(name, self._breakers[name].abandoned())
            return await poll.failed(ProviderFailure(str(error), kind=FailureKind.PASSING))
        except CallboardError:  # the database's, or somebody else leads: the whole cycle ends
            cycle.failed(name, "apply")
            self._set_breaker(name, self._breakers[name].abandoned())
            raise
        except Exception as error:  # noqa: BLE001 - logged with its traceback, and noted at the batch
            # A provider of the user's, or an answer of a shape that nobody foresaw: of this batch only.
            cycle.failed(name, poll.stage)
            self._set_breaker(name, self._breakers[name].abandoned())
            _log.exception("batch %s: the poll crashed", batch.id)
            return await poll.failed(ProviderFailure(f"{type(error).__name__}: {error}", kind=FailureKind.PASSING))
        self._set_breaker(name, self._breakers[name].succeeded())
        return status

    def _provider_failed(self, name: str, failure: ProviderFailure) -> None:
        breaker, now = self._breakers[name], self._clock.monotonic()
        match failure.kind:
            case FailureKind.CREDENTIALS:
                _log.error("%s refuses the credentials: %s", name, failure)
                self._set_breaker(name, breaker.failed(now, at_once=True))
            case FailureKind.PASSING if failure.retry_after_seconds:
                self._set_breaker(name, breaker.failed(now, at_once=True, pause_seconds=failure.retry_after_seconds))
            case FailureKind.PASSING:
                self._set_breaker(name, breaker.failed(now))
            case _:  # it answers, and about one batch only
                self._set_breaker(name, breaker.succeeded())

    def _set_breaker(self, name: str, breaker: Breaker) -> None:
        now = self._clock.monotonic()
        before = self._breakers.get(name)
        self._breakers[name] = breaker
        if before is None or before.state(now) is not breaker.state(now):
            self._telemetry.breaker_changed(name, breaker.state(now))


class _Poll:
    """One poll of one batch."""

    def __init__(self, poller: BatchPoller, batch: BatchRecord, cycle: BatchPollingMetrics) -> None:
        self._store = poller._store
        self._settings = poller._settings
        self._policy = poller._settings.policy
        self._telemetry = poller._telemetry
        self._submission = poller._submission
        self._fence = poller._fence
        self._batch = batch
        self._cycle = cycle
        self.stage: PollStage = "retrieve"

    async def run(self, provider: BatchProvider) -> BatchStatus:
        batch = self._batch
        if batch.status in UNCONFIRMED:
            self.stage = "submit"
            return await self._submission.reconcile(provider, batch, self._fence)
        assert batch.provider_batch_id is not None
        if batch.cancel_requested and batch.cancel_sent_at is None and batch.provider_ended_at is None:
            self.stage = "cancel"
            await provider.cancel(batch.provider_batch_id)
            await self._note(_cancel_sent(batch))
        self.stage = "retrieve"
        answer = await provider.retrieve(batch.provider_batch_id)
        if answer.id != batch.provider_batch_id:
            raise ProviderFailure(
                f"asked about {batch.provider_batch_id}, got an answer about {answer.id}", kind=FailureKind.PASSING
            )
        return await self._answered(provider, answer)

    async def _answered(self, provider: BatchProvider, answer: ProviderBatch) -> BatchStatus:
        batch = self._batch
        if answer.phase is Phase.UNRECOGNIZED:
            self._cycle.unrecognized[batch.provider] += 1
            _log.warning("batch %s: %s says %r, an unknown status", batch.id, batch.provider, answer.status)
        decision = after_answer(batch, answer, self._policy)
        if not isinstance(decision, Collect):
            return await self._carry_out(decision)
        await self._note(decision.note)
        self.stage = "results"
        collector = Collector(
            self._store,
            provider,
            batch,
            answer,
            self._fence,
            line_timeout_seconds=self._settings.request_timeout_seconds,
            chunk_items=self._settings.chunk_items,
            resubmissions=self._policy.resubmissions,
        )
        try:
            reading = await collector.read()
        finally:
            self._updated(collector.reading.updated, collector.reading.put_back)
        return await self._read(answer, reading)

    async def _read(self, answer: ProviderBatch, reading: Reading) -> BatchStatus:
        if reading.ended is not None:
            return reading.ended
        if not reading.left:  # it ended meanwhile, by somebody else
            return await self._current()
        decision = after_reading(self._batch, answer, len(reading.seen), self._policy)
        if isinstance(decision, Wait):
            self._cycle.failed(self._batch.provider, "results")
            _log.warning("batch %s: %s", self._batch.id, decision.note.last_error)
        return await self._carry_out(decision)

    async def failed(self, failure: ProviderFailure) -> BatchStatus:
        """Note a failed poll; return the batch's status afterwards."""
        _log.warning("batch %s: %s: %s", self._batch.id, self.stage, failure)
        if self._batch.status in UNCONFIRMED:
            # Who may have sent something has noted it; whoever only looked changes nothing but the time of the next.
            current = await self._store.get(self._batch.id)
            if current is None or current.status not in UNCONFIRMED:
                return self._batch.status if current is None else current.status
            if current.submissions != self._batch.submissions:
                return current.status
        return await self._carry_out(after_failure(self._batch, failure, self._policy))

    async def _carry_out(self, decision: Wait | End) -> BatchStatus:
        if isinstance(decision, Wait):
            await self._note(decision.note)
            return self._batch.status
        if decision.error is not None:
            _log.error("batch %s ends %s: %s", self._batch.id, decision.status, decision.error)
        ended: Collected = await self._store.end(
            self._batch.id,
            decision.status,
            leftover=decision.leftover,
            error=decision.error,
            resubmissions=self._policy.resubmissions if decision.again else 0,
            term=self._fence(),
        )
        self._updated(Counter(ended.by_status), ended.put_back)
        return ended.ended or await self._current()

    async def _note(self, note: BatchNote) -> None:
        await self._store.note(self._batch.id, note, term=self._fence())

    async def _current(self) -> BatchStatus:
        current = await self._store.get(self._batch.id)
        return self._batch.status if current is None else current.status

    def _updated(self, by_status: Counter[ItemStatus], put_back: int) -> None:
        self._cycle.items_updated(self._batch.provider, by_status.total())
        for status, items in by_status.items():
            self._telemetry.batch_items_updated(self._batch.provider, status, items)
        if put_back:
            _log.warning("batch %s: %d requests of jobs had no answer, and are sent again", self._batch.id, put_back)
            self._telemetry.llm_requests_put_back(self._batch.provider, put_back)


def _cancel_sent(batch: BatchRecord) -> BatchNote:
    return BatchNote(
        cancel_sent=True, failures=batch.failures, short_reads=batch.short_reads, last_error=batch.last_error
    )
