"""Rules J and K: supervisors below supervisors, killed ones, and many children."""

import asyncio
import sys

import pytest

from callboard.actors.actor import EventActor
from callboard.actors.loop_dispatcher import LoopDispatcher
from callboard.actors.mailbox import MailboxSpec
from callboard.actors.messages import Shutdown
from callboard.actors.system import ActorSystem
from callboard.supervision.backoff import Backoff
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.dynamic_supervisor import DynamicSupervisor
from callboard.supervision.supervisor import Supervisor
from callboard.supervision.supervisor_messages import (
    ChildStarted,
    Done,
    GetChildSpec,
    StartChild,
    StartDynamicChild,
    TerminateChild,
    WhichChildren,
)
from tests.supervision.theatre import Player


def nested(troupe, restart: str, **flags) -> ChildSpec:
    return ChildSpec(
        "inner",
        Supervisor,
        ([troupe.player("a"), troupe.player("b")],),
        {"intensity": 0, **flags},
        restart=restart,
        child_type="supervisor",
    )


async def test_J1_a_permanent_supervisor_that_gives_up_is_restarted_and_counts_once(troupe):
    await troupe.supervise(troupe.player("x"), nested(troupe, "permanent"), intensity=1)
    troupe.tell("a", "crash")
    await troupe.journal.until("start b", 2)
    assert await troupe.states() == {"x": "running", "inner": "running"}
    troupe.tell("a", "crash")
    assert (await troupe.end()).reason == "shutdown"
    assert troupe.journal.entries[-1] == "stop x"


async def test_J1_a_transient_supervisor_that_gives_up_is_not_restarted(troupe):
    await troupe.supervise(nested(troupe, "transient"), intensity=1)
    termination = (await troupe.refs())["inner"].termination()
    troupe.tell("a", "crash")
    assert (await termination).reason == "shutdown"
    assert await troupe.states() == {"inner": "stopped"}


async def test_J1_a_nested_supervisor_that_cannot_start_is_a_failed_start(troupe):
    ill = []
    inner = ChildSpec(
        "inner",
        Supervisor,
        ([troupe.player("a", options={"fails_to_start": lambda: bool(ill)})],),
        {"intensity": 0},
        child_type="supervisor",
    )
    await troupe.supervise(inner, intensity=3)
    ill.append(True)
    troupe.tell("a", "crash")
    assert (await troupe.end()).reason == "shutdown"
    assert troupe.journal.entries.count("fail a") == 3


async def test_H10_children_added_later_are_lost_with_their_supervisor_and_deleted_ones_come_back(troupe):
    await troupe.supervise(nested(troupe, "permanent"), intensity=1)
    inner = (await troupe.refs())["inner"]
    assert isinstance(await inner.ask(StartChild(troupe.player("c")), block=False), ChildStarted)
    assert await inner.ask(TerminateChild("b"), block=False) == Done()
    troupe.tell("a", "crash")
    await troupe.journal.until("start b", 2)
    assert troupe.system.registry.get("c") is None


async def test_K1_a_thousand_children(troupe):
    parts = [f"p{number}" for number in range(1000)]
    await troupe.supervise(*(troupe.player(part) for part in parts))
    assert (await troupe.count()).active == 1000
    await troupe.crash("p500")
    assert (await troupe.count()).active == 1000


async def test_K2_killing_a_supervisor_leaves_no_child(troupe):
    await troupe.supervise(troupe.player("x"), nested(troupe, "permanent", intensity=1))
    troupe.supervisor.kill()
    assert (await troupe.end()).reason == "killed"
    assert len(troupe.system.registry) == 0


async def test_J2_restarts_multiply_over_the_levels(troupe):
    spec = troupe.player("a")
    for level in ("inner", "middle"):
        spec = ChildSpec(level, Supervisor, ([spec],), {"intensity": 1}, child_type="supervisor")
    await troupe.supervise(spec, intensity=1)
    for starts in range(1, 8):
        troupe.tell("a", "crash")
        await troupe.journal.until("start a", starts + 1)
        await troupe.count()
    troupe.tell("a", "crash")
    assert (await troupe.end()).reason == "shutdown"
    assert troupe.journal.entries.count("start a") == 8, "2 * 2 * 2 lives"


class Blocked(Player):
    """Its hook waits for ever, and swallows nothing."""

    def __init__(self, part, journal, *, hook):
        super().__init__(part, journal)
        self.hook = hook

    async def on_start(self):
        await super().on_start()
        if self.hook == "on_start":
            await asyncio.Event().wait()

    async def on_stop(self):
        self.journal.write(f"stop {self.part}")
        if self.hook == "on_stop":
            await asyncio.Event().wait()


async def test_K2_killed_while_it_starts_its_children(troupe):
    troupe.supervisor = troupe.system.spawn(
        Supervisor, [troupe.player("a"), troupe.player("b", Blocked, options={"hook": "on_start"})]
    )
    await troupe.journal.until("start b")
    troupe.supervisor.kill()
    assert (await troupe.end()).reason == "killed"
    assert len(troupe.system.registry) == 0


