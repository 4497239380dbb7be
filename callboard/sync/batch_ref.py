"""References to LLM batches, for code without an event loop."""

from __future__ import annotations

from collections.abc import Iterator

from callboard import batch_ref as asynchronous
from callboard.actors.batches.state import BatchStatus
from callboard.actors.batches.types import BatchRecord, BatchResult

from .loop_thread import LoopThread


class BatchRef:
    """``callboard.BatchRef`` for code without an event loop. See there.

    Attributes:
        id: the batch's id.
        provider: who runs it.
    """

    def __init__(self, thread: LoopThread, ref: asynchronous.BatchRef) -> None:
        self._thread = thread
        self._ref = ref
        self.id = ref.id
        self.provider = ref.provider

    def __repr__(self) -> str:
        return repr(self._ref)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BatchRef) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def record(self) -> BatchRecord:
        """Read everything that is stored about the batch, without its items."""
        return self._thread.wait_for(self._ref.record())

    def status(self) -> BatchStatus:
        """Read the batch's status."""
        return self._thread.wait_for(self._ref.status())

    def ended(self, timeout: float | None = None) -> BatchRecord:
        """Wait for the batch's end. See ``callboard.BatchRef.ended``."""
        return self._thread.wait_for(self._ref.ended(timeout))

    def results(self, timeout: float | None = None) -> list[BatchResult]:
        """Wait for the batch's end; return every request and what became of it. See ``callboard.BatchRef.results``."""
        return self._thread.wait_for(self._ref.results(timeout))

    def collected(self) -> Iterator[BatchResult]:
        """Yield every request and what is known of it now, without waiting. See ``callboard.BatchRef.collected``."""
        return self._thread.each(self._ref.collected())

    def cancel(self) -> bool:
        """Cancel the batch. See ``callboard.BatchRef.cancel``."""
        return self._thread.wait_for(self._ref.cancel())
