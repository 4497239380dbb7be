"""The supervisor under OTP's rules, by their ids: starting, restarting, giving up, nesting."""

import asyncio

import pykka
import pytest

from callboard.actors.errors import ActorError, ConfigurationError, RestartIntensityReached
from callboard.actors.mailbox import MailboxSpec
from callboard.actors.messages import Terminated
from callboard.supervision.backoff import Backoff
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.metrics import PrometheusTelemetry
from callboard.supervision.supervisor import Supervisor
from callboard.supervision.supervisor_messages import (
    ChildCounts,
    ChildStarted,
    Done,
    GetChildSpec,
    RestartChild,
    StartChild,
    TerminateChild,
)
from tests.supervision.test_metrics import samples
from tests.supervision.theatre import Player


async def test_A1_defaults_allow_one_restart_in_five_seconds(troupe):
    await troupe.supervise(troupe.player("a"))
    await troupe.crash("a")
    troupe.tell("a", "crash")
    assert (await troupe.end()).reason == "shutdown"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"intensity": -1}, "intensity -1"),
        ({"period_seconds": 0}, "period_seconds 0"),
        ({"intensity": None}, "intensity None"),
    ],
)
async def test_A4_wrong_flags_are_refused_and_nothing_starts(troupe, flags, message):
    with pytest.raises(ConfigurationError, match=message):
        troupe.system.spawn(Supervisor, [troupe.player("a")], **flags)
    assert troupe.journal.entries == []


async def test_A6_duplicate_ids_are_refused_and_nothing_starts(troupe):
    with pytest.raises(ConfigurationError, match="'a' is given twice"):
        troupe.system.spawn(Supervisor, [troupe.player("a"), troupe.player("a")])
    assert troupe.journal.entries == []


async def test_B1_children_start_one_after_the_other(troupe):
    await troupe.supervise(troupe.player("a"), troupe.player("b"), troupe.player("c"))
    assert troupe.journal.entries == ["start a", "start b", "start c"]


@pytest.mark.parametrize("fault", ["fails_to_start", "fails_in_constructor"])
async def test_B6_a_failed_first_start_ends_those_before_and_the_supervisor(troupe, fault):
    troupe.supervisor = troupe.system.spawn(
        Supervisor,
        [troupe.player("a"), troupe.player("b"), troupe.player("c", options={fault: lambda: True}), troupe.player("d")],
        intensity=10,
    )
    end = await troupe.end()
    assert [entry for entry in troupe.journal.entries if entry != "fail c"] == [
        "start a",
        "start b",
        "stop b",
        "stop a",
    ]
    assert isinstance(end.exception, ActorError)
    assert "could not start its child 'c'" in str(end.exception)
    assert isinstance(end.exception.__cause__, LookupError)


async def test_B6_who_asks_a_supervisor_that_could_not_start_is_told(troupe):
    with pytest.raises(pykka.ActorDeadError):
        await troupe.supervise(troupe.player("a", options={"fails_to_start": lambda: True}))


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


async def test_a_start_may_take_as_long_as_it_takes_and_the_supervisor_can_be_killed_meanwhile(troupe):
    begun = asyncio.Event()

    class Late(Supervisor):
        async def on_start(self) -> None:
            begun.set()
            await asyncio.Event().wait()

    troupe.system.ask_timeout_seconds = 0.01
    troupe.supervisor = troupe.system.spawn(Supervisor, [ChildSpec("late", Late)])
    await begun.wait()
    troupe.supervisor.kill()
    assert (await troupe.end()).reason == "killed"
    assert len(troupe.system.registry) == 0


async def test_a_child_whose_mailbox_was_full_at_once_counts_as_started(troupe):
    class Popular(Player):
        mailbox = MailboxSpec(capacity=1)

        def __init__(self, *args) -> None:
            super().__init__(*args)
            self.actor_ref.tell("hello")

    await troupe.supervise(troupe.player("a", Popular))
    assert await troupe.states() == {"a": "running"}


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


