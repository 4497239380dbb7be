"""Claims that begin at a mark while what was taken before cannot be vacuumed: they find all, some a bit later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from callboard.actors.jobs.decide import Fail, Succeed
from callboard.actors.jobs.types import ClaimedJob, QueueDemand
from callboard.actors.ports import NoTelemetry
from callboard.actors.settings import Settings
from callboard.persistence import claim_marks as module
from callboard.persistence.claim_marks import DEAD_ENTRIES, WHOLE_INTERVAL_SECONDS, ClaimMarks, Walk
from callboard.persistence.postgres_store import PostgresStore
from tests.contract.support import ERROR, applied, claimed, new_job, outcome, spawned

from .support import Native

NO_ID = UUID(int=0).hex
LAST = UUID(int=7)
DEMANDS = [QueueDemand("a", 10)]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def walk(jobs: int, dead: int, queue: str = "a") -> Walk:
    return Walk(queue, jobs, jobs + dead, "2030-01-01" if jobs else None, LAST if jobs else None, "2029-12-31")


WHOLE = {"turns": '{"-infinity"}', "turn_ids": f"{{{NO_ID}}}", "run_ats": '{"-infinity"}'}


def test_few_dead_entries_make_no_mark(clock: Clock) -> None:
    marks = ClaimMarks(clock)
    marks.learn(DEMANDS, [walk(10, DEAD_ENTRIES)])
    assert marks.begin(DEMANDS) == WHOLE


def test_a_claim_that_got_all_it_wanted_leaves_the_mark_at_its_last_job(clock: Clock) -> None:
    marks = ClaimMarks(clock)
    marks.learn(DEMANDS, [walk(10, 50_000)])
    expected = {"turns": '{"2030-01-01"}', "turn_ids": f"{{{LAST.hex}}}", "run_ats": '{"-infinity"}'}
    assert marks.begin(DEMANDS) == expected


@pytest.mark.parametrize("jobs", [0, 9])
def test_a_claim_that_got_less_leaves_it_a_second_ago(clock: Clock, jobs: int) -> None:
    marks = ClaimMarks(clock)
    marks.learn(DEMANDS, [walk(jobs, 50_000)])
    expected = {"turns": '{"2029-12-31"}', "turn_ids": f"{{{NO_ID}}}", "run_ats": '{"2029-12-31"}'}
    assert marks.begin(DEMANDS) == expected


def test_a_claim_that_took_only_delayed_jobs_moves_no_mark(clock: Clock) -> None:
    marks = ClaimMarks(clock)
    marks.learn(DEMANDS, [Walk("a", 10, 50_000, None, None, "2029-12-31")])
    assert marks.begin(DEMANDS) == WHOLE


@pytest.mark.parametrize(("dead", "seconds"), [(15_000, 0.5), (1_000_000, WHOLE_INTERVAL_SECONDS)])
def test_marks_hold_the_longer_the_more_is_dead_but_never_long(clock: Clock, dead: int, seconds: float) -> None:
    marks = ClaimMarks(clock)
    marks.learn(DEMANDS, [walk(0, dead)])
    clock.now += seconds * 0.99
    assert marks.begin(DEMANDS) != WHOLE
    marks.learn(DEMANDS, [walk(10, 0)])  # from the mark on: says nothing about the whole range, and delays it not
    clock.now += seconds * 0.02
    assert marks.begin(DEMANDS) == WHOLE


def test_each_queue_has_a_mark_of_its_own(clock: Clock) -> None:
    marks = ClaimMarks(clock)
    marks.learn(DEMANDS, [walk(0, 50_000)])
    both = marks.begin([QueueDemand("b", 10), QueueDemand("a", 10)])
    assert both["turns"] == '{"-infinity","2029-12-31"}'


# In the database


class Watched(ClaimMarks):
    """Keeps what it has learnt."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.walks: list[Walk] = []

    def learn(self, demands: Iterable[QueueDemand], walks: Sequence[Walk]) -> None:
        self.walks.extend(walks)
        super().learn(demands, walks)


@pytest.fixture
async def store(database_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresStore]:
    monkeypatch.setattr(module, "DEAD_ENTRIES", 100)
    store = PostgresStore(Settings(database_url=database_url, pg_pool_size=4), NoTelemetry())
    store._marks = Watched(clock)
    await store.open()
    yield store
    await store.close()


def last_walk(store: PostgresStore) -> Walk:
    assert isinstance(store._marks, Watched)
    return store._marks.walks[-1]


