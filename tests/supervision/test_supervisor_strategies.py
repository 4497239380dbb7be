"""Rules C4, D2 to D4, E4, F3, F4 and F7: restarts of groups. Rules I: significant children."""

import pytest

from callboard.actors.control import Ignore
from callboard.supervision.child_spec import ChildSpec
from callboard.supervision.dynamic_supervisor import DynamicSupervisor
from callboard.supervision.supervisor import Supervisor
from callboard.supervision.supervisor_messages import Done, RestartChild, TerminateChild


def outcomes(*fails):
    """Return the options of a child of whose starts these fail, or raise, or (once they are over) succeed."""
    left = iter(fails)

    def fails_to_start():
        fails = next(left, False)
        if isinstance(fails, Exception):
            raise fails
        return fails

    return {"fails_to_start": fails_to_start}


async def test_D2_one_for_all_ends_all_in_reverse_and_starts_all_in_order(troupe):
    await troupe.supervise(*(troupe.player(part) for part in "abcd"), strategy="one_for_all")
    before = await troupe.refs()
    await troupe.crash("b")
    assert troupe.journal.entries[4:] == [
        *["crash b", "stop d", "stop c", "stop a"],
        *["start a", "start b", "start c", "start d"],
    ]
    after = await troupe.refs()
    assert all(after[part] is not before[part] for part in "abcd")


async def test_D3_rest_for_one_leaves_those_before_alone(troupe):
    await troupe.supervise(*(troupe.player(part) for part in "abcde"), strategy="rest_for_one")
    before = await troupe.refs()
    await troupe.crash("c")
    assert troupe.journal.entries[5:] == ["crash c", "stop e", "stop d", "start c", "start d", "start e"]
    after = await troupe.refs()
    assert [after[part] is before[part] for part in "abcde"] == [True, True, False, False, False]


@pytest.mark.parametrize(("strategy", "states"), [("one_for_all", "running"), ("rest_for_one", "stopped")])
async def test_D4_a_group_restart_starts_those_who_were_down(troupe, strategy, states):
    await troupe.supervise(
        troupe.player("a", restart="transient"),
        troupe.player("b"),
        troupe.player("c", restart="transient"),
        troupe.player("d"),
        strategy=strategy,
    )
    await troupe.ended((await troupe.refs())["a"], "stop")
    await troupe.ended((await troupe.refs())["c"], "stop")
    await troupe.ask(TerminateChild("d"))
    await troupe.crash("b")
    assert await troupe.states() == {"a": states, "b": "running", "c": "running", "d": "running"}


@pytest.mark.parametrize(("strategy", "left"), [("one_for_all", ["b"]), ("rest_for_one", ["a", "b"])])
async def test_C4_temporary_bystanders_are_forgotten(troupe, strategy, left):
    await troupe.supervise(
        troupe.player("a", restart="temporary"),
        troupe.player("b"),
        troupe.player("c", restart="temporary"),
        strategy=strategy,
    )
    await troupe.crash("b")
    assert list(await troupe.states()) == left
    assert troupe.journal.entries.count("start c") == 1


async def test_E4_a_group_restart_counts_once(troupe):
    await troupe.supervise(*(troupe.player(part) for part in "abcd"), strategy="one_for_all", intensity=2)
    await troupe.crash("a")
    await troupe.crash("d")
    troupe.tell("b", "crash")
    assert (await troupe.end()).reason == "shutdown"
    assert troupe.journal.entries.count("start a") == 3


async def test_E4_the_ends_of_others_who_died_with_the_first_are_swallowed(troupe):
    await troupe.supervise(*(troupe.player(part) for part in "abc"), strategy="one_for_all", intensity=1)
    troupe.supervisor.suspend()
    for part in "bac":
        end = troupe.system.registry.get(part).termination()
        troupe.tell(part, "crash")
        await end
    troupe.supervisor.resume()
    assert await troupe.states() == dict.fromkeys("abc", "running")
    assert troupe.journal.entries.count("start b") == 2


async def test_E5_F2_each_failed_try_of_a_group_counts(troupe):
    always = outcomes(False, *[True] * 9)
    await troupe.supervise(
        troupe.player("a"), troupe.player("b", options=always), strategy="one_for_all", intensity=3, period_seconds=60
    )
    troupe.tell("a", "crash")
    assert (await troupe.end()).reason == "shutdown"
    assert troupe.journal.entries.count("fail b") == 3


async def test_F3_one_for_all_ends_those_again_who_had_started(troupe):
    await troupe.supervise(
        troupe.player("a"),
        troupe.player("b", options=outcomes(False, True)),
        troupe.player("c"),
        strategy="one_for_all",
        intensity=5,
    )
    await troupe.crash("c")
    assert troupe.journal.entries[3:] == [
        *["crash c", "stop b", "stop a", "start a", "fail b"],
        *["stop a", "start a", "start b", "start c"],
    ]


async def test_F4_rest_for_one_goes_on_from_the_child_that_failed(troupe):
    await troupe.supervise(
        troupe.player("a"),
        troupe.player("b"),
        troupe.player("c", options=outcomes(False, True)),
        troupe.player("d"),
        strategy="rest_for_one",
        intensity=5,
    )
    troupe.tell("b", "crash")
    await troupe.journal.until("start d", 2)
    assert troupe.journal.entries[4:] == [
        *["crash b", "stop d", "stop c", "start b", "fail c"],
        *["start c", "start d"],
    ]


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_F6_terminating_who_is_restarting_leaves_those_behind_down(troupe, strategy):
    await troupe.supervise(
        troupe.player("a"),
        troupe.player("b", options=outcomes(False, *[True] * 999)),
        troupe.player("c"),
        strategy=strategy,
        intensity=1000,
    )
    troupe.tell("a", "crash")
    await troupe.journal.until("fail b")
    assert await troupe.ask(TerminateChild("b")) == Done()
    assert await troupe.states() == {"a": "running", "b": "stopped", "c": "stopped"}


