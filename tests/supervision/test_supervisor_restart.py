"""Rules C to F: who is restarted, how often, and what follows from a restart that fails."""

import pytest

from callboard.actors.errors import RestartIntensityReached
from callboard.actors.messages import Terminated
from callboard.supervision.supervisor_messages import (
    ChildCounts,
    ChildStarted,
    DeleteChild,
    Done,
    GetChildSpec,
    Refused,
    RestartChild,
    StartChild,
    TerminateChild,
)
from tests.supervision.theatre import Player

ENDS = {
    "crash": lambda ref: ref.tell("crash"),
    "kill": lambda ref: ref.kill(),
    "stop": lambda ref: ref.tell("stop"),
    "shutdown": lambda ref: ref.shutdown(),
    "shutdown with a reason": lambda ref: ref.shutdown("the play is over"),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_C1_C2_C3_who_is_restarted_after_what(troupe, restart, how):
    await troupe.supervise(troupe.player("a", restart=restart))
    ended = (await troupe.refs())["a"]
    termination = ended.termination()
    ENDS[how](ended)
    await termination
    states = await troupe.states()
    if restart == "permanent" or (restart == "transient" and how in ("crash", "kill")):
        assert states == {"a": "running"}
        assert (await troupe.refs())["a"] is not ended
    else:
        assert states == ({} if restart == "temporary" else {"a": "stopped"})
        assert troupe.journal.entries.count("start a") == 1


async def test_C2_a_transient_child_that_ended_can_be_started_again(troupe):
    await troupe.supervise(troupe.player("a", restart="transient"))
    troupe.tell("a", "stop")
    await troupe.journal.until("stop a")
    assert isinstance(await troupe.ask(RestartChild("a")), ChildStarted)
    assert await troupe.states() == {"a": "running"}


async def test_C3_the_id_of_a_temporary_child_is_free_after_its_end(troupe):
    spec = troupe.player("a", restart="temporary")
    await troupe.supervise(spec)
    termination = (await troupe.refs())["a"].termination()
    troupe.tell("a", "crash")
    await termination
    assert isinstance(await troupe.ask(StartChild(spec)), ChildStarted)


async def test_C5_arguments_of_temporary_children_are_not_kept(troupe):
    await troupe.supervise(troupe.player("a", restart="temporary"), troupe.player("b"))
    assert (await troupe.ask(GetChildSpec("a"))).args == ()
    assert (await troupe.ask(GetChildSpec("b"))).args == ("b", troupe.journal)


async def test_C6_unknown_messages_are_logged_and_ignored(troupe, caplog):
    await troupe.supervise(troupe.player("a"))
    troupe.supervisor.tell("foo")
    assert await troupe.states() == {"a": "running"}
    assert "does not know, and ignores it: 'foo'" in caplog.text


async def test_C6_the_end_of_a_stranger_is_ignored(troupe):
    await troupe.supervise(troupe.player("a"), intensity=0)
    stranger = troupe.system.spawn(Player, "x", troupe.journal)
    troupe.supervisor.tell(Terminated(stranger, "error", ValueError()))
    assert await troupe.states() == {"a": "running"}


async def test_D1_siblings_keep_running(troupe):
    await troupe.supervise(troupe.player("a"), troupe.player("b"), troupe.player("c"))
    before = await troupe.refs()
    await troupe.crash("b")
    after = await troupe.refs()
    assert after["a"] is before["a"]
    assert after["c"] is before["c"]
    assert after["b"] is not before["b"]
    assert list(after) == ["a", "b", "c"], "a restarted child keeps its place"


async def test_D5_a_restart_begins_with_new_state_and_the_same_arguments(troupe):
    await troupe.supervise(troupe.player("a"))
    assert await troupe.system.registry.get("a").ask("hello", block=False) == 1
    assert await troupe.system.registry.get("a").ask("hello", block=False) == 2
    await troupe.crash("a")
    assert await troupe.system.registry.get("a").ask("hello", block=False) == 1


async def test_D5_every_incarnation_is_found_under_the_name(troupe):
    await troupe.supervise(troupe.player("a", name="the prince"))
    first = troupe.system.registry.get("the prince")
    troupe.tell("the prince", "crash")
    await troupe.journal.until("start a", 2)
    second = troupe.system.registry.get("the prince")
    assert first is not second
    assert (await troupe.refs())["a"] is second


async def test_D6_E6_a_child_ended_by_the_supervisor_is_not_restarted_and_does_not_count(troupe):
    await troupe.supervise(troupe.player("a"), intensity=0)
    for _ in range(5):
        assert await troupe.ask(TerminateChild("a")) == Done()
        assert isinstance(await troupe.ask(RestartChild("a")), ChildStarted)
    assert await troupe.states() == {"a": "running"}


async def test_E1_restarts_of_all_children_count_together(troupe):
    await troupe.supervise(troupe.player("a"), troupe.player("b"), troupe.player("c"), intensity=2)
    await troupe.crash("a")
    await troupe.crash("b")
    troupe.tell("c", "crash")
    assert (await troupe.end()).reason == "shutdown"


async def test_E2_as_many_restarts_as_the_intensity_and_no_more(troupe):
    await troupe.supervise(troupe.player("a"), intensity=3)
    await troupe.crash("a", times=3)
    troupe.tell("a", "crash")
    assert (await troupe.end()).reason == "shutdown"
    assert troupe.journal.entries.count("start a") == 4


async def test_E2_intensity_zero_gives_up_at_once(troupe):
    await troupe.supervise(troupe.player("a"), intensity=0)
    troupe.tell("a", "crash")
    assert (await troupe.end()).reason == "shutdown"


async def test_E3_restarts_leave_the_window(troupe):
    await troupe.supervise(troupe.player("a"), intensity=1, period_seconds=5)
    for _ in range(5):
        await troupe.crash("a")
        troupe.clock.advance(6)
    await troupe.crash("a")
    troupe.clock.advance(5)
    troupe.tell("a", "crash")
    assert (await troupe.end()).reason == "shutdown"


async def test_E6_ends_without_a_restart_never_count(troupe):
    await troupe.supervise(
        *(troupe.player(part, restart="temporary") for part in "abc"),
        *(troupe.player(part, restart="transient") for part in "de"),
        intensity=0,
    )
    for part, message in zip("abcde", ("crash", "crash", "stop", "stop", "stop"), strict=True):
        termination = troupe.system.registry.get(part).termination()
        troupe.tell(part, message)
        await termination
    assert await troupe.states() == {"d": "stopped", "e": "stopped"}


async def test_E7_giving_up_ends_the_others_in_reverse_order_and_then_the_supervisor(troupe):
    await troupe.supervise(*(troupe.player(part) for part in "abcd"), intensity=1)
    await troupe.crash("b")
    troupe.tell("b", "crash")
    end = await troupe.end()
    assert end.reason == "shutdown"
    assert isinstance(end.exception, RestartIntensityReached)
    assert troupe.journal.entries[-4:] == ["crash b", "stop d", "stop c", "stop a"]
    assert len(troupe.system.registry) == 0


async def test_F1_F6_what_waits_in_the_mailbox_comes_before_the_next_try(troupe):
    ill = []
    await troupe.supervise(
        troupe.player("a"), troupe.player("b", options={"fails_to_start": lambda: bool(ill)}), intensity=1000
    )
    ill.append(True)
    troupe.tell("b", "crash")
    await troupe.journal.until("fail b", 3)
    assert await troupe.states() == {"a": "running", "b": "restarting"}, "F5"
    assert await troupe.count() == ChildCounts(specs=2, active=1, supervisors=0, workers=2), "F5"
    assert await troupe.ask(TerminateChild("b")) == Done()
    tries = troupe.journal.entries.count("fail b")
    assert await troupe.states() == {"a": "running", "b": "stopped"}
    ill.clear()
    assert isinstance(await troupe.ask(RestartChild("b")), ChildStarted)
    assert troupe.journal.entries.count("fail b") == tries, "F6: the pending try is cancelled for good"


@pytest.mark.parametrize("fault", ["fails_to_start", "fails_in_constructor"])
async def test_F2_each_failed_try_counts(troupe, fault):
    tries = []

    def second_start_fails() -> bool:
        tries.append(len(tries))
        return len(tries) > 1

    await troupe.supervise(troupe.player("a"), troupe.player("b", options={fault: second_start_fails}), intensity=4)
    troupe.tell("b", "crash")
    assert (await troupe.end()).reason == "shutdown"
    assert len(tries) == 1 + 4
    assert troupe.journal.entries[-1] == "stop a", "the sibling ends too"


async def test_F2_a_restart_that_succeeds_at_a_later_try_goes_on(troupe):
    outcomes = iter([False, True, True, False])
    await troupe.supervise(troupe.player("a", options={"fails_to_start": lambda: next(outcomes)}), intensity=3)
    await troupe.crash("a")
    assert await troupe.states() == {"a": "running"}


async def test_F5_a_child_that_is_being_restarted_can_be_neither_started_nor_deleted(troupe):
    ill = []
    await troupe.supervise(troupe.player("a", options={"fails_to_start": lambda: bool(ill)}), intensity=1000)
    ill.append(True)
    troupe.tell("a", "crash")
    await troupe.journal.until("fail a")
    assert await troupe.ask(RestartChild("a")) == Refused("restarting")
    assert await troupe.ask(DeleteChild("a")) == Refused("restarting")
    assert await troupe.ask(StartChild(troupe.player("a"))) == Refused("already_present")
    await troupe.ask(TerminateChild("a"))
