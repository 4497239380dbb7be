"""Group commit: the transitions of many job actors in one transaction."""

from __future__ import annotations

import logging
from typing import NamedTuple, TypeAlias, assert_never

from callboard.actors.actor import EventActor
from callboard.actors.errors import StoreError, ValueNotStorable
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import Transition
from callboard.actors.jobs.types import Applied, Refused
from callboard.actors.outbox import Answer, Outbox

from .completing import completions

_log = logging.getLogger(__name__)


class Flush(NamedTuple):
    """Something is in the outbox."""


class Flushed(NamedTuple):
    """A batch was answered."""

    answers: list[Answer]


class FlushFailed(NamedTuple):
    """A batch could not be written."""

    exception: BaseException


WriterMessage: TypeAlias = Flush | Flushed | FlushFailed


class Writer(EventActor):
    """Empties the outbox, one commit at a time; what arrives meanwhile makes up the next one.

    Nothing is dropped, and no job is blamed for what is not its fault: only a batch with a value that cannot be stored
    is split in halves, until the one bad transition stands alone. Any other error ends this incarnation, and the next
    one goes on with the same outbox: after a delay where the database was the cause, unreachable or refusing; counted
    by the supervisor where it was a defect. A batch whose COMMIT may or may not have happened is written again, as a
    compare-and-set happens once: the refusal of a transition that finds its own work done counts as applied.

    Args:
        store: where to write.
        outbox: what to write.
        actor: who writes, for the history.
        batch_size: most transitions of one commit.
    """

    expected_failures = (StoreError,)

    def __init__(self, store: JobStore, outbox: Outbox, *, actor: str, batch_size: int) -> None:
        super().__init__()
        self._store = store
        self._outbox = outbox
        self._actor = actor
        self._batch_size = batch_size
        self._flush_sent = False
        self._writing = False
        self._uncertain = False

    def on_start(self) -> None:
        """Go on with what an earlier incarnation left."""
        self._outbox.untake()
        self._uncertain = True
        self._outbox.notify(self._something_put)
        self._something_put()

    def on_failure(self, *_: object) -> None:
        """Hear of nothing any more: the outbox keeps it for the next incarnation."""
        self._outbox.notify(None)

    def on_receive(self, message: WriterMessage) -> None:
        """Take the next step."""
        match message:
            case Flush():
                self._flush_sent = False
                self._flush()
            case Flushed(answers):
                self._writing = False
                self._uncertain = False
                self.context.report_success()
                self._outbox.answer(answers)
                self._flush()
            case FlushFailed(exception):
                raise exception
            case _:
                assert_never(message)

    def _something_put(self) -> None:
        # A message to itself, so that everything put in this turn of the loop makes one batch.
        if not self._flush_sent and not self._writing:
            self._flush_sent = True
            self.actor_ref.send(Flush())

    def _flush(self) -> None:
        if self._writing or not len(self._outbox):
            return
        batch = [write.transition for write in self._outbox.take(self._batch_size)]
        self._writing = True
        self.context.pipe_to_self(self._write(batch), on_success=Flushed, on_failure=FlushFailed)

    async def _write(self, batch: list[Transition]) -> list[Answer]:
        """Write completions, then the others: in one transaction they would lock jobs in two orders, and deadlock."""
        plain = completions(batch)
        if not 0 < len(plain) < len(batch):
            return await self._write_alike(batch)
        places = set(map(id, plain))
        others = [transition for transition in batch if id(transition) not in places]
        completed, written = iter(await self._write_alike(plain)), iter(await self._write_alike(others))
        return [next(completed if id(transition) in places else written) for transition in batch]

    async def _write_alike(self, batch: list[Transition]) -> list[Answer]:
        try:
            results = await self._store.apply(batch, actor=self._actor)
        except ValueNotStorable as exception:  # goes to the one job that caused it
            if len(batch) == 1:
                return [exception]
            _log.warning("a batch of %d transitions was not accepted, splitting it: %s", len(batch), exception)
            middle = len(batch) // 2
            return [*await self._write_alike(batch[:middle]), *await self._write_alike(batch[middle:])]
        return [
            _certain(one, result) if self._uncertain else result for one, result in zip(batch, results, strict=True)
        ]


def _certain(transition: Transition, result: Applied | Refused) -> Applied | Refused:
    """Recognize our own work: written by a commit whose answer got lost."""
    if (
        isinstance(result, Refused)
        and result.actual_status is transition.to_status
        and result.actual_token == transition.token
    ):
        return Applied(transition.job_id, transition.to_status)
    return result
