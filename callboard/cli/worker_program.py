"""How the parent starts its worker processes, and what it tells them."""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from callboard import Settings
from callboard.supervision.processes.linked_process import Launch
from callboard.supervision.processes.process_limits import ProcessLimits

from .assignment import Assignment, Preparation, settings_document

BEAT_INTERVAL_SECONDS: Final = 1.0
LAST_STEPS_SECONDS: Final = 8.0
"""What a process has after its drain timeout, to cancel, write and say goodbye, before it is killed."""


def beat_interval_seconds(settings: Settings) -> float:
    """Return how often a process beats and its parent looks: some times within the hang limit."""
    return min(BEAT_INTERVAL_SECONDS, settings.hang_limit_seconds / 4)


def stop_timeout_seconds(settings: Settings) -> float:
    """Return how long a process may take from SIGTERM to its end."""
    return settings.drain_timeout_seconds + 2 * settings.cancel_grace_seconds + LAST_STEPS_SECONDS


def process_limits(settings: Settings) -> ProcessLimits:
    """Return the limits of each process, the spare included."""
    return ProcessLimits(
        start_timeout_seconds=settings.process_start_timeout_seconds,
        stop_timeout_seconds=stop_timeout_seconds(settings),
        silence_limit_seconds=settings.hang_limit_seconds,
        memory_limit_bytes=settings.process_memory_limit_bytes,
        look_interval_seconds=beat_interval_seconds(settings),
    )


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What the processes are told besides the settings; see ``Preparation``."""

    modules: tuple[str, ...]
    log_level: str
    log_format: str
    verbose: bool


def worker_launch(
    settings: Settings, options: WorkerOptions, *, number: int | None, sockets: Sequence[socket.socket]
) -> Launch:
    """Return how to start a worker process.

    Args:
        settings: of the worker.
        options: what else it is told.
        number: of its place; None: it is the spare.
        sockets: that it inherits, for ``/metrics``: its own, or those of all places.
    """
    descriptors = tuple(each.fileno() for each in sockets)
    preparation = Preparation(
        number=number,
        modules=options.modules,
        listening=descriptors,
        memory_limit_bytes=settings.process_memory_limit_bytes,
        beat_interval_seconds=beat_interval_seconds(settings),
        log_level=options.log_level,
        log_format=options.log_format,
        verbose=options.verbose,
    )
    return Launch(
        # The modules are for those who read a list of processes; what counts is in the greeting.
        command=(sys.executable, "-m", "callboard.cli.worker_process", *options.modules),
        greeting=preparation.document(),
        pass_fds=descriptors,
    )


class WorkerProgram:
    """Implements ``Program``: the worker of one place, one process after the other.

    Args:
        number: of the place, from 1.
        settings: of the worker.
        options: what else it is told.
        listening: the place's socket for ``/metrics``, which each process inherits; None: no metrics.
        ended_nodes: names of dead processes of all places, the newest last; shared by the programs.
        on_ended: called with the name of each process that has ended.
    """

    def __init__(
        self,
        number: int,
        settings: Settings,
        options: WorkerOptions,
        *,
        listening: socket.socket | None,
        ended_nodes: deque[str],
        on_ended: Callable[[str], None],
    ) -> None:
        name = settings.node_name or f"{socket.gethostname()}:{os.getpid()}"
        port = None if listening is None else listening.getsockname()[1]
        self._settings = settings.model_copy(update={"node_name": f"{name}.{number}", "metrics_port": port})
        self._number = number
        self._options = options
        self._listening = listening
        self._ended_nodes = ended_nodes
        self._on_ended = on_ended
        self._assigned = False

    def launch(self) -> Launch:
        """Return how to start a process for this place."""
        sockets = () if self._listening is None else (self._listening,)
        return worker_launch(self._settings, self._options, number=self._number, sockets=sockets)

    def assignment(self) -> dict[str, Any]:
        """Return what the next process is told to do."""
        assignment = Assignment(
            number=self._number,
            settings=settings_document(self._settings),
            node=self._settings.node(),
            ended_nodes=tuple(self._ended_nodes),
            listening=None if self._listening is None else self._listening.fileno(),
            restarted=self._assigned,
        )
        self._assigned = True
        return assignment.document()

    def reaped(self, assignment: Mapping[str, Any]) -> None:
        """Remember who is dead: what it still held, even after an orderly end, is free."""
        node = assignment["node"]
        self._ended_nodes.append(node)
        self._on_ended(node)