async def test_F7_ignored_at_its_restart_a_child_stays_down(troupe):
    await troupe.supervise(troupe.player("a", options=outcomes(False, Ignore())), troupe.player("b"), intensity=1)
    await troupe.ended((await troupe.refs())["a"], "crash")
    assert await troupe.states() == {"a": "stopped", "b": "running"}
    assert (await troupe.ask(RestartChild("a"))).ref is not None


async def test_F7_ignored_at_its_restart_a_dynamic_child_is_forgotten(troupe):
    await troupe.improvise(troupe.player("a"), intensity=1)
    ref = await troupe.enter(**outcomes(False, Ignore()))
    await troupe.ended(ref, "crash")
    assert (await troupe.count()).workers == 0


# Significant children


def significant(troupe, part, restart="transient"):
    return troupe.player(part, restart=restart, significant=True)


@pytest.mark.parametrize(("restart", "message"), [("transient", "stop"), ("temporary", "stop"), ("temporary", "crash")])
async def test_I1_any_significant_the_first_end_for_good_ends_the_supervisor(troupe, restart, message):
    await troupe.supervise(
        troupe.player("x"), significant(troupe, "a", restart), significant(troupe, "b"), auto_shutdown="any_significant"
    )
    troupe.tell("a", message)
    end = await troupe.end()
    assert (end.reason, end.exception) == ("shutdown", None)
    assert troupe.journal.entries[-2:] == ["stop b", "stop x"], "I5: the rest ends in reverse order"


async def test_I1_others_are_not_significant(troupe):
    await troupe.supervise(troupe.player("a", restart="temporary"), auto_shutdown="any_significant")
    await troupe.ended((await troupe.refs())["a"], "stop")
    assert await troupe.states() == {}


async def test_I2_all_significant_the_last_one_does(troupe):
    await troupe.supervise(
        troupe.player("x"), significant(troupe, "a"), significant(troupe, "b"), auto_shutdown="all_significant"
    )
    await troupe.ended((await troupe.refs())["a"], "stop")
    assert (await troupe.states())["a"] == "stopped"
    troupe.tell("b", "stop")
    assert (await troupe.end()).reason == "shutdown"


async def test_I2_one_that_is_being_restarted_counts_as_running(troupe):
    ill = []
    a = troupe.player("a", restart="transient", significant=True, options={"fails_to_start": lambda: bool(ill)})
    await troupe.supervise(a, significant(troupe, "b"), auto_shutdown="all_significant", intensity=1000)
    ill.append(True)
    troupe.tell("a", "crash")
    await troupe.journal.until("fail a")
    await troupe.ended(troupe.system.registry.get("b"), "stop")
    assert await troupe.states() == {"a": "restarting", "b": "stopped"}
    ill.clear()
    await troupe.journal.until("start a", 2)
    troupe.tell("a", "stop")
    assert (await troupe.end()).reason == "shutdown"


async def test_I3_a_crash_of_a_transient_significant_child_is_a_restart(troupe):
    await troupe.supervise(significant(troupe, "a"), auto_shutdown="any_significant")
    await troupe.crash("a")
    assert await troupe.states() == {"a": "running"}


@pytest.mark.parametrize("auto_shutdown", ["any_significant", "all_significant"])
async def test_I4_ends_by_the_supervisor_trigger_nothing(troupe, auto_shutdown):
    await troupe.supervise(
        significant(troupe, "a", "temporary"),
        significant(troupe, "b"),
        troupe.player("c"),
        strategy="one_for_all",
        auto_shutdown=auto_shutdown,
    )
    await troupe.crash("c")
    assert await troupe.states() == {"b": "running", "c": "running"}
    await troupe.ask(TerminateChild("b"))
    assert await troupe.states() == {"b": "stopped", "c": "running"}


async def test_I5_a_significant_supervisor_ends_the_one_above(troupe):
    inner = ChildSpec(
        "inner",
        Supervisor,
        ([significant(troupe, "a")],),
        {"auto_shutdown": "any_significant"},
        child_type="supervisor",
        restart="transient",
        significant=True,
    )
    await troupe.supervise(troupe.player("x"), inner, auto_shutdown="all_significant")
    troupe.tell("a", "stop")
    assert (await troupe.end()).reason == "shutdown"
    assert troupe.journal.entries[-1] == "stop x"


@pytest.mark.parametrize(("auto_shutdown", "ends"), [("any_significant", 1), ("all_significant", 2)])
async def test_I6_dynamic_supervisors_end_so_as_in_otp(troupe, auto_shutdown, ends):
    await troupe.improvise(significant(troupe, "a"), auto_shutdown=auto_shutdown)
    assert troupe.supervisor.actor_class is DynamicSupervisor
    refs = [await troupe.enter() for _ in range(2)]
    for ref in refs[: ends - 1]:
        await troupe.ended(ref, "stop")
        assert troupe.supervisor.is_alive()
    refs[ends - 1].tell("stop")
    assert (await troupe.end()).reason == "shutdown"
