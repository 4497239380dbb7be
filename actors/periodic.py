"""Does one thing again and again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias, assert_never

from .actor import EventActor
from .errors import StoreError


class Tick(NamedTuple):
    """Do it now."""


class Done(NamedTuple):
    """It is done."""


class Failed(NamedTuple):
    """It raised."""

    exception: BaseException


PeriodicMessage: TypeAlias = Tick | Done | Failed


class Periodic(EventActor):
    """Calls an async function at start and then ``interval_seconds`` after each end. A ``Tick`` calls it at once.

    What it raises ends the actor, which its supervisor starts again: after a delay where the database was the cause.

    Args:
        action: what to do.
        interval_seconds: pause between two calls.
        jitter: fraction of the interval by which each pause is shortened at random (default 0), so that the nodes
            of a cluster spread out.
    """

    expected_failures = (StoreError,)

    def __init__(self, action: Callable[[], Awaitable[None]], *, interval_seconds: float, jitter: float = 0.0) -> None:
        super().__init__()
        self._action = action
        self._interval_seconds = interval_seconds
        self._jitter = jitter
        self._busy = False
        self._again = False

    def on_start(self) -> None:
        """Do it for the first time."""
        self._begin()

    def on_receive(self, message: PeriodicMessage) -> None:
        """Take the next step."""
        match message:
            case Tick():
                self._begin()
            case Done():
                self.context.report_success()
                self._ended()
            case Failed(exception):
                raise exception
            case _:
                assert_never(message)

    def _begin(self) -> None:
        if self._busy:
            self._again = True
            return
        self._busy = True
        self.context.pipe_to_self(self._action(), on_success=lambda _: Done(), on_failure=Failed)

    def _ended(self) -> None:
        self._busy = False
        if self._again:
            self._again = False
            self._begin()
        else:
            pause = self._interval_seconds * (1.0 - self._jitter * random.random())
            self.context.start_timer("next", pause, Tick())
