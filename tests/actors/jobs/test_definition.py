"""The decorator and the registry."""

import asyncio
import functools
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tenacity import stop_after_attempt, wait_fixed, wait_random

from callboard.actors.errors import ConfigurationError, JobDefinitionError, UnknownJobKind
from callboard.actors.jobs.definition import ConfiguredJob, JobRegistry, default_kind, importable_module, job


async def coroutine(a: int) -> int:
    """Say what it is."""
    return a


def plain(a: int) -> int:
    return a


@pytest.fixture
def registry() -> JobRegistry:
    return JobRegistry()


def test_a_job_is_still_its_function(registry: JobRegistry) -> None:
    definition = job(registry=registry)(coroutine)
    assert asyncio.run(definition(3)) == 3
    assert definition.__name__ == "coroutine"
    assert definition.__doc__ == "Say what it is."
    assert repr(definition) == f"<job {definition.kind}>"
    assert definition.definition is definition


def test_defaults(registry: JobRegistry) -> None:
    on_loop, in_thread = job(registry=registry)(coroutine), job(registry=registry)(plain)
    assert (on_loop.kind, on_loop.executor) == (f"{__name__}.coroutine", "async")
    assert (in_thread.kind, in_thread.executor) == (f"{__name__}.plain", "thread")
    assert on_loop.retry is None
    assert on_loop.retry_on == (Exception,)
    assert on_loop.spawn_options.max_attempts == 3
    assert registry.kinds() == sorted([on_loop.kind, in_thread.kind])


def test_what_is_said_is_kept(registry: JobRegistry) -> None:
    wait = wait_fixed(1) + wait_random(0, 1)
    definition = job(
        kind="k", executor="thread", retry=wait, retry_on=OSError, registry=registry, queue="cpu", priority=3
    )(coroutine)
    assert (definition.kind, definition.executor, definition.retry) == ("k", "thread", wait)
    assert definition.retry_on == (OSError,)
    assert (definition.spawn_options.queue, definition.spawn_options.priority) == ("cpu", 3)
    assert definition.is_coroutine


def test_options_leave_the_job_as_it_was(registry: JobRegistry) -> None:
    definition = job(registry=registry, priority=1)(plain)
    configured = definition.options(priority=2)
    assert isinstance(configured, ConfiguredJob)
    assert configured.definition is definition
    assert (configured.spawn_options.priority, definition.spawn_options.priority) == (2, 1)


async def generator() -> Any:
    yield 1


class Callable_:  # noqa: N801
    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "said", "substance"),
    [
        (plain, {"executor": "async"}, "needs an `async def`"),
        (plain, {"executor": "cloud"}, "'cloud' is unknown; expected one of async, thread, process"),
        (plain, {"memory_limit_bytes": 2**30}, "memory_limit_bytes needs executor='process', got executor 'thread'"),
        (coroutine, {"memory_limit_bytes": 2**30}, "memory_limit_bytes needs executor='process', got executor 'async'"),
        (
            plain,
            {"executor": "process", "memory_limit_bytes": 1000},
            "got 1000, expected an int of at least 67,108,864",
        ),
        (plain, {"executor": "process", "memory_limit_bytes": "1 GB"}, "memory_limit_bytes: got '1 GB'"),
        (plain, {"executor": "process", "memory_limit_bytes": True}, "memory_limit_bytes: got True"),
        (lambda: None, {"executor": "process"}, "needs a function at the top level of a module"),
        (Callable_(), {}, "expects a function, got Callable_"),
        (functools.partial(plain, 1), {}, "expects a function, got partial"),
        (int, {}, "expects a function, got type"),
        (generator, {}, "an async generator has no result"),
        (plain, {"retry": 3}, "retry: got int 3"),
        (plain, {"retry": stop_after_attempt(3)}, "the number of attempts is max_attempts"),
        (plain, {"retry_on": "OSError"}, "retry_on: got 'OSError'"),
        (plain, {"retry_on": (OSError, KeyboardInterrupt)}, "retry_on: got <class 'KeyboardInterrupt'>"),
        (plain, {"kind": ""}, "kind: got ''"),
        (plain, {"kind": "a\0b"}, "kind: got 'a"),
        (plain, {"kind": 5}, "kind: got 5"),
        (plain, {"max_attempts": 0}, "max_attempts: got int '0'"),
        (plain, {"max_attemps": 1}, "max_attemps"),
    ],
)
def test_what_cannot_work_is_refused_and_not_registered(
    function: Any, said: dict[str, Any], substance: str, registry: JobRegistry
) -> None:
    with pytest.raises(ConfigurationError, match=substance):
        job(registry=registry, **said)(function)
    assert registry.kinds() == []


def test_a_process_job_has_its_limit(registry: JobRegistry) -> None:
    definition = job(registry=registry, executor="process", memory_limit_bytes=2**30)(plain)
    assert (definition.executor, definition.memory_limit_bytes) == ("process", 2**30)
    assert job(registry=registry, executor="process")(coroutine).is_coroutine


def test_a_process_cannot_import_what_was_typed_in(registry: JobRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=None))

    def typed_in() -> None: ...

    typed_in.__module__, typed_in.__qualname__ = "__main__", "typed_in"
    with pytest.raises(JobDefinitionError, match=r"in a module that can be imported, and this one was typed in"):
        job(registry=registry, executor="process")(typed_in)


def test_two_functions_of_one_kind_are_refused(registry: JobRegistry) -> None:
    first = job(kind="k", registry=registry)(plain)
    with pytest.raises(JobDefinitionError, match=r"two jobs of kind 'k': .*plain.* and .*coroutine"):
        job(kind="k", registry=registry)(coroutine)
    assert registry.get("k") is first


def test_the_same_function_defined_again_replaces_the_old_one(registry: JobRegistry) -> None:
    job(registry=registry)(plain)
    again = job(registry=registry)(plain)
    assert registry.require(again.kind) is again


def test_an_unknown_kind_is_an_error_that_names_the_known_ones(registry: JobRegistry) -> None:
    with pytest.raises(UnknownJobKind, match=r"'nowhere'; known here: none"):
        registry.require("nowhere")
    job(kind="known", registry=registry)(plain)
    with pytest.raises(UnknownJobKind, match=r"'nowhere'; known here: known\. Import the module"):
        registry.require("nowhere")
    assert registry.get("nowhere") is None


@pytest.mark.parametrize(
    ("main", "kind"),
    [
        (SimpleNamespace(__spec__=SimpleNamespace(name="pack.tool"), __file__="/x/tool.py"), "pack.tool.scripted"),
        (SimpleNamespace(__spec__=SimpleNamespace(name="pack.__main__"), __file__="/x/y.py"), "pack.scripted"),
        (SimpleNamespace(__spec__=None, __file__="/somewhere/script.py"), "script.scripted"),
        (SimpleNamespace(__spec__=None), "__main__.scripted"),
    ],
)
def test_a_scripts_jobs_have_the_name_that_a_worker_would_import(
    main: ModuleType, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scripted() -> None: ...

    scripted.__module__ = "__main__"
    scripted.__qualname__ = "scripted"
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert default_kind(scripted) == kind
    assert importable_module(scripted).removesuffix(".__main__") == kind.removesuffix(".scripted")
