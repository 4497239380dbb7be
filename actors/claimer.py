"""Takes runnable jobs from the store, as many as there is room for, and starts their actors."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, assert_never

from .actor import EventActor
from .errors import StoreError
from .job_store import JobStore
from .jobs.types import ClaimedJob, QueueDemand
from .ports import Telemetry
from .running_jobs import RunningJobs

_log = logging.getLogger(__name__)


class Look(NamedTuple):
    """There may be something to claim: a wake-up, a spawn in this process, or the poll timer."""


class SlotFreed(NamedTuple):
    """A job ended here."""


class Claimed(NamedTuple):
    """A claim came back; its jobs run already."""

    jobs: Mapping[str, int]
    """How many came of each queue that was asked for."""
    following: asyncio.Task[Any] | None
    """The next claim, which is under way already."""


class Adopted(NamedTuple):
    """The orphans of a claim whose answer got lost run now."""


class LookForOrphans(NamedTuple):
    """By now the server has ended every claim that was given up, and nothing of one can turn up later."""


class ClaimFailed(NamedTuple):
    """A claim did not come back."""

    exception: BaseException


ClaimerMessage: TypeAlias = Look | SlotFreed | Claimed | Adopted | LookForOrphans | ClaimFailed


class Claimer(EventActor):
    """One claim at a time, always for all free slots of all queues.

    A claim that brought all that it asked for is followed at once by the next one, which is under way while the jobs
    of the first run: neither this process nor the database waits for the other.

    It looks into every queue when it is woken and when the poll interval has passed, and into those that brought
    something the last time whenever a quarter of their slots is free. Wake-ups may all be lost: polling finds every
    job.

    A claim starts its jobs' actors before this actor hears of it, so that a crash of this actor loses none; the next
    incarnation waits for its end. Once ``running`` is closed, nothing is claimed.

    A claim that fails ends this actor, and its supervisor starts it again: after a delay where the database was the
    cause. Such a claim may have taken jobs nevertheless: its answer got lost. The next one therefore asks for those
    first, at once, and again when the server can have nothing left to do for the lost one.

    Args:
        store: where jobs come from.
        running: where the free slots are.
        start_jobs: starts the actors of claimed jobs, in order. Where it raises, what is left of the claim is adopted
            by the next one.
        telemetry: counts.
        node: this node's name.
        lease_seconds: how long a claim holds without a sign of life.
        batch_size: most jobs of one queue in one claim.
        poll_interval_seconds: how often to look without being woken.
        statement_timeout_seconds: when the server ends a statement by itself.
    """

    expected_failures = (StoreError,)

    def __init__(
        self,
        store: JobStore,
        running: RunningJobs,
        start_jobs: Callable[[Sequence[ClaimedJob]], None],
        telemetry: Telemetry,
        *,
        node: str,
        lease_seconds: float,
        batch_size: int,
        poll_interval_seconds: float,
        statement_timeout_seconds: float,
    ) -> None:
        super().__init__()
        self._store = store
        self._running = running
        self._start_jobs = start_jobs
        self._telemetry = telemetry
        self._node = node
        self._lease_seconds = lease_seconds
        self._batch_size = batch_size
        self._poll_interval_seconds = poll_interval_seconds
        self._statement_timeout_seconds = statement_timeout_seconds
        self._claiming = False
        self._look_again = False
        self._backlog: set[str] = set()
        self._slot_freed_sent = False
        self._last_look_for_orphans = False

    def on_start(self) -> None:
        """Look at once, then at every poll interval."""
        self._running.on_free(self._slot_freed)
        self.context.start_timer("poll", self._poll_interval_seconds, Look(), repeat=True)
        under_way = self._running.claim
        if under_way is not None and not under_way.done():
            self._follow(under_way)
        self._look()

    def on_failure(self, *_: object) -> None:
        """Hear of no free slot any more: the next incarnation looks for itself."""
        self._running.on_free(None)

    def on_receive(self, message: ClaimerMessage) -> None:
        """Take the next step."""
        match message:
            case Look():
                self._look()
            case SlotFreed():
                self._slot_freed_sent = False
                self._look_into_backlog()
            case Claimed(jobs, following):
                self._claim_returned(jobs, following)
            case Adopted():
                self._adopted()
            case LookForOrphans():
                self._running.unaccounted = self._last_look_for_orphans = True
                self._look()
            case ClaimFailed(exception):
                raise exception
            case _:
                assert_never(message)

    def _slot_freed(self) -> None:
        if self._backlog and not self._slot_freed_sent:  # one message for all slots that get free before it is read
            self._slot_freed_sent = True
            self.actor_ref.send(SlotFreed())

    def _look(self) -> None:
        if self._claiming:
            self._look_again = True
            return
        self._look_again = False
        slots = self._running.slots
        # A queue without room is not asked, so nobody knows: it is asked as soon as there is room.
        self._backlog.update(queue for queue, limit in slots.limits.items() if slots.used[queue] >= limit)
        self._begin_claim(slots.demands(self._batch_size))

    def _look_into_backlog(self) -> None:
        if self._backlog and not self._claiming:
            self._begin_claim(self._running.slots.worthwhile_demands(self._backlog, self._batch_size))

    def _begin_claim(self, demands: list[QueueDemand]) -> None:
        if self._running.closed:
            return
        if self._running.unaccounted:
            work: Coroutine[Any, Any, Claimed | Adopted] = self._adopt_and_start()
        elif demands:
            work = self._claim_and_start(demands)
        else:
            return
        # A task, not a coroutine: it goes on when this actor ends, so that what it claims gets started.
        self._running.claim = asyncio.get_running_loop().create_task(work)
        self._follow(self._running.claim)

    def _follow(self, claim: asyncio.Task[Claimed | Adopted]) -> None:
        self._claiming = True
        self.context.pipe_to_self(claim, on_success=lambda claimed: claimed, on_failure=ClaimFailed)

    async def _claim_and_start(self, demands: list[QueueDemand], previous: asyncio.Task[Any] | None = None) -> Claimed:
        try:
            jobs = await self._store.claim(demands, node=self._node, lease_seconds=self._lease_seconds)
            if previous is not None:
                await asyncio.wait([previous])  # until its jobs have taken their slots
            by_queue = Counter({demand.queue: 0 for demand in demands})
            by_queue.update(job.queue for job in jobs)
            following = self._claim_ahead(demands, by_queue)
            if following is not None:
                await asyncio.sleep(0)  # it asks the database before these jobs' start takes the loop for milliseconds
            self._start(jobs)
        except BaseException:  # the answer got lost, or the jobs' supervisor is just being restarted, or a defect
            self._running.unaccounted = True
            raise
        return Claimed(by_queue, following)

    def _claim_ahead(self, demands: Sequence[QueueDemand], claimed: Mapping[str, int]) -> asyncio.Task[Any] | None:
        """Begin the next claim, where there is one to make while the jobs that were just claimed run."""
        ahead = self._demands_ahead(demands, claimed)
        if not ahead:
            return None
        following = asyncio.get_running_loop().create_task(self._claim_and_start(ahead, asyncio.current_task()))
        self._running.claim = following
        return following

    def _demands_ahead(self, demands: Sequence[QueueDemand], claimed: Mapping[str, int]) -> list[QueueDemand]:
        """Return what to ask for while the jobs that were just claimed run."""
        if self._running.closed or self._running.unaccounted or self._look_again:
            return []
        full = [demand.queue for demand in demands if claimed[demand.queue] >= demand.limit]
        return self._running.slots.worthwhile_demands(full, self._batch_size, claimed)

    async def _adopt_and_start(self) -> Adopted:
        orphans = await self._store.adopt(self._running.accounted(), node=self._node, lease_seconds=self._lease_seconds)
        if orphans:
            _log.warning("%d jobs were claimed without an answer; they start now", len(orphans))
        self._start(orphans)
        self._running.unaccounted = False
        return Adopted()

    def _start(self, jobs: Sequence[ClaimedJob]) -> None:
        if jobs:
            self._telemetry.jobs_claimed(jobs)
            self._start_jobs(jobs)

    def _claim_returned(self, jobs: Mapping[str, int], following: asyncio.Task[Any] | None) -> None:
        self._claiming = False
        self.context.report_success()
        for queue, count in jobs.items():
            (self._backlog.add if count else self._backlog.discard)(queue)
        if following is not None:
            self._follow(following)
        elif self._look_again:
            self._look()
        else:
            self._look_into_backlog()

    def _adopted(self) -> None:
        self._claiming = False
        self.context.report_success()
        if not self._last_look_for_orphans:
            self.context.start_timer("orphans", self._statement_timeout_seconds, LookForOrphans())
        self._last_look_for_orphans = False
        self._look()
