"""Transitions on their way into the database."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from .jobs.decide import Transition
from .jobs.types import Applied, Refused

_log = logging.getLogger(__name__)

Answer: TypeAlias = Applied | Refused | Exception
"""What became of a transition; an exception where the database does not accept what it carries."""


class Write(NamedTuple):
    """A transition to commit, and who wants to know."""

    transition: Transition
    on_answer: Callable[[Answer], None]
    """Called on the loop, after COMMIT and not before."""


class Outbox:
    """What job actors want written and the writer has not confirmed yet.

    It is no part of the writer actor, so that a restarted writer goes on where the crashed one stopped: a write leaves
    only with its answer. Loop thread only.
    """

    def __init__(self) -> None:
        self._waiting: deque[Write] = deque()
        self._taken: list[Write] = []
        self._on_put: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._taken)

    def put(self, write: Write) -> None:
        """Add a write. Never blocks, never refuses: the number of running jobs bounds it."""
        self._waiting.append(write)
        if self._on_put is not None:
            self._on_put()

    def notify(self, on_put: Callable[[], None] | None) -> None:
        """Call ``on_put``, or nobody, after each ``put`` from now on."""
        self._on_put = on_put

    def take(self, limit: int) -> list[Write]:
        """Take the next writes; they stay in the outbox, as taken, until they are answered."""
        waiting = self._waiting
        self._taken = [waiting.popleft() for _ in range(min(limit, len(waiting)))]
        return self._taken

    def answer(self, answers: Sequence[Answer]) -> None:
        """Tell the writers of the taken writes what became of them, in order.

        One that raises keeps its defect to itself: the others must hear of theirs.
        """
        taken, self._taken = self._taken, []
        for write, answer in zip(taken, answers, strict=True):
            try:
                write.on_answer(answer)
            except Exception:  # noqa: BLE001 - see above
                _log.exception("a defect where the answer to a write of job %s is heard", write.transition.job_id)

    def untake(self) -> None:
        """Put what was taken back to the front. Writing it again is safe: a compare-and-set happens once."""
        self._waiting.extendleft(reversed(self._taken))
        self._taken = []
