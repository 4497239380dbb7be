"""Actors that are processes, under a supervisor; real processes, real signals."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from callboard.actors.errors import ConfigurationError, ProcessExited
from callboard.supervision.processes.linked_process import Launch
from callboard.supervision.processes.process_actor import ProcessActor, Recycle
from callboard.supervision.processes.process_limits import ProcessLimits
from tests.support.waiting import settle

from .stage import PATIENCE_SECONDS, WORKS, Stage, Steps, is_running, process_of, replacement, until


async def test_the_start_returns_when_the_process_is_ready(stage: Stage, tmp_path: Path) -> None:
    place = stage.place((("wait_file", str(tmp_path / "go")), *WORKS))
    starting = asyncio.ensure_future(stage.supervise())
    process = await until(lambda: place.processes and place.processes[0])
    assert not starting.done()
    (tmp_path / "go").touch()
    await starting
    assert process.ready.done()
    assert os.getpgid(process.pid) == process.pid  # Ctrl-C in a terminal does not reach it


async def test_a_stop_ends_all_of_them_in_order(stage: Stage) -> None:
    first, second = stage.place(WORKS), stage.place(WORKS)
    await stage.supervise()
    processes = [process_of(first), process_of(second)]
    stage.supervisor.shutdown()
    assert (await stage.end()).reason == "shutdown"
    assert [process.exited.result() for process in processes] == [0, 0]
    assert stage.tally.causes == ["asked", "asked"]
    with pytest.raises(ProcessLookupError):
        os.kill(processes[0].pid, 0)  # reaped: no zombie is left


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
async def test_one_that_is_killed_is_back(stage: Stage, number: signal.Signals) -> None:
    place, sibling = stage.place(WORKS), stage.place(WORKS)
    await stage.supervise()
    old, kept = process_of(place), process_of(sibling)
    os.kill(old.pid, number)
    new = await replacement(place, old.pid)
    assert place.processes == (new,)
    assert process_of(sibling) is kept
    assert stage.tally.causes == ["normal" if number == signal.SIGTERM else "signal"]
    assert place._program.reaped_count == 1


@pytest.mark.parametrize(
    ("steps", "reason", "exit_code", "signal_number"),
    [
        ((("ready",), ("exit", 0)), "normal", None, None),
        ((("ready",), ("fail", "no disk"), ("exit", 3)), "error", 3, None),
        ((("ready",), ("kill",)), "error", None, signal.SIGKILL),
    ],
)
async def test_how_the_process_ends_is_how_its_actor_ends(
    stage: Stage, steps: Steps, reason: str, exit_code: int | None, signal_number: int | None
) -> None:
    place = stage.place(steps)
    end = await asyncio.wait_for(stage.system.spawn(ProcessActor, place).termination(), PATIENCE_SECONDS)
    assert end.reason == reason
    assert place.failure is not None
    if reason == "normal":
        assert str(place.failure).endswith("ended with exit code 0 and nobody had asked it to")
    else:
        assert isinstance(end.exception, ProcessExited)
        assert (end.exception.exit_code, end.exception.signal_number) == (exit_code, signal_number)
        assert place.failure is end.exception


async def test_one_that_exits_before_it_is_ready_has_not_started(stage: Stage) -> None:
    stage.place(WORKS)
    place = stage.place((("fail", "cannot import app: no such module"), ("exit", 78)))
    await stage.supervise()
    end = await stage.end()
    assert end.reason != "normal"
    assert place.failure is not None
    assert (place.failure.exit_code, place.failure.last_message) == (78, "cannot import app: no such module")
    assert "ended with exit code 78 before it was ready: cannot import app" in str(place.failure)
    assert stage.tally.causes == ["error", "asked"]  # the first one has been ended, in order


async def test_one_that_does_not_get_ready_is_killed(stage: Stage) -> None:
    place = stage.place((("sleep",),), start_timeout_seconds=0.1)
    await stage.supervise()
    await stage.end()
    assert "killed: it was not ready within 0.1 s" in str(place.failure)
    assert stage.tally.causes == ["killed"]


async def test_one_that_does_not_end_is_killed(stage: Stage) -> None:
    place = stage.place((("ignore_term",), *WORKS), stop_timeout_seconds=0.1)
    await stage.supervise()
    process = process_of(place)
    stage.supervisor.shutdown()
    await stage.end()
    assert process.exited.result() == -signal.SIGKILL
    assert stage.tally.causes == ["killed"]


async def test_a_killed_actor_takes_its_process_along(stage: Stage) -> None:
    place = stage.place(WORKS)
    await stage.supervise()
    old = process_of(place)
    stage.actor(place).kill()
    new = await replacement(place, old.pid)
    assert old.exited.result() == -signal.SIGKILL  # and it was reaped before the new one started
    assert new.pid != old.pid


async def test_a_killed_start_leaves_nothing(stage: Stage) -> None:
    place = stage.place((("sleep",),))
    ref = stage.system.spawn(ProcessActor, place)
    process = await until(lambda: place.processes and place.processes[0])
    ref.kill()
    assert await asyncio.wait_for(process.exited, PATIENCE_SECONDS) == -signal.SIGKILL


async def test_what_the_process_has_started_ends_with_it(stage: Stage, tmp_path: Path) -> None:
    report = tmp_path / "pid"
    place = stage.place((("leave_child", str(report)), *WORKS), WORKS)
    await stage.supervise()
    grandchild = int(report.read_text())
    os.kill(process_of(place).pid, signal.SIGKILL)
    await until(lambda: not is_running(grandchild))


async def test_a_crash_loop_ends_the_supervisor_and_the_others(stage: Stage) -> None:
    sibling, place = stage.place(WORKS), stage.place((("ready",), ("fail", "again"), ("exit", 9)))
    await stage.supervise(intensity=2, period_seconds=3600)
    await stage.end()
    assert place._program.launched == 3
    assert place.failure is not None
    assert place.failure.exit_code == 9
    assert sibling.processes == ()
    assert stage.tally.causes[-1] == "asked"


async def test_a_silent_one_is_killed_and_replaced(stage: Stage) -> None:
    place = stage.place((("ready",), ("beat",), ("sleep",)), silence_limit_seconds=0.5)
    await stage.supervise()
    old = process_of(place)
    os.kill(old.pid, signal.SIGSTOP)
    new = await replacement(place, old.pid)
    assert "its event loop has been silent for" in old.killed_for
    assert place.processes == (new,)
    assert stage.tally.causes == ["killed"]


async def test_a_parent_that_was_stopped_itself_does_not_blame_its_processes(stage: Stage) -> None:
    place = stage.place(WORKS, silence_limit_seconds=0.05, look_interval_seconds=0.04)
    await stage.supervise()
    process = process_of(place)
    process.silent_seconds = 0.0
    place.look()  # however much time has passed since the last look
    assert process.killed_for == ""


async def test_one_that_grows_too_large_is_replaced_first_and_ends_then(stage: Stage) -> None:
    large = (("ready",), ("grow", 80 * 2**20), ("wait_retire",), ("exit", 0))
    place = stage.place(large, WORKS, memory_limit_bytes=60 * 2**20)
    await stage.supervise(intensity=0)  # so a restart would be the end of the supervisor
    old = process_of(place)
    new = await replacement(place, old.pid)
    assert await asyncio.wait_for(old.exited, PATIENCE_SECONDS) == 0
    assert place.processes == (new,)
    assert (stage.tally.causes, stage.tally.recycled) == (["asked"], [True])
    assert stage.tally.memory_bytes["1"] > 0


async def test_a_replacement_that_does_not_start_leaves_the_old_one_at_work(stage: Stage) -> None:
    place = stage.place(WORKS, (("exit", 78),))
    await stage.supervise(intensity=0)
    old = process_of(place)
    stage.actor(place).tell(Recycle("the test wants it"))
    await until(lambda: stage.tally.recycled)
    assert stage.tally.recycled == [False]
    assert process_of(place) is old
    stage.actor(place).tell(Recycle("again, too early"))
    await settle()
    assert place._program.launched == 2


async def test_a_crash_does_not_disturb_the_replaced_one_that_still_ends(stage: Stage, tmp_path: Path) -> None:
    place = stage.place((("ready",), ("wait_retire",), ("wait_file", str(tmp_path / "go")), ("exit", 0)), WORKS)
    await stage.supervise()
    old = process_of(place)
    stage.actor(place).tell(Recycle("the test wants it"))
    await until(lambda: old.retired)
    (crashed,) = [process for process in place.processes if process is not old]
    os.kill(crashed.pid, signal.SIGKILL)
    await until(lambda: len(place.processes) == 2 and crashed not in place.processes)
    assert not old.exited.done()
    (tmp_path / "go").touch()
    assert await asyncio.wait_for(old.exited, PATIENCE_SECONDS) == 0


async def test_all_are_asked_at_once_and_told_to_hurry(stage: Stage) -> None:
    places = [stage.place((("ignore_term",), ("ready",), ("wait_hurry",), ("exit", 0))) for _ in range(3)]
    await stage.supervise()
    processes = [process_of(place) for place in places]
    stage.supervisor.shutdown()
    for place in places:
        place.begin_end()
    assert all(process.asked_to_end for process in processes)
    for place in places:
        place.hurry()
    await stage.end()
    assert [process.exited.result() for process in processes] == [0, 0, 0]


async def test_one_that_ends_while_its_siblings_are_asked_to_is_not_started_again(stage: Stage) -> None:
    first, second = stage.place(WORKS), stage.place(WORKS)
    await stage.supervise()
    second.begin_end()
    first.begin_end()
    await until(lambda: not (first.processes or second.processes))
    stage.supervisor.shutdown()
    await stage.end()
    assert (first._program.launched, second._program.launched) == (1, 1)


async def test_garbage_on_the_pipe_ends_the_process(stage: Stage) -> None:
    place = stage.place((("garbage",), ("sleep",)))
    await stage.supervise()
    await stage.end()
    assert "got b'garbage' over the control pipe" in str(place.failure)


async def test_a_program_that_cannot_be_started(stage: Stage) -> None:
    place = stage.place(WORKS)
    place._program.launch = lambda: Launch(("/nowhere/at/all",))
    await stage.supervise()
    await stage.end()
    assert str(place.failure) == "process 1 cannot be started: [Errno 2] No such file or directory: '/nowhere/at/all'"


@pytest.mark.parametrize("name", ["start_timeout_seconds", "memory_limit_bytes", "look_interval_seconds"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"process limit {name} 0: expected a number of more than 0"):
        ProcessLimits(**{name: 0})
