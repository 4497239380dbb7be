"""What an executor is: a place where the code of jobs runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from callboard.actors.jobs.call import Call, Outcome

OnStart: TypeAlias = Callable[[], None]
"""Called once when the code begins to run. Any thread."""
OnFinish: TypeAlias = Callable[[Outcome], None]
"""Called once with how the code ended, unless it was abandoned before. Any thread."""


class Execution(Protocol):
    """One call under way."""

    def cancel(self) -> None:
        """Ask the code to end. It may clean up first; ``on_finish`` tells when it has ended."""

    def abandon(self) -> bool:
        """Stop waiting for the code: from now on whatever it does is nobody's business. A process is killed.

        Returns:
            False if it had ended already (``on_finish`` was called, or is about to be), or was abandoned before.
        """


class Executor(Protocol):
    """Runs calls. ``start`` never blocks."""

    def start(self, call: Call, on_start: OnStart, on_finish: OnFinish) -> Execution:
        """Run a call as soon as there is room."""

    @property
    def abandoned(self) -> int:
        """How many abandoned calls still run."""

    def close(self, timeout_seconds: float) -> None:
        """Take no more calls and wait for idle threads and processes to end. Calls under way were ended before."""
