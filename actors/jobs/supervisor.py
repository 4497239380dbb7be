"""The supervisor of job actors: OTP's ``simple_one_for_one`` with temporary children, made for thousands a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from callboard.actors.actor import EventActor

from .actor import JobActor
from .environment import JobEnvironment
from .types import ClaimedJob

StartJobs: TypeAlias = Callable[[Sequence[ClaimedJob]], None]


class JobSupervisor(EventActor):
    """Has an actor below it for each job that runs here; the claimer never brings more than there are slots.

    Its children are temporary: a job whose actor has crashed is started again by the rescue, when its lease has
    expired, in whichever process has room. So this actor neither counts nor restarts; it sees to it that a job actor,
    however it ends, killed included, leaves its slot and its lease free. When it ends itself, its children end first.

    Jobs are started by a plain call on the event loop, not by a message that waits for its turn: a claim brings
    hundreds at a time, and what a job costs is counted in microseconds.

    Args:
        environment: of the job actors.
        on_ready: gets the function that starts jobs, from each incarnation its own. After its incarnation that raises
            ``pykka.ActorDeadError``.
    """

    def __init__(self, environment: JobEnvironment, on_ready: Callable[[StartJobs], None]) -> None:
        super().__init__()
        self._environment = environment
        self._on_ready = on_ready

    def on_start(self) -> None:
        """Be ready."""
        self._on_ready(self._start_jobs)

    def _start_jobs(self, jobs: Sequence[ClaimedJob]) -> None:
        environment, adopt = self._environment, self.context.adopt
        add, now = environment.running.add, environment.clock.monotonic()
        for claimed in jobs:
            actor = JobActor(claimed, environment, now)
            add(claimed, adopt(actor), now)
            actor.begin()
