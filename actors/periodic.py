"""Does one thing again and again."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias, assert_never

from .actor import EventActor
from .errors import StoreError

_log = logging.getLogger(__name__)


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

    What the database refuses, or does not answer, is logged once and tried again at the next turn; anything else
    crashes the actor, which its supervisor restarts.

    Args:
        name: for the log.
        action: what to do.
        interval_seconds: pause between two calls.
        jitter: fraction of the interval by which each pause is shortened at random (default 0), so that the nodes
            of a cluster spread out.
    """

    def __init__(
        self, name: str, action: Callable[[], Awaitable[None]], *, interval_seconds: float, jitter: float = 0.0
    ) -> None:
        super().__init__()
        self._name = name
        self._action = action
        self._interval_seconds = interval_seconds
        self._jitter = jitter
        self._busy = False
        self._again = False
        self._unavailable = False

    def on_start(self) -> None:
        """Do it for the first time."""
        self._begin()

    def on_receive(self, message: PeriodicMessage) -> None:
        """Take the next step."""
        match message:
            case Tick():
                self._begin()
            case Done():
                if self._unavailable:
                    _log.info("%s: the database answers again", self._name)
                self._unavailable = False
                self._ended()
            case Failed(StoreError() as exception):
                if not self._unavailable:
                    _log.warning("%s: %s; trying again every %.1f s", self._name, exception, self._interval_seconds)
                self._unavailable = True
                self._again = False
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
