"""Delivers callbacks: on every worker, as many at a time as it has slots."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias, assert_never

import h11

from callboard.actors.actor import EventActor
from callboard.actors.job_store import JobStore
from callboard.actors.ports import Telemetry

from .attempts import JITTER, Attempt, Verdict, judge
from .hosts import HostBreakers, host_of
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


class PutOff(NamedTuple):
    """Callbacks whose host is left alone are due later."""


class Failed(NamedTuple):
    """The database did not answer, or there is a defect."""

    exception: BaseException


DelivererMessage: TypeAlias = Look | Claimed | Delivered | PutOff | Failed


class Deliverer(EventActor):
    """Claims callbacks that are due, sends them, records what came of it; those of silent hosts are put off.

    A claim is a lease: where this process dies between the delivery and the record, another one delivers again, with
    the same id.

    Args:
        store: where callbacks are.
        sender: sends them.
        telemetry: counts.
        poll_interval_seconds: how often to look without being woken.
        timeout_seconds: of one attempt.
        delays_seconds: between attempts.
        monotonic: the clock by which hosts are left alone.
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
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._store = store
        self._sender = sender
        self._telemetry = telemetry
        self._poll_interval_seconds = poll_interval_seconds
        self._lease_seconds = timeout_seconds + RECORD_SECONDS
        self._delays_seconds = delays_seconds
        self._monotonic = monotonic
        self._hosts = HostBreakers()
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
            case PutOff():
                pass
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
        put_off = []
        for callback in callbacks:
            wait_seconds = self._hosts.wait_seconds(host_of(callback.url), self._monotonic())
            if wait_seconds is not None:
                put_off.append((callback, wait_seconds * (1 + JITTER * random.random())))
                continue
            self._free -= 1
            self.context.pipe_to_self(self._deliver(callback), lambda _: Delivered(), Failed)
        if put_off:
            self._telemetry.callbacks_put_off(len(put_off))
            self.context.pipe_to_self(self._store.callbacks.put_off(put_off), lambda _: PutOff(), Failed)
        if self._look_again and self._free:
            self._look()
        self.context.start_timer("poll", self._poll_interval_seconds, Look())

    async def _deliver(self, callback: DueCallback) -> None:
        began = time.perf_counter()
        attempt = await self._attempt(callback)
        self._hosts.attempted(host_of(callback.url), attempt, self._monotonic())
        self._telemetry.callback_hosts_silent(self._hosts.silent(self._monotonic()))
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
