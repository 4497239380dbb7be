"""Rules D7, G7 and H8: children without names, by the dozen."""

import asyncio

import pytest

from callboard.actors.errors import InvalidSpecification
from callboard.supervision.backoff import Backoff
from callboard.supervision.dynamic_supervisor import DynamicSupervisor
from callboard.supervision.supervisor_messages import (
    ChildCounts,
    DeleteChild,
    Done,
    GetChildSpec,
    Refused,
    RestartChild,
    StartChild,
    StartDynamicChild,
    StartFailed,
    TerminateChild,
    WhichChildren,
)
from tests.supervision.theatre import Player, Stubborn


class Extra(Player):
    """Answers with the arguments that it has besides a player's."""

    def __init__(self, part, journal, *args, ill=(), **kwargs):
        super().__init__(part, journal, fails_to_start=lambda: bool(ill))
        self.extra = (args, kwargs)

    def on_receive(self, message):
        super().on_receive(message)
        return self.extra


@pytest.mark.parametrize("count", [0, 2])
async def test_D7_there_is_exactly_one_specification(troupe, count):
    with pytest.raises(InvalidSpecification, match="expected exactly one") as refused:
        troupe.system.spawn(DynamicSupervisor, [troupe.player(part) for part in "ab"[:count]])
    assert refused.value.reason == "bad_start_spec"


@pytest.mark.parametrize("most", [-1, 1.5, True, "many"])
async def test_A4_max_children_is_a_number(troupe, most):
    with pytest.raises(InvalidSpecification, match=r"max_children .*expected an int of at least 0"):
        troupe.system.spawn(DynamicSupervisor, troupe.player("a"), max_children=most)


async def test_D7_no_child_at_first_and_a_restart_has_the_arguments_of_the_start(troupe):
    await troupe.improvise(troupe.player("a", Extra, options={"from": "spec"}))
    assert await troupe.ask(WhichChildren()) == ()
    ref = await troupe.enter(1, 2, by="request")
    assert await ref.ask("?", block=False) == ((1, 2), {"from": "spec", "by": "request"})
    await troupe.ended(ref, "crash")
    (child,) = await troupe.ask(WhichChildren())
    assert child.ref is not ref
    assert (child.id, child.restarts) == (None, 1)
    assert await child.ref.ask("?", block=False) == ((1, 2), {"from": "spec", "by": "request"})


async def test_C5_arguments_of_temporary_dynamic_children_are_not_kept(troupe):
    class Costume:
        pass

    import gc
    import weakref

    await troupe.improvise(troupe.player("a", Extra, restart="temporary"))
    costume = Costume()
    seen = weakref.ref(costume)
    ref = await troupe.enter(costume)
    ref.actor_inbox.actor.extra = None
    del costume
    gc.collect()
    assert seen() is None


async def test_H8_dynamic_children_have_no_ids(troupe):
    await troupe.improvise(troupe.player("a"))
    for request in (RestartChild("a"), DeleteChild("a"), TerminateChild("a"), StartChild(troupe.player("b"))):
        assert await troupe.ask(request) == Refused("simple_one_for_one")
    assert (await troupe.ask(GetChildSpec("whatever"))).id == "a"


async def test_H8_they_are_terminated_by_reference(troupe):
    await troupe.improvise(troupe.player("a"), intensity=0)
    first, second = await troupe.enter(), await troupe.enter()
    assert await troupe.ask(TerminateChild(first)) == Done()
    assert await troupe.ask(TerminateChild(first)) == Done(), "it is dead"
    stranger = troupe.system.spawn(Player, "x", troupe.journal)
    assert await troupe.ask(TerminateChild(stranger)) == Refused("not_found")
    assert stranger.is_alive()
    assert [child.ref for child in await troupe.ask(WhichChildren())] == [second]


async def test_H7_dynamic_children_are_counted_by_their_one_type(troupe):
    await troupe.improvise(troupe.player("a", Extra), intensity=1000)
    ill = []
    ref = await troupe.enter(ill=ill)
    await troupe.enter()
    ill.append(True)
    ref.tell("crash")
    await troupe.journal.until("fail a")
    assert await troupe.count() == ChildCounts(specs=1, active=1, supervisors=0, workers=2)
    assert [child.state for child in await troupe.ask(WhichChildren())] == ["running", "restarting"]
    assert await troupe.ask(TerminateChild(ref)) == Done(), "F6, by the reference it had"
    assert await troupe.count() == ChildCounts(specs=1, active=1, supervisors=0, workers=1)


async def test_children_that_restart_count_for_max_children(troupe):
    await troupe.improvise(troupe.player("a"), max_children=2, backoff=Backoff())
    ref = await troupe.enter()
    await troupe.enter()
    assert await troupe.ask(StartDynamicChild()) == Refused("max_children")
    await troupe.ended(ref, "crash")
    assert await troupe.ask(StartDynamicChild()) == Refused("max_children")
    await troupe.ask(TerminateChild(ref))
    await troupe.enter()


async def test_H2_a_dynamic_child_that_does_not_start_is_not_added(troupe):
    await troupe.improvise(troupe.player("a", Extra), intensity=0)
    assert isinstance(await troupe.ask(StartDynamicChild(kwargs={"ill": [1]})), StartFailed)
    assert (await troupe.count()).workers == 0


async def test_E2_restarts_of_all_dynamic_children_count_together(troupe):
    await troupe.improvise(troupe.player("a"), intensity=1)
    first, second = await troupe.enter(), await troupe.enter()
    await troupe.ended(first, "crash")
    second.tell("crash")
    assert (await troupe.end()).reason == "shutdown"
    assert len(troupe.system.registry) == 0


async def test_G7_they_end_beside_each_other_within_one_time_limit_reported_by_reason(troupe, caplog):
    await troupe.improvise(troupe.player("a", Stubborn, shutdown_seconds=7))
    ends = [(await troupe.enter()).termination() for _ in range(5)]
    troupe.supervisor.shutdown()
    await troupe.journal.until("stop a", 5)
    await troupe.let_time_pass(7)
    assert (await troupe.end()).reason == "shutdown"
    assert [(await end).reason for end in ends] == ["killed"] * 5
    assert [message for message in caplog.messages if "told to stop" in message] == [
        "child 'a': 5 ended by killed (None) when told to stop"
    ]


async def test_K2_killing_a_dynamic_supervisor_leaves_no_child(troupe):
    await troupe.improvise(troupe.player("a", Stubborn))
    for _ in range(5):
        await troupe.enter()
    troupe.supervisor.kill()
    assert (await troupe.end()).reason == "killed"
    assert len(troupe.system.registry) == 0


async def test_B2_starts_wait_for_each_other_and_the_loop_for_none(troupe):
    class Slow(Player):
        async def on_start(self):
            self.journal.write("begin")
            await released.wait()
            await super().on_start()

    released = asyncio.Event()
    await troupe.improvise(troupe.player("a", Slow))
    answers = [troupe.ask_now(StartDynamicChild()) for _ in range(3)]
    await troupe.journal.until("begin")
    released.set()
    for answer in answers:
        assert (await answer).ref is not None
    assert troupe.journal.entries == ["begin", "start a"] * 3
