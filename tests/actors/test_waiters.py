"""Everybody who waits for a job's end hears of it, once."""

import asyncio
from uuid import UUID

import pytest

from callboard.actors.errors import JobNotFound, RuntimeStopped
from callboard.actors.jobs.ended import Ended
from callboard.actors.jobs.state import Status
from callboard.actors.waiters import Waiters
from tests.actors.jobs.builders import JOB_ID, record

OTHER_ID = UUID(int=1)


def ended(job_id: UUID = JOB_ID) -> Ended:
    return Ended(job_id, "kind", Status.COMPLETED, "1", "succeeded", None)


async def waiting(waiters: Waiters, *job_ids: UUID) -> list["asyncio.Task[Ended]"]:
    """Start waits and return once they wait."""
    tasks = [asyncio.create_task(waiters.wait(job_id)) for job_id in job_ids]
    await asyncio.sleep(0)
    return tasks


async def test_everybody_who_waits_for_the_job_hears_and_nobody_else() -> None:
    waiters = Waiters()
    first, second, other = await waiting(waiters, JOB_ID, JOB_ID, OTHER_ID)
    assert sorted(waiters.job_ids()) == sorted([JOB_ID, OTHER_ID])
    waiters.ended(ended())
    assert await first == await second == ended()
    assert waiters.job_ids() == [OTHER_ID]
    assert not other.done()
    waiters.ended(ended(OTHER_ID))
    assert await other == ended(OTHER_ID)
    assert len(waiters) == 0


async def test_an_end_that_nobody_waits_for_is_nothing() -> None:
    waiters = Waiters()
    waiters.ended(ended())
    assert len(waiters) == 0


async def test_who_gives_up_leaves_the_others_and_no_trace() -> None:
    waiters = Waiters()
    first, second = await waiting(waiters, JOB_ID, JOB_ID)
    first.cancel()
    await asyncio.wait([first])
    assert len(waiters) == 1
    waiters.ended(ended())
    assert await second == ended()
    third, *_ = await waiting(waiters, JOB_ID)
    third.cancel()
    await asyncio.wait([third])
    assert len(waiters) == 0


async def test_who_is_cancelled_while_the_answer_comes_does_no_harm() -> None:
    waiters = Waiters()
    first, second = await waiting(waiters, JOB_ID, JOB_ID)
    first.cancel()
    waiters.ended(ended())
    assert await second == ended()
    await asyncio.wait([first])
    assert first.cancelled()


async def test_a_look_up_tells_of_ended_and_missing_jobs_and_leaves_the_rest() -> None:
    waiters = Waiters()
    missing_id = UUID(int=2)
    done, running, missing = await waiting(waiters, JOB_ID, OTHER_ID, missing_id)
    records = [record(result="1", stop_reason="succeeded"), record(OTHER_ID, Status.RUNNING)]
    waiters.looked_up([JOB_ID, OTHER_ID, missing_id], records)
    assert (await done).result == "1"
    with pytest.raises(JobNotFound, match=str(missing_id)):
        await missing
    assert not running.done()
    assert waiters.job_ids() == [OTHER_ID]
    waiters.ended(ended(OTHER_ID))
    await running


async def test_a_runtime_that_stops_leaves_nobody_waiting() -> None:
    waiters = Waiters()
    tasks = await waiting(waiters, JOB_ID, JOB_ID, OTHER_ID)
    waiters.fail(RuntimeStopped("stopped"))
    for task in tasks:
        with pytest.raises(RuntimeStopped):
            await task
    assert len(waiters) == 0
