"""Calls to execute, and somebody who hears how they end."""

import queue
import threading
from collections.abc import Callable
from typing import Any

from callboard.actors.jobs.call import Call, Outcome, Raised, Returned
from callboard.actors.jobs.context import JobContext
from callboard.actors.jobs.definition import JobRegistry, job
from tests.actors.jobs.builders import Services, claimed

PATIENCE_SECONDS = 20.0
"""How long a test waits for an event before it fails; never how long it takes."""


def call_of(function: Callable[..., Any], **options: Any) -> Call:
    """Return a call of a function as a job."""
    definition = job(registry=JobRegistry(), **options)(function)
    return Call(definition, JobContext(claimed(), Services()), claimed(), 1_000_000)


class Ears:
    """Hears when a call starts and how it ends; both at most once, or the test fails."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.start_thread: threading.Thread | None = None
        self._outcomes: queue.Queue[Outcome] = queue.Queue()

    def on_start(self) -> None:
        assert not self.started.is_set(), "started twice"
        self.start_thread = threading.current_thread()
        self.started.set()

    def on_finish(self, outcome: Outcome) -> None:
        self._outcomes.put(outcome)

    def outcome(self) -> Outcome:
        outcome = self._outcomes.get(timeout=PATIENCE_SECONDS)
        assert self.heard_nothing(), "finished twice"
        return outcome

    def result(self) -> str | None:
        outcome = self.outcome()
        assert isinstance(outcome, Returned), outcome
        return outcome.result

    def exception(self) -> BaseException:
        outcome = self.outcome()
        assert isinstance(outcome, Raised), outcome
        return outcome.exception

    def heard_nothing(self) -> bool:
        return self._outcomes.empty()


def wait(event: threading.Event) -> None:
    assert event.wait(PATIENCE_SECONDS), "waited in vain"
