"""The leader's lock of the memory store: the same rules among runtimes that share the store."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime

from callboard.actors.clock import Clock
from callboard.actors.errors import StaleTerm, StoreUnavailable
from callboard.actors.leadership import Deposition, LeaderRecord, Standing
from callboard.actors.patience import WAIT_SECONDS


class MemoryLeaderLock:
    """Implements ``LeaderLock``. Whoever leads is never deposed: it hangs only if everybody else does.

    Args:
        clock: the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._term = 0
        self._node: str | None = None
        self._session: MemoryLeaderSession | None = None
        self._since: datetime | None = None
        self._heartbeat_at: datetime | None = None
        self._silence_limit_seconds: float | None = None
        self._step_down_term: int | None = None
        self._waiting = 0
        self._free = asyncio.Condition()

    async def open(self, *, answer_limit_seconds: float) -> MemoryLeaderSession:  # noqa: ARG002 - answers are at hand
        """Open a session."""
        return MemoryLeaderSession(self)

    async def read(self) -> LeaderRecord:
        """Return who leads."""
        return LeaderRecord(
            self._term,
            self._node,
            self._since,
            self._heartbeat_at,
            self._silent_seconds(),
            self._silence_limit_seconds,
            self._session is not None,
            self._waiting,
        )

    async def ask_to_step_down(self) -> int | None:
        """Ask the leader to hand over."""
        if self._session is None:
            return None
        self._step_down_term = self._term
        return self._term

    def require_term(self, term: int) -> None:
        """Let a leader's write pass.

        Raises:
            StaleTerm: its term is over.
        """
        if term != self._term:
            raise StaleTerm(term)

    async def campaign(self, session: MemoryLeaderSession, node: str, silence_limit_seconds: float) -> Standing:
        """Wait for the lock for a while."""
        self._waiting += 1
        try:
            async with self._free:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WAIT_SECONDS):
                        await self._free.wait_for(lambda: self._session is None)
                won = self._session is None and not session.closed
                if won:
                    self._session = session
                    self._term += 1
                    self._node = node
                    self._since = self._heartbeat_at = self._clock.now()
                    self._silence_limit_seconds = silence_limit_seconds
                    self._step_down_term = None
        finally:
            self._waiting -= 1
        return Standing(won, self._term, self._node, self._silent_seconds(), silent_too_long=False)

    def prove(self, session: MemoryLeaderSession, term: int) -> bool:
        """Leave a sign of life; tell whether somebody has asked for another leader."""
        if self._session is not session or term != self._term:
            raise StaleTerm(term)
        self._heartbeat_at = self._clock.now()
        return self._step_down_term == term

    async def release(self, session: MemoryLeaderSession) -> None:
        """Give the lock back, if it is this session's."""
        if self._session is not session:
            return
        self._session = self._node = self._since = self._heartbeat_at = self._silence_limit_seconds = None
        async with self._free:
            self._free.notify()

    def _silent_seconds(self) -> float | None:
        return None if self._heartbeat_at is None else (self._clock.now() - self._heartbeat_at).total_seconds()


class MemoryLeaderSession:
    """Implements ``LeaderSession``."""

    def __init__(self, lock: MemoryLeaderLock) -> None:
        self._lock = lock
        self.closed = False

    async def campaign(self, node: str, *, silence_limit_seconds: float) -> Standing:
        """Wait for the lock for a while."""
        self._require_open()
        return await self._lock.campaign(self, node, silence_limit_seconds)

    async def prove(self, term: int) -> bool:
        """Prove that lock and term are this session's."""
        self._require_open()
        return self._lock.prove(self, term)

    async def watch(self, seconds: float) -> None:
        """Return after this time."""
        self._require_open()
        await asyncio.sleep(seconds)

    async def depose(self, term: int) -> Deposition:  # noqa: ARG002 - see MemoryLeaderLock
        """Depose nobody."""
        return Deposition.UNNEEDED

    async def resign(self, term: int) -> None:
        """Give the lock back."""
        self._lock.prove(self, term)
        await self._lock.release(self)

    async def close(self) -> None:
        """End the session."""
        self.closed = True
        await self._lock.release(self)

    def _require_open(self) -> None:
        if self.closed:
            raise StoreUnavailable("lead: the session has ended")
