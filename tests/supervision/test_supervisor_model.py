"""Random lives of a supervisor against a model of one_for_one that fits on a page."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from callboard.actors.loop_dispatcher import LoopDispatcher
from callboard.actors.system import ActorSystem
from callboard.supervision.supervisor_messages import DeleteChild, Refused, RestartChild, StartChild, TerminateChild
from tests.supervision.test_restart_window import NaiveWindow
from tests.supervision.theatre import TimerClock, Troupe

PARTS = "abc"
RESTART_TYPES = ["permanent", "transient", "temporary"]


@dataclass
class Model:
    """What OTP's rules say: who is there, in which state, started how often."""

    restarts: dict[str, str]
    window: NaiveWindow
    states: dict[str, str] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    gave_up: bool = False

    def start(self, part: str) -> str:
        if part in self.states:
            return "already_started" if self.states[part] == "running" else "already_present"
        return self._run(part)

    def restart(self, part: str) -> str:
        if self.states.get(part) == "stopped":
            return self._run(part)
        return self.states.get(part, "not_found")

    def terminate(self, part: str) -> str:
        if part not in self.states:
            return "not_found"
        self._down(part)
        return "done"

    def delete(self, part: str) -> str:
        if self.states.get(part) != "stopped":
            return self.states.get(part, "not_found")
        del self.states[part]
        return "done"

    def end(self, part: str, now: float, *, crash: bool) -> None:
        restart = self.restarts[part]
        if restart == "temporary" or (restart == "transient" and not crash):
            self._down(part)
        elif self.window.admit(now):
            self._run(part)
        else:
            self.gave_up = True

    def _run(self, part: str) -> str:
        self.states[part] = "running"
        self.starts[part] += 1
        return "done"

    def _down(self, part: str) -> None:
        if self.restarts[part] == "temporary":
            del self.states[part]
        else:
            self.states[part] = "stopped"


REQUESTS = {"start": StartChild, "restart": RestartChild, "terminate": TerminateChild, "delete": DeleteChild}
steps = st.lists(
    st.tuples(st.sampled_from(["crash", "stop"]), st.sampled_from(PARTS))
    | st.tuples(st.sampled_from([*REQUESTS]), st.sampled_from(PARTS))
    | st.tuples(st.just("wait"), st.floats(0, 3)),
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(
    restarts=st.fixed_dictionaries({part: st.sampled_from(RESTART_TYPES) for part in PARTS}),
    intensity=st.integers(0, 4),
    period_seconds=st.integers(1, 4),
    steps=steps,
)
def test_a_random_life_follows_the_model(restarts, intensity, period_seconds, steps):
    model = Model(restarts, NaiveWindow(intensity, period_seconds))
    asyncio.run(live(model, intensity, period_seconds, steps))


async def live(model: Model, intensity: int, period_seconds: int, steps: list[tuple[str, Any]]) -> None:
    clock = TimerClock()
    system = ActorSystem(loop_dispatcher=LoopDispatcher.attach(), clock=clock)
    troupe = Troupe(system, clock)
    children = [troupe.player(part, restart=model.restarts[part]) for part in PARTS]
    for part in PARTS:
        model.start(part)
    await troupe.supervise(*children, intensity=intensity, period_seconds=period_seconds)
    for action, argument in steps:
        if action == "wait":
            clock.advance(argument)
        elif action in REQUESTS:
            request = children[PARTS.index(argument)] if action == "start" else argument
            answer = await troupe.ask(REQUESTS[action](request))
            expected = getattr(model, action)(argument)
            assert (answer.reason if isinstance(answer, Refused) else "done") == expected
        elif model.states.get(argument) == "running":
            ended = system.registry.get(argument).termination()
            troupe.tell(argument, action)
            await ended
            model.end(argument, clock.monotonic(), crash=action == "crash")
        if model.gave_up:
            assert (await troupe.end()).reason == "shutdown"
            assert len(system.registry) == 0
            break
        assert await troupe.states() == model.states
        assert list(await troupe.states()) == list(model.states), "in their order"
    starts = {part: troupe.journal.entries.count(f"start {part}") for part in PARTS}
    assert starts == model.starts
    await system.aclose()
