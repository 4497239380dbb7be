"""The actor that keeps a spare process at hand."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias, assert_never

from callboard.actors.actor import EventActor
from callboard.supervision.backoff import Backoff
from callboard.supervision.base_supervisor import Draw

from .linked_process import LinkedProcess
from .place import ProcessPlace
from .process_end import process_exited
from .spare import Spare

_log = logging.getLogger(__name__)

BACKOFF: Final = Backoff(initial_seconds=1.0, max_seconds=60.0)
"""After a spare process that has failed."""
PAUSE_SECONDS: Final = 1.0
"""After one that a place has taken: what is being started there comes first, and a crash loop must not be fed."""


class Look(NamedTuple):
    """Look at the spare: is there one, should there be one, is it alive."""


class Prepared(NamedTuple):
    """It waits for a place."""

    process: LinkedProcess


class Exited(NamedTuple):
    """It was reaped."""

    process: LinkedProcess
    returncode: int


SpareMessage: TypeAlias = Look | Prepared | Exited


class SpareActor(EventActor):
    """Starts a spare process whenever there is none and every place works.

    Whatever becomes of the spare is no failure of this actor, and nothing to the places: it is logged, and the next one
    is started after a while, which grows from failure to failure.

    Args:
        spare: what the incarnations have in common.
        places: who may take it.
        backoff: of failures.
        pause_seconds: between one that was taken and the start of the next one.
        draw: draws a number between two bounds, for the backoff.
    """

    def __init__(
        self,
        spare: Spare,
        places: Sequence[ProcessPlace],
        *,
        backoff: Backoff = BACKOFF,
        pause_seconds: float = PAUSE_SECONDS,
        draw: Draw = random.uniform,
    ) -> None:
        super().__init__()
        self._spare = spare
        self._places = places
        self._backoff = backoff
        self._pause_seconds = pause_seconds
        self._draw = draw
        self._failures = 0
        self._not_before = 0.0

    def on_start(self) -> None:
        """Begin to look. The first spare is started by a later look: nobody waits for it."""
        # Not a hook: those do not run when the actor is killed.
        self.actor_ref.termination().add_done_callback(lambda: self._spare.kill("its actor ended before it"))
        self.context.start_timer("look", self._spare.limits.look_interval_seconds, Look(), repeat=True)

    async def on_stop(self) -> None:  # type: ignore[override]  # Pykka's hooks are ordinary functions, ours may wait
        """End the process."""
        await self._spare.end_in_order()

    def on_receive(self, message: SpareMessage) -> None:
        """Take the next step."""
        match message:
            case Look():
                self._look()
            case Prepared(process):
                if not (process.assigned or process.exited.done()):
                    _log.info("a spare process (pid %d) is prepared to take a place", process.pid)
            case Exited(process, returncode):
                if not (process.assigned or process.asked_to_end):
                    self._exited(process, returncode)
            case _:
                assert_never(message)

    def _look(self) -> None:
        self._spare.look()
        now = asyncio.get_running_loop().time()
        not_before = max(self._not_before, self._spare.taken_at + self._pause_seconds)
        quiet = all(place.works and not place.starts for place in self._places)
        if self._spare.process is None and not self._spare.ending and quiet and now >= not_before:
            self._start()

    def _start(self) -> None:
        try:
            process = self._spare.start()
        except OSError as error:
            self._failed(f"a spare process cannot be started: {error}", lived_seconds=0.0)
            return

        async def exit_of_process() -> Exited:
            return Exited(process, await asyncio.shield(process.exited))

        async def prepared() -> Prepared:
            await asyncio.wait((process.prepared, process.exited), return_when=asyncio.FIRST_COMPLETED)
            return Prepared(process)

        self.context.pipe_to_self(exit_of_process())
        self.context.pipe_to_self(prepared())

    def _exited(self, process: LinkedProcess, returncode: int) -> None:
        when = "" if process.prepared.done() else "before it was prepared"
        lived_seconds = asyncio.get_running_loop().time() - process.started_at
        self._failed(str(process_exited("the spare process", process, returncode, when)), lived_seconds)

    def _failed(self, reason: str, lived_seconds: float) -> None:
        self._failures = self._backoff.attempt_after(self._failures, lived_seconds)
        delay_seconds = self._draw(*self._backoff.delay_bounds(self._failures))
        self._not_before = asyncio.get_running_loop().time() + delay_seconds
        _log.warning(
            "%s; the worker goes on, without a spare for now: the next one is started in %.0f s", reason, delay_seconds
        )
