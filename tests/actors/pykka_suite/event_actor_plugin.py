"""A pytest plugin for Pykka's own suite: puts EventActor where the suite has ThreadingActor.

Runs inside the suite's own pytest process (see ``tests/actors/test_pykka_suite.py``), with nothing of Pykka patched:
the suite keeps the runtimes it is parametrised with in a table, and this fills in another one.
"""

from __future__ import annotations

import os
import sys

import pytest

from callboard.actors.actor import EventActor
from callboard.actors.future import EventFuture
from callboard.actors.system import default_system


class PoolActor(EventActor):
    dispatcher = "pool"


ACTOR_CLASSES = {"loop": EventActor, "pool": PoolActor}


@pytest.hookimpl
def pytest_collection() -> None:
    # The suite counts log records on the root logger; asyncio logs one when a loop is made.
    default_system().loop_dispatcher  # noqa: B018
    (parameters,) = sys.modules["tests.conftest"].RUNTIMES.values()
    (runtime,) = parameters.values
    runtime.name = "event"
    runtime.actor_class = ACTOR_CLASSES[os.environ["CALLBOARD_PYKKA_DISPATCHER"]]
    runtime.future_class = EventFuture


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    started = sum(counts.started for counts in default_system().statistics.snapshot().classes.values())
    terminalreporter.write_line(f"event actors started: {started}")
