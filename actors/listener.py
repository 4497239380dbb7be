"""Listens to the database's wake-ups and passes them on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .actor import EventActor
from .errors import StoreError
from .ports import WakeUps


class Lost(NamedTuple):
    """Listening ended."""

    exception: BaseException


class Listener(EventActor):
    """Runs ``WakeUps.run``, and ends with it; its supervisor starts it again. While it is down, everybody polls.

    Args:
        wake_ups: the connection that listens.
        on_hint: called on the loop with topic and detail. ``("listening", "")`` comes first, after each connect:
            hints may have been lost before.
    """

    expected_failures = (StoreError,)

    def __init__(self, wake_ups: WakeUps, on_hint: Callable[[str, str], None]) -> None:
        super().__init__()
        self._wake_ups = wake_ups
        self._on_hint = on_hint

    def on_start(self) -> None:
        """Begin to listen."""
        ended = RuntimeError("WakeUps.run returned, though it listens until it is cancelled")
        self.context.pipe_to_self(self._wake_ups.run(self._hint), on_success=lambda _: Lost(ended), on_failure=Lost)

    def on_receive(self, message: Lost) -> None:
        """Fail with what ended the listening."""
        raise message.exception

    def _hint(self, topic: str, detail: str) -> None:
        self.context.report_success()
        self._on_hint(topic, detail)
