"""Listens to the database's wake-ups and passes them on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple, TypeAlias, assert_never

from .actor import EventActor
from .errors import StoreError
from .ports import WakeUps
from .retry import next_delay_seconds, reconnect_wait

_log = logging.getLogger(__name__)


class Lost(NamedTuple):
    """Listening ended."""

    exception: BaseException


class Reconnect(NamedTuple):
    """Listen again."""


ListenerMessage: TypeAlias = Lost | Reconnect


class Listener(EventActor):
    """Keeps ``WakeUps.run`` running. While it does not, everybody polls.

    Args:
        wake_ups: the connection that listens.
        on_hint: called on the loop with topic and detail. ``("listening", "")`` comes first, after each connect:
            hints may have been lost before.
    """

    def __init__(self, wake_ups: WakeUps, on_hint: Callable[[str, str], None]) -> None:
        super().__init__()
        self._wake_ups = wake_ups
        self._on_hint = on_hint
        self._failures = 0

    def on_start(self) -> None:
        """Begin to listen."""
        self._listen()

    def on_receive(self, message: ListenerMessage) -> None:
        """Take the next step."""
        match message:
            case Lost(exception):
                self._lost(exception)
            case Reconnect():
                self._listen()
            case _:
                assert_never(message)

    def _listen(self) -> None:
        ended = RuntimeError("WakeUps.run returned, though it listens until it is cancelled")
        self.context.pipe_to_self(self._wake_ups.run(self._hint), on_success=lambda _: Lost(ended), on_failure=Lost)

    def _hint(self, topic: str, detail: str) -> None:
        self._failures = 0
        self._on_hint(topic, detail)

    def _lost(self, exception: BaseException) -> None:
        if not isinstance(exception, StoreError):
            raise exception
        self._failures += 1
        delay = next_delay_seconds(reconnect_wait(), self._failures, exception)
        _log.warning("wake-ups are lost, jobs are polled for; next try in %.1f s: %s", delay, exception)
        self.context.start_timer("reconnect", delay, Reconnect())
