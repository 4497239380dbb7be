"""Transitions on their way into the database."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .jobs.decide import Transition
from .jobs.types import Applied, ClaimedJob, Refused

Answer: TypeAlias = Applied | Refused | Exception
"""What became of a transition; an exception where the database does not accept what it carries."""


@dataclass(slots=True)
class Write:
    """The last transition of an attempt, to be committed."""

    transition: Transition
    claimed: ClaimedJob
    """The attempt."""
    started: float
    """When it began, on the monotonic clock."""


Settle: TypeAlias = Callable[[Sequence[Write], Sequence[Answer]], Iterable[Write]]
"""Hears the answers to some writes, in order; returns what is to be written instead. On the loop, after COMMIT and not
before. Never raises."""


class Outbox:
    """What job actors want written and the writer has not confirmed yet.

    It is no part of the writer actor, so that a restarted writer goes on where the crashed one stopped: a write leaves
    only with its answer. Loop thread only.

    Args:
        settle: hears the answers.
    """

    def __init__(self, settle: Settle) -> None:
        self._settle = settle
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
        """Pass on what became of the taken writes, in order.

        Raises:
            ValueError: there are more answers than writes, or fewer. Nothing was passed on.
        """
        if len(answers) != len(self._taken):
            raise ValueError(f"{len(answers)} answers to {len(self._taken)} writes: expected one for each")
        taken, self._taken = self._taken, []
        self._waiting.extend(self._settle(taken, answers))

    def untake(self) -> None:
        """Put what was taken back to the front. Writing it again is safe: a compare-and-set happens once."""
        self._waiting.extendleft(reversed(self._taken))
        self._taken = []
