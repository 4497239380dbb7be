"""First processes that prepare themselves at the same time; real ones."""

import asyncio
import signal
from pathlib import Path

from callboard.supervision.processes.preparation import prepare_all
from callboard.supervision.processes.process_actor import ProcessActor

from .stage import PATIENCE_SECONDS, WORKS, Stage, process_of, until


def slow_places(stage: Stage, folder: Path, count: int = 3) -> None:
    """Have places whose processes are prepared once a file with their number exists."""
    for number in range(1, count + 1):
        place = stage.place(WORKS)
        place._program.preparation = (("wait_file", str(folder / str(number))),)


async def test_they_prepare_themselves_at_once_and_start_in_order(stage: Stage, tmp_path: Path) -> None:
    slow_places(stage, tmp_path)
    preparing = asyncio.ensure_future(prepare_all(stage.places, at_a_time=3))
    await until(lambda: all(place.processes for place in stage.places))
    processes = [process_of(place) for place in stage.places]
    starting = asyncio.ensure_future(stage.supervise())
    for number in (3, 2):
        (tmp_path / str(number)).touch()
        await until(lambda number=number: processes[number - 1].prepared.done())
    assert not any(process.assigned for process in processes[1:])  # the first one comes first
    (tmp_path / "1").touch()
    await starting
    await preparing
    assert [process_of(place) for place in stage.places] == processes
    assert all(process.ready.done() for process in processes)
    assert [place._program.launched for place in stage.places] == [1, 1, 1]


async def test_only_so_many_at_a_time(stage: Stage, tmp_path: Path) -> None:
    slow_places(stage, tmp_path)
    preparing = asyncio.ensure_future(prepare_all(stage.places, at_a_time=2))
    await until(lambda: stage.places[1].processes)
    assert not stage.places[2].processes
    (tmp_path / "2").touch()
    await until(lambda: stage.places[2].processes)
    assert not preparing.done()
    for number in (1, 3):
        (tmp_path / str(number)).touch()
    await asyncio.wait_for(preparing, PATIENCE_SECONDS)


async def test_one_that_fails_ahead_is_a_failed_start_of_its_actor(stage: Stage) -> None:
    place = stage.place(WORKS)
    place._program.preparation = (("fail", "cannot import app"), ("exit", 78))
    await asyncio.wait_for(prepare_all(stage.places, at_a_time=1), PATIENCE_SECONDS)
    await until(lambda: not place.processes)
    await stage.supervise()
    await stage.end()
    assert "ended with exit code 78 before it was ready: cannot import app" in str(place.failure)
    assert (place._program.launched, place._program.assigned) == (1, 0)
    assert place.processes == ()


async def test_an_actor_that_was_quicker_needs_none_ahead(stage: Stage) -> None:
    place = stage.place(WORKS)
    await stage.supervise()
    await prepare_all(stage.places, at_a_time=1)
    assert place._program.launched == 1


async def test_one_that_is_to_end_starts_none(stage: Stage) -> None:
    place = stage.place(WORKS)
    place.begin_end()
    await prepare_all(stage.places, at_a_time=1)
    assert place._program.launched == 0


async def test_a_killed_actor_takes_along_what_was_prepared_ahead(stage: Stage, tmp_path: Path) -> None:
    slow_places(stage, tmp_path, count=1)
    (place,) = stage.places
    preparing = asyncio.ensure_future(prepare_all(stage.places, at_a_time=1))
    process = await until(lambda: place.processes and place.processes[0])
    ref = stage.system.spawn(ProcessActor, place)
    await until(lambda: process.assigned)
    ref.kill()
    assert await asyncio.wait_for(process.exited, PATIENCE_SECONDS) == -signal.SIGKILL
    await preparing