@pytest.fixture
async def pinned(database_url: str, store: PostgresStore) -> AsyncIterator[list[ClaimedJob]]:
    """A reader holds the oldest snapshot; 300 old jobs have run since, and claims begin at a mark."""
    async with await psycopg.AsyncConnection.connect(database_url) as reader:
        await reader.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        await reader.execute("SELECT count(*) FROM callboard.jobs")
        await spawned(store, 300, run_at=datetime.now(UTC) - timedelta(hours=1))
        jobs = await claimed(store, 1000)
        await applied(store, *[outcome(job, Succeed("1")) for job in jobs])
        assert len(jobs) == 300
        assert await claimed(store) == []
        assert last_walk(store).entries >= 300
        assert await claimed(store) == []
        yield jobs


async def ids(store: PostgresStore, limit: int = 100) -> list[UUID]:
    return [job.id for job in await claimed(store, limit)]


async def age_turns(other: Native, seconds: int) -> None:
    """As if everything queued had been so long ago."""
    await other.execute("UPDATE callboard.jobs SET turn = turn - %s * interval '1 s' WHERE turn IS NOT NULL", [seconds])


async def test_a_claim_tells_how_many_entries_it_has_met(store: PostgresStore) -> None:
    jobs = await spawned(store, 2_000)  # PostgreSQL reads a smaller table from end to end
    assert len(await claimed(store, 20)) == 20
    first = last_walk(store)
    assert (first.queue, first.jobs, first.entries, first.last_id) == ("default", 20, 20, jobs[19])
    await claimed(store, 20, queue="empty")
    assert last_walk(store)[:3] == ("empty", 0, 0)


@pytest.mark.usefixtures("pinned")
async def test_new_jobs_are_found_at_once_and_what_is_dead_is_not_walked_over(store: PostgresStore) -> None:
    [job_id] = await spawned(store)
    assert await ids(store) == [job_id]
    assert last_walk(store).entries <= 10


@pytest.mark.usefixtures("pinned")
async def test_a_retry_is_found_at_once(store: PostgresStore) -> None:
    [job_id] = await spawned(store, max_attempts=3)
    [job] = await claimed(store)
    await applied(store, outcome(job, Fail(ERROR, 0)))
    assert await ids(store) == [job_id]


@pytest.mark.usefixtures("pinned")
async def test_an_urgent_job_is_found_when_the_pause_is_over(store: PostgresStore, clock: Clock) -> None:
    [urgent] = await spawned(store, priority=-5)
    assert await ids(store) == []
    clock.now += WHOLE_INTERVAL_SECONDS
    assert await ids(store) == [urgent]


async def test_an_urgent_job_is_found_at_once_where_little_is_dead(store: PostgresStore) -> None:
    await spawned(store, 50)
    first = await ids(store, 20)
    [urgent] = await spawned(store, priority=-5)
    assert len(first) == 20
    assert (await ids(store, 1)) == [urgent]


@pytest.mark.usefixtures("pinned")
async def test_what_is_committed_late_is_found_when_the_pause_is_over(
    store: PostgresStore, other: Native, clock: Clock
) -> None:
    late = new_job()
    async with other.transaction():
        await store.spawn([late], actor="client:test", connection=other)
        await age_turns(other, 60)
        assert await ids(store) == []
    assert await ids(store) == []
    clock.now += WHOLE_INTERVAL_SECONDS
    assert await ids(store) == [late.id]


@pytest.mark.usefixtures("pinned")
async def test_what_another_claim_gives_back_is_found_when_the_pause_is_over(
    store: PostgresStore, other: Native, clock: Clock
) -> None:
    """It was locked while a claim went past it, and the mark moved on."""
    first, second, third = await spawned(store, 3)
    async with other.transaction(force_rollback=True):
        await other.execute("SELECT FROM callboard.jobs WHERE id = %s FOR UPDATE", [first])
        assert await ids(store, 1) == [second]
    assert await ids(store) == [third]
    clock.now += WHOLE_INTERVAL_SECONDS
    assert await ids(store) == [first]


@pytest.mark.usefixtures("pinned")
async def test_a_backlog_is_taken_in_order_and_once(store: PostgresStore) -> None:
    jobs = await spawned(store, 1_000)
    found: list[UUID] = []
    for _ in range(10):
        found += await ids(store, 100)
        assert last_walk(store).entries <= 101
    assert found == jobs


@pytest.mark.usefixtures("pinned")
async def test_a_delayed_job_is_found_at_once_when_its_time_has_come(store: PostgresStore, other: Native) -> None:
    [job_id] = await spawned(store, delay_seconds=3600)
    assert await ids(store) == []
    await other.execute("UPDATE callboard.jobs SET run_at = now() WHERE delayed")
    assert await ids(store) == [job_id]
