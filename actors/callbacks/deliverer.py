"""Delivers callbacks: on every worker, as many at a time as it has slots."""

from __future__ import annotations

import logging
import random
import time
from typing import Final, NamedTuple, TypeAlias, assert_never

import h11

from callboard.actors.actor import EventActor
from callboard.actors.ports import JobStore, Telemetry

from .attempts import Attempt, Verdict, judge
from .message import message_of
from .sender import Blocked, Sender
from .types import DueCallback

_log = logging.getLogger(__name__)

SLOTS: Final = 20
"""Callbacks that one worker delivers at a time."""
RECORD_SECONDS: Final = 15.0
"""How long recording may take after the attempt, before another node tries, too."""
_LONGEST_ERROR: Final = 500


class Look(NamedTuple):
    """There may be something to deliver."""


class Claimed(NamedTuple):
    """A claim came back."""

    callbacks: list[DueCallback]


class Delivered(NamedTuple):
    """An attempt was made and recorded."""


class Failed(NamedTuple):
    """The database did not answer, or there is a defect."""

    exception: BaseException


DelivererMessage: TypeAlias = Look | Claimed | Delivered | Failed


class Deliverer(EventActor):
    """Claims callbacks that are due, sends them, records what came of it.

    A claim is a lease: where this process dies between the delivery and the record, another one delivers again, with
    the same id.

    Args:
        store: where callbacks are.
        sender: sends them.
        telemetry: counts.
        poll_interval_seconds: how often to look without being woken.
        timeout_seconds: of one attempt.
        delays_seconds: between attempts.
    """

    def __init__(
        self,
        store: JobStore,
        sender: Sender,
        telemetry: Telemetry,
        *,
        poll_interval_seconds: float,
        timeout_seconds: float,
        delays_seconds: tuple[float, ...],
    ) -> None:
        super().__init__()
        self._store = store
        self._sender = sender
        self._telemetry = telemetry
        self._poll_interval_seconds = poll_interval_seconds
        self._lease_seconds = timeout_seconds + RECORD_SECONDS
        self._delays_seconds = delays_seconds
        self._free = SLOTS
        self._claiming = False
        self._look_again = False

    def on_start(self) -> None:
        """Look for the first time."""
        self._look()

    def on_receive(self, message: DelivererMessage) -> None:
        """Take the next step."""
        match message:
            case Look():
                self._look()
            case Claimed(callbacks):
                self._claimed(callbacks)
            case Delivered():
                self._free += 1
                if self._look_again:
                    self._look()
            case Failed(exception):
                raise exception
            case _:
                assert_never(message)

    def _look(self) -> None:
        if self._claiming or not self._free:
            self._look_again = True
            return
        self._claiming, self._look_again = True, False
        self.context.pipe_to_self(
            self._store.callbacks.claim(self._free, lease_seconds=self._lease_seconds), Claimed, Failed
        )

    def _claimed(self, callbacks: list[DueCallback]) -> None:
        self._claiming = False
        self._look_again = self._look_again or len(callbacks) == self._free
        for callback in callbacks:
            self._free -= 1
            self.context.pipe_to_self(self._deliver(callback), lambda _: Delivered(), Failed)
        if self._look_again and self._free:
            self._look()
        self.context.start_timer("poll", self._poll_interval_seconds, Look())

    async def _deliver(self, callback: DueCallback) -> None:
        began = time.perf_counter()
        attempt = await self._attempt(callback)
        verdict = judge(attempt, random.random(), self._delays_seconds)
        self._telemetry.callback_attempted(verdict.outcome.value, time.perf_counter() - began)
        self._tell(callback, attempt, verdict)
        await self._store.callbacks.record(callback, attempt, verdict)

    async def _attempt(self, callback: DueCallback) -> Attempt:
        number = callback.attempt
        try:
            answer = await self._sender.send(message_of(callback))
        except Blocked as error:
            return Attempt(number, error=str(error)[:_LONGEST_ERROR], blocked=True)
        except TimeoutError:
            return Attempt(number, error="no answer in time")
        except (OSError, h11.ProtocolError) as error:
            return Attempt(number, error=f"{type(error).__name__}: {error}"[:_LONGEST_ERROR])
        failed = not 200 <= answer.status_code < 300
        error_text = f"the receiver answered {answer.status_code}" if failed else None
        return Attempt(number, answer.status_code, error_text, retry_after_seconds=answer.retry_after_seconds)

    def _tell(self, callback: DueCallback, attempt: Attempt, verdict: Verdict) -> None:
        if verdict.outcome.value not in {"success", "retry"}:
            _log.warning(
                "callback of job %s is given up after attempt %d: %s", callback.job_id, attempt.number, attempt.error
            )