async def test_B8_with_backoff_restarts_wait_longer_and_longer(troupe):
    drawn = []

    def draw(shortest: float, longest: float) -> float:
        drawn.append((shortest, longest))
        return shortest

    backoff = Backoff(initial_seconds=1, max_seconds=5, jitter_ratio=0.5)
    await troupe.supervise(troupe.player("a"), troupe.player("b"), intensity=None, backoff=backoff, draw=draw)
    for delay in (1, 2, 4, 5, 5):
        starts = troupe.journal.entries.count("start a")
        troupe.tell("a", "crash")
        await troupe.journal.until("crash a", starts)
        assert await troupe.states() == {"a": "restarting", "b": "running"}
        assert troupe.clock.delays() == [delay]
        troupe.clock.advance(delay)
        await troupe.journal.until("start a", starts + 1)
        assert await troupe.states() == {"a": "running", "b": "running"}
    assert drawn == [(1, 1.5), (2, 3), (4, 6), (5, 7.5), (5, 7.5)]
    troupe.clock.advance(3)  # the mean of initial and maximum: the child has lived long enough
    troupe.tell("a", "crash")
    await troupe.journal.until("crash a", 6)
    await troupe.states()
    assert troupe.clock.delays() == [1]


async def test_B8_failed_tries_wait_too_and_count(troupe):
    ill = []
    backoff = Backoff(initial_seconds=1, max_seconds=4, jitter_ratio=0)
    await troupe.supervise(
        troupe.player("a", options={"fails_to_start": lambda: bool(ill)}),
        intensity=2,
        period_seconds=60,
        backoff=backoff,
    )
    ill.append(True)
    troupe.clock.advance(100)
    troupe.tell("a", "crash")
    await troupe.journal.until("crash a")
    await troupe.states()
    assert troupe.clock.delays() == [1]
    troupe.clock.advance(1)
    await troupe.journal.until("fail a")
    await troupe.states()
    await troupe.states()  # the first one may come before the supervisor's own word to try again
    assert troupe.clock.delays() == [2], "the wait is no life that would reset the backoff"
    troupe.clock.advance(2)
    assert (await troupe.end()).reason == "shutdown"


async def test_F6_terminating_a_child_that_waits_cancels_its_restart(troupe):
    await troupe.supervise(troupe.player("a"), backoff=Backoff(initial_seconds=1))
    troupe.tell("a", "crash")
    await troupe.journal.until("crash a")
    assert await troupe.states() == {"a": "restarting"}
    assert await troupe.ask(TerminateChild("a")) == Done()
    assert troupe.clock.timers == []
    assert await troupe.states() == {"a": "stopped"}


async def test_a_killed_supervisor_is_no_longer_counted(troupe):
    telemetry = PrometheusTelemetry(version="1")
    await troupe.supervise(troupe.player("a"), telemetry=telemetry)
    troupe.supervisor.kill()
    await troupe.end()
    assert samples(telemetry, "callboard_supervisors_alive") == {(): 0}


async def test_restarts_and_giving_up_are_measured(troupe):
    telemetry = PrometheusTelemetry(version="1")
    await troupe.supervise(troupe.player("a"), troupe.player("b"), name="stage", telemetry=telemetry)
    assert samples(telemetry, "callboard_supervisors_alive") == {(): 1}
    assert samples(telemetry, "callboard_supervisor_children") == {("stage",): 2}
    await troupe.crash("a")
    assert samples(telemetry, "callboard_supervisor_restarts_total")["one_for_one", "stage"] == 1
    assert samples(telemetry, "callboard_actor_restarts_total") == {("Player",): 1}
    troupe.tell("b", "crash")
    await troupe.end()
    assert samples(telemetry, "callboard_supervisor_restart_limit_exceeded_total") == {("stage",): 1}
    assert samples(telemetry, "callboard_supervisor_children") == {("stage",): 0}
    assert samples(telemetry, "callboard_supervisors_alive") == {(): 0}
