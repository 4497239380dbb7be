"""An event loop in a thread, for threads that wait for it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from typing import Any, TypeVar

from callboard.actors.errors import RuntimeStopped, WouldDeadlock

T = TypeVar("T")


class LoopThread:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._process_id = os.getpid()
        self._thread = threading.Thread(target=self._run, name="callboard-sync", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the loop and return its result.

        Raises:
            WouldDeadlock: called on the loop's own thread: by an ``async`` job, say.
            RuntimeStopped: the loop has ended, or runs in the process that this one was forked from.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise WouldDeadlock(
                "callboard.sync was called on its own event loop's thread, which would wait for itself; "
                "an async job uses callboard.Runtime or its JobContext instead"
            )
        if os.getpid() != self._process_id:
            work.close()
            raise RuntimeStopped(
                "this process was forked from the one that started the runtime, and threads do not survive a fork: "
                "start a Runtime of its own after the fork"
            )
        if self._loop.is_closed():
            work.close()
            raise RuntimeStopped("the runtime has stopped: use it inside `with Runtime(...)`")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # a Ctrl-C in the waiting thread ends the wait on the loop too
            raise

    def each(self, values: AsyncGenerator[T, None]) -> Iterator[T]:
        """Yield what ``values`` yields on the loop, one after another; close it in the end, however that comes."""
        try:
            while True:
                try:
                    yield self.wait_for(_next(values))
                except StopAsyncIteration:
                    return
        finally:
            self.wait_for(_close(values))

    def close(self) -> None:
        """End the loop and its thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


async def _next(values: AsyncGenerator[T, None]) -> T:
    return await anext(values)


async def _close(values: AsyncGenerator[Any, None]) -> None:
    await values.aclose()
