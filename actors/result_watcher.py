"""Finds out how the jobs ended that somebody waits for."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias, assert_never

from .actor import EventActor
from .errors import StoreError
from .job_store import JobStore
from .waiters import Waiters

_BATCH = 1000


class LookUp(NamedTuple):
    """Jobs may have ended: a wake-up, a new wait, or the poll timer."""


class LookedUp(NamedTuple):
    """The store answered."""


class LookUpFailed(NamedTuple):
    """The store did not answer."""

    exception: BaseException


WatcherMessage: TypeAlias = LookUp | LookedUp | LookUpFailed


class ResultWatcher(EventActor):
    """Asks for all waited-for jobs at once, one question at a time, however many wait.

    Jobs that end in this process are not asked for: their actors tell ``Waiters`` themselves.

    Args:
        store: who knows.
        waiters: who wants to know.
        poll_interval_seconds: how often to ask without being woken.
    """

    expected_failures = (StoreError,)

    def __init__(self, store: JobStore, waiters: Waiters, *, poll_interval_seconds: float) -> None:
        super().__init__()
        self._store = store
        self._waiters = waiters
        self._poll_interval_seconds = poll_interval_seconds
        self._asking = False
        self._again = False

    def on_start(self) -> None:
        """Ask at every poll interval."""
        self.context.start_timer("poll", self._poll_interval_seconds, LookUp(), repeat=True)
        self._look_up()

    def on_receive(self, message: WatcherMessage) -> None:
        """Take the next step."""
        match message:
            case LookUp():
                self._look_up()
            case LookedUp():
                self._asking = False
                self.context.report_success()
                if self._again:
                    self._look_up()
            case LookUpFailed(exception):
                raise exception
            case _:
                assert_never(message)

    def _look_up(self) -> None:
        if self._asking:
            self._again = True
        elif len(self._waiters):
            self._again = False
            self._asking = True
            self.context.pipe_to_self(self._ask(), on_success=lambda _: LookedUp(), on_failure=LookUpFailed)

    async def _ask(self) -> None:
        job_ids = self._waiters.job_ids()
        for start in range(0, len(job_ids), _BATCH):
            batch = job_ids[start : start + _BATCH]
            self._waiters.looked_up(batch, await self._store.get_many(batch))
