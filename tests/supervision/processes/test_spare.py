"""The spare process; real processes, real signals."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from callboard.supervision.processes.linked_process import Launch
from callboard.supervision.processes.process_actor import Recycle
from callboard.supervision.processes.spare import Spare

from .stage import PATIENCE_SECONDS, WORKS, Stage, process_limits, process_of, replacement, until


async def prepared(spare: Spare, *, but: int = 0) -> Any:
    """Return the spare process once it is prepared; another one than that with this process id."""
    return await until(
        lambda: (
            spare.process is not None
            and spare.process.pid != but
            and spare.process.prepared.done()
            and not spare.process.exited.done()
            and spare.process
        )
    )


async def test_a_place_whose_process_dies_takes_the_spare_and_another_one_follows(stage: Stage) -> None:
    spare = stage.keep_spare()
    place, sibling = stage.place(WORKS), stage.place(WORKS)
    await stage.supervise(intensity=2, period_seconds=3600)
    waiting, old, kept = await prepared(spare), process_of(place), process_of(sibling)
    assert not waiting.assigned
    await until(lambda: stage.tally.memory_bytes.get("spare"))
    os.kill(old.pid, signal.SIGKILL)
    assert await replacement(place, old.pid) is waiting
    next_one = await prepared(spare, but=waiting.pid)
    assert process_of(place) is waiting
    assert process_of(sibling) is kept
    assert place._program.launched == 1
    assert stage.tally.started == ["1", "2", "spare", "1", "spare"]
    assert stage.tally.causes == ["signal"]
    os.kill(waiting.pid, signal.SIGTERM)  # it is a process of that place like any other
    assert await replacement(place, waiting.pid) is next_one
    assert place._program.reaped_count == 2


async def test_one_that_still_prepares_itself_is_taken(stage: Stage, tmp_path: Path) -> None:
    spare = stage.keep_spare((("wait_file", str(tmp_path / "go")),))
    place = stage.place(WORKS)
    await stage.supervise()
    preparing, old = await until(lambda: spare.process), process_of(place)
    os.kill(old.pid, signal.SIGKILL)
    await until(lambda: process_of(place) is preparing if place.processes else False)
    assert not preparing.prepared.done()
    (tmp_path / "go").touch()
    assert await replacement(place, old.pid) is preparing


async def test_while_a_place_starts_there_is_no_new_spare(stage: Stage, tmp_path: Path) -> None:
    spare = stage.keep_spare()
    stage.place((("wait_file", str(tmp_path / "go")), *WORKS))
    starting = asyncio.ensure_future(stage.supervise())
    (place,) = stage.places
    await until(lambda: place.processes and place.processes[0].prepared.done())
    assert place.starts
    assert not place.works
    assert "spare" not in stage.tally.started
    (tmp_path / "go").touch()
    await starting
    await prepared(spare)
    assert stage.tally.started == ["1", "spare"]


async def test_one_that_dies_is_replaced_and_harms_nobody(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    spare = stage.keep_spare()
    place = stage.place(WORKS)
    await stage.supervise(intensity=0)  # so a restart would be the end of the supervisor
    first, works = await prepared(spare), process_of(place)
    os.kill(first.pid, signal.SIGKILL)
    await prepared(spare, but=first.pid)
    assert process_of(place) is works
    assert stage.tally.causes == ["signal"]
    assert f"the spare process (pid {first.pid}) was killed by SIGKILL" in caplog.text
    assert "the worker goes on, without a spare for now" in caplog.text


async def test_one_that_cannot_prepare_itself_is_tried_again(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    broken = (("fail", "cannot import app"), ("exit", 78))
    spare = stage.keep_spare(broken, broken, ())
    place = stage.place(WORKS)
    await stage.supervise(intensity=0)
    works = process_of(place)
    await prepared(spare)
    assert process_of(place) is works
    assert stage.tally.causes == ["error", "error"]
    assert "ended with exit code 78 before it was prepared: cannot import app; the worker goes on" in caplog.text


async def test_a_program_that_cannot_be_started_is_tried_again(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare = stage.keep_spare()
    launch = spare._launch
    launches = [lambda: Launch(("/nowhere/at/all",)), launch]
    monkeypatch.setattr(spare, "_launch", lambda: launches.pop(0)())
    stage.place(WORKS)
    await stage.supervise(intensity=0)
    await prepared(spare)
    assert "a spare process cannot be started: [Errno 2] No such file or directory" in caplog.text


async def test_a_silent_one_is_killed_and_replaced(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    spare = stage.keep_spare((("beat",),), silence_limit_seconds=0.5)
    stage.place(WORKS)
    await stage.supervise(intensity=0)
    first = await prepared(spare)
    os.kill(first.pid, signal.SIGSTOP)
    await prepared(spare, but=first.pid)
    assert first.exited.result() == -signal.SIGKILL
    assert stage.tally.causes[0] == "killed"
    assert "killed: it has been silent for" in caplog.text


async def test_one_that_has_given_no_sign_of_late_is_not_taken() -> None:
    spare = Spare(lambda: Launch(("sleep", "600")), process_limits())
    assert spare.take() is None
    process = spare.start()
    process.prepared.set_result(None)
    process.silent_seconds = 0.07  # of looks of 0.02 s each
    assert spare.take() is None
    process.silent_seconds = 0.05
    assert spare.take() is process
    assert spare.take() is None
    process.kill("the test is over")
    await asyncio.wait_for(process.exited, PATIENCE_SECONDS)


async def test_one_that_was_killed_or_asked_to_end_is_not_taken() -> None:
    spare = Spare(lambda: Launch(("sleep", "600")), process_limits())
    process = spare.start()
    spare.begin_end()
    assert spare.take() is None
    process.kill("the test is over")
    assert spare.take() is None
    await spare.end_in_order()
    assert spare.process is None


async def test_one_that_does_not_get_prepared_is_killed(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    spare = stage.keep_spare((("sleep",),), (), start_timeout_seconds=0.5)
    stage.place(WORKS)
    await stage.supervise(intensity=0)
    await prepared(spare)
    assert "was killed: it was not prepared within 0.5 s; the worker goes on" in caplog.text
    assert stage.tally.causes[0] == "killed"


async def test_a_stop_ends_it_too(stage: Stage) -> None:
    spare = stage.keep_spare()
    stage.place(WORKS)
    await stage.supervise()
    process = await prepared(spare)
    stage.supervisor.shutdown()
    await stage.end()
    assert process.exited.result() == 0
    assert spare.process is None
    assert stage.tally.causes == ["asked", "asked"]


async def test_a_killed_actor_takes_it_along_and_the_next_one_starts_another(stage: Stage) -> None:
    spare = stage.keep_spare()
    stage.place(WORKS)
    await stage.supervise(intensity=1, period_seconds=3600)
    first = await prepared(spare)
    stage.system.registry.get("spare").kill()
    await prepared(spare, but=first.pid)
    assert first.exited.result() == -signal.SIGKILL


async def test_a_replacement_is_the_spare(stage: Stage) -> None:
    spare = stage.keep_spare()
    place = stage.place((("ready",), ("wait_retire",), ("exit", 0)), WORKS)
    await stage.supervise(intensity=0)
    waiting, old = await prepared(spare), process_of(place)
    stage.actor(place).tell(Recycle("the test wants it"))
    assert await replacement(place, old.pid) is waiting
    assert await asyncio.wait_for(old.exited, PATIENCE_SECONDS) == 0
    assert place.processes == (waiting,)
    assert place._program.launched == 1


async def test_one_that_fails_once_it_has_its_part_counts_as_any_failed_start(stage: Stage) -> None:
    spare = stage.keep_spare()
    place = stage.place(WORKS, (("fail", "no database"), ("exit", 69)))
    await stage.supervise(intensity=1, period_seconds=3600)
    await prepared(spare)
    os.kill(process_of(place).pid, signal.SIGKILL)
    await stage.end()
    assert place.failure is not None
    assert "ended with exit code 69 before it was ready: no database" in str(place.failure)
    assert spare.process is None