@pytest.mark.parametrize("how", [TerminateChild("b"), Shutdown("shutdown")])
async def test_K2_killed_while_it_ends_a_child(troupe, how):
    blocked = troupe.player("b", Blocked, options={"hook": "on_stop"}, shutdown_seconds="infinity")
    await troupe.supervise(troupe.player("a"), blocked)
    if isinstance(how, Shutdown):
        troupe.supervisor.shutdown()
    else:
        troupe.supervisor.tell(how)
    await troupe.journal.until("stop b")
    troupe.supervisor.kill()
    assert (await troupe.end()).reason == "killed"
    assert len(troupe.system.registry) == 0


async def test_K2_killed_while_a_restart_waits(troupe):
    await troupe.supervise(troupe.player("a"), troupe.player("b"), backoff=Backoff(initial_seconds=1))
    await troupe.ended(troupe.system.registry.get("a"), "crash")
    assert await troupe.states() == {"a": "restarting", "b": "running"}
    troupe.supervisor.kill()
    await troupe.end()
    assert troupe.clock.timers == []
    assert len(troupe.system.registry) == 0


async def test_K2_killed_while_a_group_restarts(troupe):
    left = iter(["", "on_start"])

    class Second(Blocked):
        def __init__(self, part, journal):
            super().__init__(part, journal, hook=next(left))

    await troupe.supervise(troupe.player("a"), troupe.player("b", Second), strategy="one_for_all")
    troupe.tell("a", "crash")
    await troupe.journal.until("start b", 2)
    troupe.supervisor.kill()
    assert (await troupe.end()).reason == "killed"
    assert len(troupe.system.registry) == 0


async def test_K2_a_restarted_supervisor_finds_the_names_of_its_children_free(troupe):
    await troupe.supervise(nested(troupe, "permanent", intensity=1), intensity=1)
    troupe.system.registry.get("inner").kill()
    await troupe.journal.until("start b", 2)
    assert await troupe.states() == {"inner": "running"}


async def test_a_supervisor_with_a_bounded_mailbox_still_tries_again(troupe):
    class Bounded(Supervisor):
        mailbox = MailboxSpec(capacity=1)

    left = iter([False, True, True, False])

    def fails():
        troupe.supervisor.send("fills the mailbox")
        return next(left)

    troupe.supervisor = troupe.system.spawn(
        Bounded, [troupe.player("a", options={"fails_to_start": fails})], intensity=5
    )
    await troupe.journal.until("start a")
    troupe.tell("a", "crash")
    await troupe.journal.until("start a", 2)
    assert troupe.journal.entries == ["start a", "crash a", "fail a", "fail a", "start a"]


async def test_a_supervisor_that_is_defect_crashes_as_in_otp_instead_of_going_on(troupe):
    class Defect(Supervisor):
        def _which_children(self):
            raise RuntimeError("defect")

    await troupe.supervise(ChildSpec("inner", Defect, child_type="supervisor"))
    inner = (await troupe.refs())["inner"]
    with pytest.raises(RuntimeError, match="defect"):
        await inner.ask(WhichChildren(), block=False)
    assert (await inner.termination()).reason == "error"
    assert await troupe.states() == {"inner": "running"}


class Idle(EventActor):
    def on_receive(self, message):
        pass


async def static_life(system, size):
    supervisor = system.spawn(Supervisor, [ChildSpec(f"child {number}", Idle) for number in range(size)])
    for number in range(size):
        await supervisor.ask(GetChildSpec(f"child {number}"), block=False)
    supervisor.shutdown()
    await supervisor.termination()


async def dynamic_life(system, size):
    supervisor = system.spawn(DynamicSupervisor, ChildSpec("child", Idle, restart="temporary"))
    refs = [(await supervisor.ask(StartDynamicChild(), block=False)).ref for _ in range(size)]
    for ref in refs[: size // 2]:
        await supervisor.ask(TerminateChild(ref), block=False)
    supervisor.shutdown()
    await supervisor.termination()


def calls_of(life, size):
    """Count the calls of functions, C's included, in a life with so many children."""
    calls = 0

    def count(_frame, event, _function):
        nonlocal calls
        calls += event in ("call", "c_call")

    async def counted():
        system = ActorSystem(loop_dispatcher=LoopDispatcher.attach())
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            await life(system, size)
        finally:
            sys.setprofile(before)
        await system.aclose()

    asyncio.run(counted())
    return calls


@pytest.mark.parametrize("life", [static_life, dynamic_life])
def test_K1_what_many_children_cost_grows_with_their_number_and_not_faster(life):
    calls_of(life, 100)  # whatever is done once only
    few, more, many = (calls_of(life, size) for size in (100, 200, 400))
    # Linear: the second difference is twice the first. If each child cost a look at each other, it were four times.
    assert many - more < 2.2 * (more - few)
