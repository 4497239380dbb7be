"""Parts that crash, a database that goes away, a stop in the middle: nothing is lost."""

import asyncio
import threading

import psycopg
import pytest

from callboard import JobContext, JobRegistry, Reason, Runtime, RuntimeStopped, Settings, Status, job
from callboard.actors.jobs.actor import JobActor
from callboard.actors.jobs.types import JobFilter
from callboard.actors.system import ActorSystem
from callboard.persistence.embedded import EmbeddedServer
from callboard.persistence.migrate import migrate
from callboard.supervision.health import liveness
from callboard.supervision.supervisor_messages import WhichChildren

WAIT_SECONDS = 30


async def test_every_part_that_crashes_is_restarted_and_no_job_is_lost(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry, max_attempts=1)
    async def tick(number: int) -> int:
        await asyncio.sleep(0)
        return number

    refs = await runtime.spawn_many(tick, [(number,) for number in range(300)])
    killed = ("claimer", "writer", "listener", "result_watcher", "rescuer")
    for part in killed:
        runtime._system.registry.get(part).kill()
        await asyncio.sleep(0)
    results = [await ref.result(WAIT_SECONDS) for ref in refs]

    assert results == list(range(300))
    assert {record.attempt for record in await runtime.jobs(limit=1000)} == {1}
    below_root, below_work = [
        {child.id: child for child in await runtime._system.registry.get(name).ask(WhichChildren(), block=False)}
        for name in ("root", "work")
    ]
    children = below_root | below_work
    assert {child.state for child in children.values()} == {"running"}
    assert {name: child.restarts for name, child in children.items()} == dict.fromkeys(children, 0) | dict.fromkeys(
        killed, 1
    )


@pytest.mark.parametrize("victim", ["job actor", "supervisor of jobs"])
@pytest.mark.parametrize("executor", ["async", "thread"])
async def test_a_job_actor_that_is_killed_costs_one_attempt(
    runtime: Runtime, registry: JobRegistry, victim: str, executor
) -> None:
    go_on = threading.Event()
    attempts: list[JobContext] = []

    async def run(ctx: JobContext) -> str:
        attempts.append(ctx)
        while not go_on.is_set() and len(attempts) < 2:
            await asyncio.sleep(0.01)
        return "done"

    ref = await runtime.spawn(job(registry=registry, executor=executor, max_attempts=2)(run))
    async with asyncio.timeout(WAIT_SECONDS):
        while not attempts:
            await asyncio.sleep(0.01)
        system = runtime._system
        jobs = system.registry.get("jobs")
        (system.registry.get_by_class(JobActor)[0] if victim == "job actor" else jobs).kill()
        while runtime._worker.running.slots.used["default"]:
            await asyncio.sleep(0)
        with psycopg.connect(runtime.settings.database_url.get_secret_value(), autocommit=True) as connection:
            for table in ("jobs", "claims"):  # instead of in some seconds
                connection.execute(f"update callboard.{table} set lease_expires_at = now()")
        assert await ref.result() == "done"
    go_on.set()
    assert attempts[0].cancelled
    history = await ref.history()
    assert [(row.to_status, row.reason) for row in history[-4:]] == [
        (Status.RUNNING, Reason.CLAIMED),
        (Status.PENDING, Reason.LEASE_EXPIRED),
        (Status.RUNNING, Reason.CLAIMED),
        (Status.COMPLETED, Reason.SUCCEEDED),
    ]
    assert system.registry.get("jobs").is_alive()
    async with asyncio.timeout(WAIT_SECONDS):  # whoever reads the result in the database may be earlier
        await runtime._worker.running.wait_empty()


