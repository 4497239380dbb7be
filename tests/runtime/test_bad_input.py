"""Promise 10: a bad input gets a clear error and changes nothing."""

import threading
from datetime import datetime

import psycopg
import pytest

from callboard import (
    ConfigurationError,
    InvalidArguments,
    JobDefinitionError,
    JobFailed,
    JobRegistry,
    PayloadTooLarge,
    Runtime,
    RuntimeStopped,
    SchemaMismatch,
    SchemaMissing,
    Settings,
    StoreUnavailable,
    job,
)

WAIT_SECONDS = 20


@pytest.fixture
def greet(registry: JobRegistry):
    @job(registry=registry)
    async def greet(name: str, times: int = 1) -> str:
        return name * times

    return greet


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing a required argument: 'name'"),
        (("Ada", 1, 2), {}, "too many positional arguments"),
        (("Ada",), {"colour": "red"}, "unexpected keyword argument 'colour'"),
        ((7,), {}, "name: got int, Input should be a valid string"),
        (("Ada", "often"), {}, "times: got str, Input should be a valid integer"),
    ],
)
async def test_promise_10_wrong_arguments(runtime: Runtime, greet, args, kwargs, message: str) -> None:
    with pytest.raises(InvalidArguments, match=message):
        await runtime.spawn(greet, *args, **kwargs)
    assert await runtime.jobs() == []


async def test_one_wrong_call_among_many_spawns_none(runtime: Runtime, greet) -> None:
    with pytest.raises(InvalidArguments, match=r"call 1: .*name: got int"):
        await runtime.spawn_many(greet, [("Ada",), (7,)])
    with pytest.raises(InvalidArguments, match=r"call 0: expected a tuple .* got str; .* write \(value,\)"):
        await runtime.spawn_many(greet, ["Ada"])
    with pytest.raises(InvalidArguments, match=r"call 2007: .*name: got int"):
        await runtime.spawn_many(greet, [("Ada",)] * 2007 + [(7,)])
    assert await runtime.jobs() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": "high"}, "priority: got str 'high', Input should be a valid integer"),
        ({"max_attempts": 0}, "max_attempts: got int '0', Input should be greater than or equal to 1"),
        ({"timeout_seconds": -1}, "timeout_seconds: .* greater than 0"),
        ({"queue": ""}, "expected 1 to 100 printable characters"),
        ({"run_at": datetime(2030, 1, 1)}, "without a time zone"),  # noqa: DTZ001 - the point of the test
        ({"max_atempts": 3}, "Known options: callback_url, "),
    ],
)
async def test_wrong_options(runtime: Runtime, greet, options, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        greet.options(**options)
    with pytest.raises(ConfigurationError, match=message):
        await runtime.spawn_many(greet, [("Ada",)], **options)
    assert await runtime.jobs() == []


async def test_what_is_not_a_job(runtime: Runtime) -> None:
    async def plain() -> None: ...

    with pytest.raises(ConfigurationError, match=r"expects a job, got function .*decorate the function with @job"):
        await runtime.spawn(plain)


async def test_a_payload_over_the_limit(settings: Settings, registry: JobRegistry, greet) -> None:
    small = settings.model_copy(update={"payload_limit_bytes": 1000, "result_limit_bytes": 500})
    async with Runtime(small, registry=registry) as runtime:
        with pytest.raises(PayloadTooLarge, match=r"take 1,0\d\d bytes .* at most 1,000 .*PAYLOAD_LIMIT_BYTES"):
            await runtime.spawn(greet, "ä" * 500)
        assert await runtime.jobs() == []
        ref = await runtime.spawn(greet, "x", 600)
        with pytest.raises(JobFailed, match="returned 602 bytes of JSON; at most 500"):
            await ref.result(WAIT_SECONDS)


@pytest.mark.parametrize("executor", ["async", "thread"])
async def test_a_result_that_cannot_be_stored(runtime: Runtime, registry: JobRegistry, executor) -> None:
    @job(registry=registry, executor=executor)
    async def returns_a_lock():
        return threading.Lock()

    @job(registry=registry, executor=executor)
    async def returns_something_else() -> int:
        return "seven"  # type: ignore[return-value]

    for definition, message in (
        (returns_a_lock, r"returned lock, which cannot be stored"),
        (returns_something_else, r"returned str, which cannot be stored"),
    ):
        ref = await runtime.spawn(definition)
        with pytest.raises(JobFailed, match=message) as failed:
            await ref.result(WAIT_SECONDS)
        assert failed.value.stop_reason == "not_retryable"
        assert (await ref.record()).result is None


async def test_an_unknown_kind_is_put_back_then_failed(runtime: Runtime, settings: Settings) -> None:
    foreign = JobRegistry()

    @job(registry=foreign, kind="elsewhere.job")
    async def elsewhere() -> None: ...

    ref = await runtime.spawn(elsewhere)
    async for event in ref.events():
        if getattr(event, "row", None) is not None and event.row.reason == "unknown_kind":
            break
    record = await ref.record()
    assert (record.status, record.attempt) == ("pending", 0)
    assert record.run_at > record.created_at

    impatient = settings.model_copy(update={"unknown_kind_grace_seconds": 0.001})
    await runtime.stop()
    async with Runtime(impatient, registry=JobRegistry()) as other:
        await other.run_now([ref.id])
        with pytest.raises(JobFailed, match=r"no worker knew this kind .* import the module that defines it"):
            await (await other.get(ref.id)).result(WAIT_SECONDS)


def test_a_duplicate_kind(registry: JobRegistry) -> None:
    @job(registry=registry, kind="twice")
    async def first() -> None: ...

    with pytest.raises(JobDefinitionError, match=r"two jobs of kind 'twice': .*first.* and .*second"):

        @job(registry=registry, kind="twice")
        async def second() -> None: ...

    assert registry.require("twice") is first


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda registry: job(registry=registry)(print), "expects a function, got builtin_function_or_method"),
        (lambda registry: job(registry=registry, executor="async")(lambda: 1), "executor 'async' needs an `async def`"),
        (lambda registry: job(registry=registry, executor="fibre")(lambda: 1), "executor 'fibre' is unknown"),
    ],
)
def test_functions_that_cannot_be_jobs(registry: JobRegistry, make, message: str) -> None:
    with pytest.raises(JobDefinitionError, match=message):
        make(registry)
    assert registry.kinds() == []


async def test_an_unreachable_server() -> None:
    runtime = Runtime(Settings(database_url="postgresql://nobody:secret@127.0.0.1:1/none"))
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1") as unreachable:
        await runtime.start()
    assert "secret" not in str(unreachable.value)
    with pytest.raises(RuntimeStopped, match="not running"):
        await runtime.jobs()


async def test_a_missing_and_a_newer_schema(empty_database_url: str, database_url: str, greet) -> None:
    with pytest.raises(SchemaMissing, match="callboard migrate"):
        await Runtime(Settings(database_url=empty_database_url)).start()
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("update callboard.schema_version set version_num = '9999'")
        with pytest.raises(SchemaMismatch, match=r"9999.*newer|newer.*9999"):
            await Runtime(Settings(database_url=database_url)).start()
        assert connection.execute("select count(*) from callboard.jobs").fetchone() == (0,)


def test_no_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALLBOARD_DATABASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match="CALLBOARD_DATABASE_URL is not set"):
        Runtime()
