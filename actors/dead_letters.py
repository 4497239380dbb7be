"""Messages that nobody will handle: the last of them kept, all of them counted."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

_logger = logging.getLogger(__name__)

DeadLetterReason = Literal["stopped", "unhandled_at_stop", "mailbox_full", "drop_oldest", "drop_newest"]
"""``stopped``: sent to an actor that had ended. ``unhandled_at_stop``: still in its mailbox when it ended.
``mailbox_full``: refused to a ``send``. ``drop_oldest``, ``drop_newest``: by the mailbox's overflow policy."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One undelivered message.

    Attributes:
        recipient: class and URN of the actor it was for.
        message: the message itself.
        reason: why it was not delivered.
    """

    recipient: str
    message: Any
    reason: DeadLetterReason


class DeadLetters:
    """The dead letters of one system. Thread-safe.

    Args:
        capacity: how many are kept to look at; older ones are only counted. Default 1000.
    """

    def __init__(self, capacity: int = 1000) -> None:
        self._lock = threading.Lock()
        self._kept: deque[DeadLetter] = deque(maxlen=capacity)
        self._counts: Counter[DeadLetterReason] = Counter()

    def record(self, recipient: object, message: Any, reason: DeadLetterReason) -> None:
        """Keep and count one."""
        letter = DeadLetter(str(recipient), message, reason)
        with self._lock:
            self._kept.append(letter)
            self._counts[reason] += 1
        _logger.debug("Dead letter (%s) for %s: %r", reason, letter.recipient, message)

    def recent(self) -> tuple[DeadLetter, ...]:
        """Return those that are kept, oldest first."""
        with self._lock:
            return tuple(self._kept)

    def counts(self) -> Mapping[DeadLetterReason, int]:
        """Return how many there were since the system was made, by reason."""
        with self._lock:
            return dict(self._counts)

    def __len__(self) -> int:
        with self._lock:
            return self._counts.total()