async def test_J3_a_root_that_gives_up_says_so(  # noqa: N802 - the id of a rule
    settings: Settings, registry: JobRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.tree.MAX_RESTARTS", 2)

    @job(registry=registry)
    async def endless() -> None:
        await asyncio.Event().wait()

    runtime = Runtime(settings, registry=registry)
    await runtime.start()
    ref = await runtime.spawn(endless)
    wait = asyncio.create_task(ref.result())
    async with asyncio.timeout(WAIT_SECONDS):
        while not runtime._given_up.is_set():
            claimer = runtime._system.registry.get("claimer")
            if claimer is not None:
                claimer.kill()
            await asyncio.sleep(0)
        await runtime.wait_given_up()
    assert not liveness(runtime.health.state()).ok
    with pytest.raises(RuntimeStopped, match="gave up"):
        await wait
    with pytest.raises(RuntimeStopped):
        await runtime.spawn(endless)
    await runtime.stop()


async def test_a_stop_lets_jobs_end(settings: Settings, registry: JobRegistry) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    @job(registry=registry)
    async def finishes() -> str:
        started.set()
        await go_on.wait()
        return "in time"

    async with Runtime(settings, work=False) as client, Runtime(settings, registry=registry) as runtime:
        ref = await client.spawn(finishes)
        await started.wait()
        stop = asyncio.create_task(runtime.stop())
        while not (runtime._worker.running.closed and runtime._worker.running.claim.done()):
            await asyncio.sleep(0)
        second_stop = asyncio.create_task(runtime.stop(drain_timeout_seconds=0))
        later = await client.spawn(finishes)
        assert not second_stop.done()
        go_on.set()
        await stop
        await second_stop
        assert await ref.result(WAIT_SECONDS) == "in time"
        assert await later.status() is Status.PENDING
        assert (await client.summary()).nodes == ()


async def test_a_stop_claims_nothing_while_leadership_is_handed_over(
    settings: Settings, registry: JobRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    @job(registry=registry)
    async def late() -> None: ...

    handing_over, go_on, hand_over = asyncio.Event(), asyncio.Event(), Runtime._hand_over

    async def held_up(runtime: Runtime, system: ActorSystem) -> None:
        handing_over.set()
        await go_on.wait()
        await hand_over(runtime, system)

    async with Runtime(settings, work=False) as client, Runtime(settings, registry=registry) as runtime:
        monkeypatch.setattr(Runtime, "_hand_over", held_up)
        stop = asyncio.create_task(runtime.stop())
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await handing_over.wait()
                while (claim := runtime._worker.running.claim) is not None and not claim.done():
                    await asyncio.sleep(0)  # it was under way
            assert runtime._worker.running.closed
            ref = await client.spawn(late)
        finally:
            go_on.set()
        await stop
        assert await ref.status() is Status.PENDING


@pytest.mark.parametrize("executor", ["async", "thread"])
async def test_what_does_not_end_in_time_goes_back_uncounted(
    settings: Settings, registry: JobRegistry, executor
) -> None:
    started, released = threading.Event(), threading.Event()

    @job(registry=registry)
    async def waits() -> str:
        started.set()
        await asyncio.Event().wait()
        return ""

    @job(registry=registry)
    def blocks() -> str:
        started.set()
        released.wait(WAIT_SECONDS)
        return "ignored"

    try:
        async with Runtime(settings, work=False) as client:
            async with Runtime(settings, registry=registry) as runtime:
                ref = await runtime.spawn(waits if executor == "async" else blocks)
                await asyncio.to_thread(started.wait, WAIT_SECONDS)
                await runtime.stop(drain_timeout_seconds=0.05)
            record = await (await client.get(ref.id)).record()
            history = await (await client.get(ref.id)).history()
    finally:
        released.set()
    assert (record.status, record.attempt) == (Status.PENDING, 0)
    assert history[-1].reason is Reason.SHUTDOWN


async def test_haste_before_the_stop_has_begun_is_not_forgotten(settings: Settings, registry: JobRegistry) -> None:
    started = asyncio.Event()
    attempts: list[JobContext] = []

    @job(registry=registry)
    async def waits(ctx: JobContext) -> None:
        attempts.append(ctx)
        started.set()
        await asyncio.Event().wait()

    async with Runtime(settings, work=False) as client:
        async with Runtime(settings, registry=registry) as runtime:
            ref = await runtime.spawn(waits)
            await started.wait()
            runtime.stop_waiting_for_jobs()
            async with asyncio.timeout(WAIT_SECONDS):
                while (await ref.history())[-1].reason is not Reason.SHUTDOWN:
                    await asyncio.sleep(0.005)
                await runtime.stop(drain_timeout_seconds=3600)
        record = await (await client.get(ref.id)).record()
    assert (record.status, record.attempt) == (Status.PENDING, 0)
    assert len(attempts) == 1  # nobody claimed it again


@pytest.mark.chaos
async def test_promise_1_a_restart_of_the_database_loses_nothing(settings: Settings, registry: JobRegistry) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()
    ran: list[int] = []

    @job(registry=registry, max_attempts=10)
    async def step(number: int) -> int:
        ran.append(number)
        if len(ran) == 30:
            reached.set()
        if len(ran) >= 30:
            await go_on.wait()
        return number

    server = EmbeddedServer()
    await asyncio.to_thread(server.start)
    try:
        url = await asyncio.to_thread(server.create_database, "restarted")
        await asyncio.to_thread(migrate, url)
        own = settings.model_copy(update={"database_url": type(settings)(database_url=url).database_url})
        async with Runtime(own, registry=registry) as runtime:
            refs = await runtime.spawn_many(step, [(number,) for number in range(100)])
            await reached.wait()
            await asyncio.to_thread(server.kill)
            go_on.set()
            await asyncio.to_thread(server.start)
            assert [await ref.result(WAIT_SECONDS) for ref in refs] == list(range(100))
            completed = await runtime.jobs(JobFilter(statuses=(Status.COMPLETED,)), limit=1000)
            assert len(completed) == 100
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_database_that_is_read_only_for_a_while_costs_nothing(
    runtime: Runtime, registry: JobRegistry, settings: Settings
) -> None:
    go_on = asyncio.Event()

    @job(registry=registry, max_attempts=1)
    async def waits() -> str:
        await go_on.wait()
        return "done"

    ref = await runtime.spawn(waits)
    url = settings.database_url.get_secret_value()
    with psycopg.connect(url, autocommit=True) as connection:
        (database,) = connection.execute("select current_database()").fetchone()
        read_only = f'alter database "{database}" set default_transaction_read_only = '
        async with asyncio.timeout(WAIT_SECONDS):
            while await ref.status() is not Status.RUNNING:
                await asyncio.sleep(0)
        connection.execute(read_only + "on")
        # New connections are read-only: end those that are there, as a failover would.
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()",
            (database,),
        )
        go_on.set()
        async with asyncio.timeout(WAIT_SECONDS):
            while runtime._system.registry.get("writer") is not None:  # until the supervisor lets it wait
                await asyncio.sleep(0)
            assert len(runtime._worker.outbox) == 1
        connection.execute("set default_transaction_read_only = off")
        connection.execute(read_only + "off")
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()",
            (database,),
        )
    assert await ref.result(WAIT_SECONDS) == "done"
    assert not runtime._given_up.is_set()


async def test_a_stop_does_not_wait_for_a_claim_that_hangs(
    settings: Settings, registry: JobRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.worker.LAST_CLAIM_SECONDS", 0.1)
    monkeypatch.setattr("callboard.worker.GOODBYE_SECONDS", 0.1)
    monkeypatch.setattr("callboard.duties.leader_duties", lambda *_: ())  # they would wait for the table, too
    runtime = Runtime(settings, registry=registry)
    await runtime.start()
    url = settings.database_url.get_secret_value()
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("lock table callboard.jobs in access exclusive mode")
        async with asyncio.timeout(WAIT_SECONDS):
            while runtime._worker.running.claim.done():
                await asyncio.sleep(0.01)
            await runtime.stop(drain_timeout_seconds=0)
    assert not runtime._running
