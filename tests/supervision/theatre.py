"""Actors to supervise, a journal of what they did, and a clock that fires their timers."""

import asyncio
from collections.abc import Callable
from typing import Any

from callboard.actors.actor import EventActor
from callboard.actors.ref import EventRef
from callboard.actors.system import ActorSystem
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.dynamic_supervisor import DynamicSupervisor
from callboard.supervision.supervisor import Supervisor
from callboard.supervision.supervisor_messages import ChildStarted, CountChildren, StartDynamicChild, WhichChildren
from callboard.testing import FakeClock

PATIENCE_SECONDS = 10


class Journal:
    """What happened, in order."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self._news = asyncio.Event()

    def write(self, entry: str) -> None:
        self.entries.append(entry)
        self._news.set()

    async def until(self, entry: str, times: int = 1) -> None:
        """Wait until an entry was written so often."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.entries.count(entry) < times:
                self._news.clear()
                await self._news.wait()


class Player(EventActor):
    """Writes its starts and stops, and does what its messages say: crash, stop, or answer with how many came before."""

    def __init__(
        self,
        part: str,
        journal: Journal,
        *,
        fails_to_start: Callable[[], bool] = lambda: False,
        fails_in_constructor: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        if fails_in_constructor():
            raise LookupError(f"no costume for {part}")
        self.part = part
        self.journal = journal
        self.fails_to_start = fails_to_start
        self.messages = 0

    async def on_start(self) -> None:
        await asyncio.sleep(0)  # gives others the chance to start out of order
        if self.fails_to_start():
            self.journal.write(f"fail {self.part}")
            raise LookupError(f"{self.part} is ill")
        self.journal.write(f"start {self.part}")

    def on_stop(self) -> None:
        self.journal.write(f"stop {self.part}")

    def on_receive(self, message: Any) -> Any:
        if message == "crash":
            self.journal.write(f"crash {self.part}")
            raise ValueError(f"{self.part} forgot the text")
        if message == "stop":
            self.stop()
        self.messages += 1
        return self.messages


class Stubborn(Player):
    """Does not stop when it is asked to; swallows its first cancellation, too, if told so."""

    def __init__(self, part: str, journal: Journal, *, swallows: int = 0) -> None:
        super().__init__(part, journal)
        self.swallows = swallows

    async def on_stop(self) -> None:
        self.journal.write(f"stop {self.part}")
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if self.swallows == 0:
                    raise
                self.swallows -= 1


class TimerClock(FakeClock):
    """A clock that moves only by ``advance``, and then fires the timers that are due."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[Timer] = []

    def call_later(self, delay_seconds: float, callback: Callable[[], object]) -> "Timer":
        timer = Timer(self, self.monotonic() + delay_seconds, callback)
        self.timers.append(timer)
        return timer

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        for timer in sorted(self.timers, key=lambda timer: timer.due_at):
            if timer.due_at <= self.monotonic():
                timer.cancel()
                timer.callback()

    def delays(self) -> list[float]:
        """How long the timers still wait."""
        return [round(timer.due_at - self.monotonic(), 6) for timer in self.timers]


class Timer:
    def __init__(self, clock: TimerClock, due_at: float, callback: Callable[[], object]) -> None:
        self.clock = clock
        self.due_at = due_at
        self.callback = callback

    def cancel(self) -> None:
        if self in self.clock.timers:
            self.clock.timers.remove(self)


class Troupe:
    """A system, a journal and the supervisor under test."""

    def __init__(self, system: ActorSystem, clock: TimerClock) -> None:
        self.system = system
        self.clock = clock
        self.journal = Journal()
        self.supervisor: EventRef[Any]

    def player(self, part: str, actor_class: type[Player] = Player, /, **spec: Any) -> ChildSpec:
        options = spec.pop("options", {})
        return ChildSpec(part, actor_class, (part, self.journal), options, **spec)

    async def supervise(self, *children: ChildSpec, **flags: Any) -> EventRef[Supervisor]:
        """Start the supervisor and wait until it has started its children."""
        self.supervisor = self.system.spawn(Supervisor, children, **flags)
        await self.count()
        return self.supervisor

    async def improvise(self, child: ChildSpec, **flags: Any) -> EventRef[DynamicSupervisor]:
        """Start a dynamic supervisor."""
        self.supervisor = self.system.spawn(DynamicSupervisor, child, **flags)
        await self.count()
        return self.supervisor

    async def enter(self, *args: Any, **kwargs: Any) -> EventRef[Any]:
        """Start one more child of the dynamic supervisor."""
        answer = await self.ask(StartDynamicChild(args, kwargs))
        assert isinstance(answer, ChildStarted), answer
        assert answer.ref is not None
        return answer.ref

    async def ended(self, ref: EventRef[Any], message: Any) -> Any:
        """Send a child what ends it, and return its ``Terminated`` once the supervisor has dealt with it."""
        termination = ref.termination()
        ref.tell(message)
        end = await termination
        if self.supervisor.is_alive():
            await self.count()
        return end

    async def ask(self, message: Any) -> Any:
        return await self.supervisor.ask(message, block=False)

    def ask_now(self, message: Any) -> "asyncio.Task[Any]":
        """Ask, and wait for the answer later."""
        return asyncio.ensure_future(self.ask(message))

    async def let_time_pass(self, *seconds: float) -> None:
        """Wait until somebody waits for the clock, then let so much time pass; again for each."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            for step in seconds:
                while not self.clock.timers:
                    await asyncio.sleep(0)
                self.clock.advance(step)
                for _ in range(20):
                    await asyncio.sleep(0)

    async def count(self) -> Any:
        return await self.ask(CountChildren())

    async def states(self) -> dict[str, str]:
        return {child.id: child.state for child in reversed(await self.ask(WhichChildren()))}

    async def refs(self) -> dict[str, EventRef[Any] | None]:
        return {child.id: child.ref for child in reversed(await self.ask(WhichChildren()))}

    def tell(self, part: str, message: Any) -> None:
        ref = self.system.registry.get(part)
        assert ref is not None, f"{part} is not alive"
        ref.tell(message)

    async def crash(self, part: str, times: int = 1) -> None:
        """Crash a child and wait until its replacement has started, so often."""
        for _ in range(times):
            starts = self.journal.entries.count(f"start {part}")
            self.tell(part, "crash")
            await self.journal.until(f"start {part}", starts + 1)
            await self.count()

    async def end(self) -> Any:
        """Wait for the supervisor's end and return its ``Terminated``."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.supervisor.termination()
