"""The actor that is a process of the operating system."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, NamedTuple, TypeAlias, assert_never

from callboard.actors.actor import EventActor
from callboard.actors.errors import ProcessExited

from .linked_process import LinkedProcess
from .place import ProcessPlace

_log = logging.getLogger(__name__)

REPLACEMENT_PAUSE_SECONDS: Final = 10.0
"""Between two replacements: a limit that every process exceeds at once must not keep the machine busy."""
FAILED_REPLACEMENT_PAUSE_SECONDS: Final = 60.0


class Look(NamedTuple):
    """Look at the process: is it alive, how large is it."""


class Recycle(NamedTuple):
    """Replace the process by a new one: once that is ready, the old one ends in order. Not a restart."""

    reason: str


class Exited(NamedTuple):
    """A process was reaped."""

    process: LinkedProcess
    returncode: int


class Replaced(NamedTuple):
    """The replacement is ready."""

    process: LinkedProcess


class ReplacementFailed(NamedTuple):
    """The replacement did not start."""

    exception: BaseException


ProcessMessage: TypeAlias = Look | Recycle | Exited | Replaced | ReplacementFailed


class ProcessActor(EventActor):
    """Is one process: has started when that is ready, and ends with it.

    ==========================================  =====================================================
    end of the process                          end of the actor
    ==========================================  =====================================================
    after it was asked to end                   ``shutdown``
    exit code 0, unasked                        ``normal``
    another exit code, a signal                 ``error``, with ``ProcessExited``
    before it was ready, or not ready in time   the start fails, with ``ProcessExited``
    ==========================================  =====================================================

    A stop of the actor asks the process to end in order, and kills it when that takes too long; a kill of the actor,
    or its failure, kills the process. The next incarnation starts once that is reaped.

    Args:
        place: what the incarnations have in common. One place for each child.
    """

    expected_failures = (ProcessExited,)

    def __init__(self, place: ProcessPlace) -> None:
        super().__init__()
        self._place = place
        self._process: LinkedProcess | None = None
        self._replacing = False
        self._next_replacement_at = 0.0

    async def on_start(self) -> None:  # type: ignore[override]  # Pykka's hooks are ordinary functions, ours may wait
        """Start the process, and wait until it is ready."""
        # Not a hook: those do not run when the actor is killed.
        self.actor_ref.termination().add_done_callback(self._kill_rest)
        await self._place.wait_reaped()
        self._adopt(await self._place.start())
        self.context.start_timer("look", self._place.limits.look_interval_seconds, Look(), repeat=True)

    async def on_stop(self) -> None:  # type: ignore[override]
        """End the process in order."""
        await self._place.end_in_order()

    def on_receive(self, message: ProcessMessage) -> None:
        """Take the next step."""
        match message:
            case Look():
                self._look()
            case Recycle(reason):
                self._recycle(reason)
            case Exited(process, returncode):
                self._exited(process, returncode)
            case Replaced(process):
                self._replaced(process)
            case ReplacementFailed(exception):
                self._replacement_failed(exception)
            case _:
                assert_never(message)

    def _kill_rest(self) -> None:
        self._place.kill("its actor ended before it")

    def _adopt(self, process: LinkedProcess) -> None:
        self._process = process

        async def exit_of_process() -> Exited:
            return Exited(process, await asyncio.shield(process.exited))

        self.context.pipe_to_self(exit_of_process())

    # What is looked at

    def resources(self) -> tuple[int, float]:
        """Return the resident memory in bytes and the processor seconds of the process, for quotas."""
        process = self._process
        return (0, 0.0) if process is None else (process.memory_bytes(), process.processor_seconds())

    def _look(self) -> None:
        self._place.look()
        if self._process is None:
            return
        memory_bytes, limit_bytes = self._process.memory_bytes(), self._place.limits.memory_limit_bytes
        self._place.telemetry.process_memory(self._place.name, memory_bytes)
        if limit_bytes is not None and memory_bytes > limit_bytes:
            self._recycle(
                f"it uses {memory_bytes / 2**20:.0f} MiB of memory, and its limit is {limit_bytes / 2**20:.0f}"
            )

    def _exited(self, process: LinkedProcess, returncode: int) -> None:
        if process is not self._process:
            log = _log.info if returncode == 0 else _log.warning
            log("%s: the replaced process (pid %d) has ended (return code %d)", self._place, process.pid, returncode)
        elif self._place.ending:
            self.actor_ref.shutdown()
        elif returncode == 0:
            _log.warning("%s", self._place.failed(process, returncode, "and nobody had asked it to"))
            self.stop()
        else:
            raise self._place.failed(process, returncode)

    # Replacement

    def _recycle(self, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if self._replacing or self._place.ending or now < self._next_replacement_at:
            return
        self._replacing = True
        _log.warning("%s is replaced: %s", self._place, reason)
        self.context.pipe_to_self(self._place.start(), Replaced, ReplacementFailed)

    def _replaced(self, process: LinkedProcess) -> None:
        old = self._process
        self._adopt(process)
        if old is not None:
            old.retire(self._place.limits.stop_timeout_seconds)
        self._replacement_ended(True, REPLACEMENT_PAUSE_SECONDS)

    def _replacement_failed(self, exception: BaseException) -> None:
        _log.error(
            "%s goes on as it is, since its replacement did not start; the next try is in %.0f s at the earliest: %s",
            self._place,
            FAILED_REPLACEMENT_PAUSE_SECONDS,
            exception,
        )
        self._replacement_ended(False, FAILED_REPLACEMENT_PAUSE_SECONDS)

    def _replacement_ended(self, replaced: bool, pause_seconds: float) -> None:
        self._replacing = False
        self._next_replacement_at = asyncio.get_running_loop().time() + pause_seconds
        self._place.telemetry.process_recycled(replaced)
