"""A stage for processes: places, a spare, a supervisor over them, and what they did."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from callboard.actors.messages import Terminated
from callboard.actors.system import ActorSystem
from callboard.supervision.backoff import Backoff
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.processes.linked_process import Launch
from callboard.supervision.processes.place import ProcessPlace
from callboard.supervision.processes.process_actor import ProcessActor
from callboard.supervision.processes.process_limits import ProcessLimits
from callboard.supervision.processes.spare import Spare
from callboard.supervision.processes.spare_actor import SpareActor
from callboard.supervision.supervisor import Supervisor
from callboard.supervision.supervisor_messages import CountChildren

PROGRAM = str(Path(__file__).with_name("program.py"))
PATIENCE_SECONDS = 30.0
FOREVER = 3600.0
WORKS = (("ready",), ("sleep",))

SPARE_PACE = {"pause_seconds": 0.0, "backoff": Backoff(initial_seconds=0.01, max_seconds=0.02)}

Steps = tuple[tuple[Any, ...], ...]


def process_limits(**limits: Any) -> ProcessLimits:
    defaults = {"look_interval_seconds": 0.02, "start_timeout_seconds": FOREVER, "stop_timeout_seconds": FOREVER}
    return ProcessLimits(**defaults | limits)


def launch(*preparation: tuple[Any, ...]) -> Launch:
    """Return how to start a process that takes these steps before it is prepared."""
    return Launch((sys.executable, "-S", PROGRAM), {"steps": preparation})


class Script:
    """What the processes of a place do: the first one the first list of steps, and so on; the last list again.

    Attributes:
        preparation: what each one does before.
        assigned: how many were told what to do.
        reaped_count: how many of these have ended.
    """

    def __init__(self, *steps: Steps) -> None:
        self.steps = list(steps)
        self.preparation: Steps = ()
        self.launched = 0
        self.assigned = 0
        self.reaped_count = 0

    def launch(self) -> Launch:
        self.launched += 1
        return launch(*self.preparation)

    def assignment(self) -> dict[str, Any]:
        steps = self.steps[min(self.assigned, len(self.steps) - 1)]
        self.assigned += 1
        return {"steps": steps}

    def reaped(self, assignment: Mapping[str, Any]) -> None:
        self.reaped_count += 1


class Tally:
    """Notes measurements."""

    def __init__(self) -> None:
        self.causes: list[str] = []
        self.recycled: list[bool] = []
        self.memory_bytes: dict[str, int] = {}
        self.started: list[str] = []

    def process_started(self, place: str) -> None:
        self.started.append(place)

    def process_exited(self, place: str, cause: str) -> None:
        self.causes.append(cause)

    def process_memory(self, place: str, resident_bytes: int) -> None:
        self.memory_bytes[place] = resident_bytes

    def process_recycled(self, replaced: bool) -> None:
        self.recycled.append(replaced)


class Stage:
    """An actor system with places, and a supervisor over them."""

    def __init__(self, system: ActorSystem) -> None:
        self.system = system
        self.tally = Tally()
        self.places: list[ProcessPlace] = []
        self.spare: Spare | None = None
        self.supervisor: Any = None

    def place(self, *steps: Steps, **limits: Any) -> ProcessPlace:
        name = str(len(self.places) + 1)
        place = ProcessPlace(name, Script(*steps), process_limits(**limits), self.tally, self.spare)
        self.places.append(place)
        return place

    def keep_spare(self, *preparations: Steps, **limits: Any) -> Spare:
        """Have a spare for the places that follow; the first one prepares itself with the first steps, and so on."""
        left = list(preparations) or [()]
        self.spare = Spare(
            lambda: launch(*(left.pop(0) if len(left) > 1 else left[0])), process_limits(**limits), self.tally
        )
        return self.spare

    async def supervise(self, **flags: Any) -> None:
        """Start the supervisor, and return when it has started, or failed to."""
        specs = [
            ChildSpec(f"process-{place.name}", ProcessActor, (place,), shutdown_seconds=FOREVER)
            for place in self.places
        ]
        if self.spare is not None:
            specs.append(ChildSpec("spare", SpareActor, (self.spare, self.places), SPARE_PACE))
        self.supervisor = self.system.spawn(Supervisor, specs, **flags)
        ended = asyncio.ensure_future(self.end())
        started = asyncio.ensure_future(self.started())
        await asyncio.wait({ended, started}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, started):
            task.cancel()
        await asyncio.gather(ended, started, return_exceptions=True)

    async def started(self) -> None:
        await self.supervisor.ask(CountChildren(), block=False, timeout=PATIENCE_SECONDS)

    async def end(self) -> Terminated:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.supervisor.termination()

    def actor(self, place: ProcessPlace) -> Any:
        return self.system.registry.get(f"process-{place.name}")


async def until(condition: Callable[[], Any]) -> Any:
    """Return the first true value; processes announce nothing here."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (value := condition()):
            await asyncio.sleep(0.005)
    return value


def process_of(place: ProcessPlace) -> Any:
    (process,) = place.processes
    return process


async def replacement(place: ProcessPlace, old_pid: int) -> Any:
    """Return the process that has come in the place of another one, once it is ready."""
    return await until(
        lambda: next((each for each in place.processes if each.pid != old_pid and each.ready.done()), None)
    )


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
