"""The ``@job`` decorator and what it makes of a function."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar, overload

from callboard.actors.errors import JobDefinitionError, UnknownJobKind
from callboard.actors.retry import WaitStrategy
from callboard.actors.schedules.types import Schedule

from .options import SpawnOptions
from .signature import JobSignature

P = ParamSpec("P")
R = TypeVar("R")

ExecutorName = Literal["async", "thread", "process"]
EXECUTORS: Final[tuple[str, ...]] = ("async", "thread", "process")

LEAST_MEMORY_LIMIT_BYTES: Final = 64 * 2**20
"""The interpreter and Callboard alone take about 40 MiB."""


class JobDefinition(Generic[P, R]):
    """A function that can be spawned as a job. Calling it calls the function, as if it were not decorated.

    Attributes:
        kind: the name under which jobs are stored; workers find the function by it.
        function: the decorated function.
        executor: ``async`` (on the event loop), ``thread`` or ``process``.
        memory_limit_bytes: of its process; None is unlimited.
        spawn_options: the options of its spawns, unless a spawn says otherwise.
        retry: the wait strategy between attempts; None takes the runtime's.
        retry_on: exceptions that another attempt may mend.
        schedule: when it is spawned again and again; None is never.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        kind: str,
        executor: ExecutorName,
        spawn_options: SpawnOptions,
        retry: WaitStrategy | None,
        retry_on: tuple[type[Exception], ...],
        memory_limit_bytes: int | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.kind = kind
        self.executor = executor
        self.memory_limit_bytes = memory_limit_bytes
        self.spawn_options = spawn_options
        self.retry = retry
        self.retry_on = retry_on
        self.schedule = schedule
        self.is_coroutine = inspect.iscoroutinefunction(function)
        self.signature = JobSignature(function)

    @property
    def definition(self) -> JobDefinition[P, R]:
        """Itself: a job and a ``ConfiguredJob`` are spawned alike."""
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function here and now, without a job."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<job {self.kind}>"

    def options(self, **options: Any) -> ConfiguredJob[P, R]:
        """Return this job with other options: ``await runtime.spawn(summarize.options(priority=-1), 42)``.

        Raises:
            ConfigurationError: an option is unknown or out of bounds.
        """
        return ConfiguredJob(self, self.spawn_options.override(options))


@dataclass(frozen=True, slots=True)
class ConfiguredJob(Generic[P, R]):
    """A job with options other than its own."""

    definition: JobDefinition[P, R]
    spawn_options: SpawnOptions


@dataclass(slots=True)
class JobRegistry:
    """Kinds to functions. A worker runs the kinds that its registry knows."""

    _jobs: dict[str, JobDefinition[Any, Any]] = field(default_factory=dict)

    def add(self, definition: JobDefinition[Any, Any]) -> None:
        """Register a job.

        The same function defined again (a reloaded module) replaces the old one.

        Raises:
            JobDefinitionError: another function has this kind.
        """
        known = self._jobs.get(definition.kind)
        if known is not None and _identity(known.function) != _identity(definition.function):
            raise JobDefinitionError(
                f"two jobs of kind {definition.kind!r}: {_identity(known.function)} and "
                f'{_identity(definition.function)}; give one of them another kind: @job(kind="...")'
            )
        self._jobs[definition.kind] = definition

    def get(self, kind: str) -> JobDefinition[Any, Any] | None:
        """Return the job of a kind, or None."""
        return self._jobs.get(kind)

    def require(self, kind: str) -> JobDefinition[Any, Any]:
        """Return the job of a kind.

        Raises:
            UnknownJobKind: there is none; names the known ones.
        """
        definition = self._jobs.get(kind)
        if definition is None:
            known = ", ".join(sorted(self._jobs)) or "none"
            raise UnknownJobKind(
                f"unknown job kind {kind!r}; known here: {known}. Import the module that defines it first"
            )
        return definition

    def kinds(self) -> list[str]:
        """Return the known kinds, sorted."""
        return sorted(self._jobs)


default_registry: Final = JobRegistry()
"""Where ``@job`` registers unless told otherwise, as importing a module is how a worker learns of jobs."""


class _Decorator:
    """What ``@job(...)`` returns: typed so that the result's type survives ``async def`` and ``def`` alike."""

    def __init__(self, build: Callable[[Callable[..., Any]], JobDefinition[..., Any]]) -> None:
        self._build = build

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]]) -> JobDefinition[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> JobDefinition[P, R]: ...
    def __call__(self, function: Callable[..., Any]) -> JobDefinition[..., Any]:
        return self._build(function)


def job(
    *,
    kind: str | None = None,
    executor: ExecutorName | None = None,
    memory_limit_bytes: int | None = None,
    retry: WaitStrategy | None = None,
    retry_on: type[Exception] | tuple[type[Exception], ...] = Exception,
    schedule: str | Schedule | None = None,
    registry: JobRegistry = default_registry,
    **options: Any,
) -> _Decorator:
    """Make a function a job.

    Args:
        kind: its stored name (default: ``module.qualname``). Keep it when you rename the function.
        executor: ``"async"`` for ``async def`` (the default there): runs on the event loop and must not block it.
            ``"thread"`` (the default for plain functions): runs in a worker thread; a coroutine function gets that
            thread's own event loop. ``"process"``: runs in a child process, which is killed if the function does not
            end in time; it must stand at the top level of a module, as the child imports it by name.
        memory_limit_bytes: of its process (only with ``executor="process"``): resident memory, the interpreter's and
            the imports' included. Beyond it the process is killed and the attempt fails. Default: none.
        retry: a tenacity wait strategy for the time between attempts (default: the settings' exponential backoff
            with jitter).
        retry_on: exceptions after which another attempt makes sense (default: every ``Exception``).
        schedule: spawn it again and again: a cron text, ``"*/5 * * * *"``, or a ``Schedule`` with a time zone, an
            interval, arguments, ... The schedule is stored, under the job's kind as its name, when a worker starts.
        registry: where workers find it.
        **options: defaults of every spawn, see ``SpawnOptions``: ``queue``, ``priority``, ``max_attempts``
            (default 3), ``timeout_seconds``, ``tags``, ...

    Raises:
        JobDefinitionError: the function, the executor or the annotations do not work, or the kind is taken.
        ConfigurationError: an option is unknown or out of bounds, or the schedule is wrong.
        InvalidArguments: the schedule's arguments do not fit the function.
    """
    spawn_options = SpawnOptions().override(options)
    exceptions = _check_retries(retry, retry_on)
    recurring = _check_schedule(schedule)
    if kind is not None:
        _check_kind(kind)

    def build(function: Callable[..., Any]) -> JobDefinition[..., Any]:
        if not inspect.isfunction(function):
            raise JobDefinitionError(f"@job expects a function, got {type(function).__name__} {function!r}")
        if inspect.isasyncgenfunction(function):
            raise JobDefinitionError(
                f"job {function.__qualname__}: an async generator has no result; return a list, or report "
                f"with ctx.progress"
            )
        chosen = executor or ("async" if inspect.iscoroutinefunction(function) else "thread")
        _check_executor(function, chosen)
        _check_memory_limit(function, chosen, memory_limit_bytes)
        definition: JobDefinition[..., Any] = JobDefinition(
            function,
            kind=kind or default_kind(function),
            executor=chosen,
            spawn_options=spawn_options,
            retry=retry,
            retry_on=exceptions,
            memory_limit_bytes=memory_limit_bytes,
            schedule=recurring,
        )
        if recurring is not None:
            definition.signature.encode((), recurring.arguments)
        registry.add(definition)
        return definition

    return _Decorator(build)


def _check_retries(retry: object, retry_on: object) -> tuple[type[Exception], ...]:
    """Find out here what would otherwise crash the job's actor at its first failure."""
    if retry is not None and not isinstance(retry, WaitStrategy):
        raise JobDefinitionError(
            f"retry: got {type(retry).__name__} {retry!r}, expected one of tenacity's wait strategies, such as "
            f"wait_exponential(max=60); the number of attempts is max_attempts"
        )
    exceptions = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for exception in exceptions:
        if not (isinstance(exception, type) and issubclass(exception, Exception)):
            raise JobDefinitionError(f"retry_on: got {exception!r}, expected exception classes, alone or in a tuple")
    return exceptions


def _check_schedule(schedule: object) -> Schedule | None:
    if schedule is None or isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, str):
        return Schedule(schedule)
    raise JobDefinitionError(
        f"schedule: got {type(schedule).__name__} {schedule!r}, expected a cron text or a Schedule(...)"
    )


def _check_kind(kind: str) -> None:
    if not isinstance(kind, str) or not 0 < len(kind) <= 200 or not kind.isprintable():
        raise JobDefinitionError(f"kind: got {kind!r}, expected 1 to 200 printable characters")


def _check_executor(function: Callable[..., Any], executor: str) -> None:
    if executor not in EXECUTORS:
        raise JobDefinitionError(
            f"job {function.__qualname__}: executor {executor!r} is unknown; expected one of {', '.join(EXECUTORS)}"
        )
    if executor == "async" and not inspect.iscoroutinefunction(function):
        raise JobDefinitionError(
            f"job {function.__qualname__}: executor 'async' needs an `async def`, got a plain function, which would "
            f"block the event loop; leave the executor out or write executor='thread'"
        )

    if executor == "process":
        _check_importable(function)


def _check_importable(function: Callable[..., Any]) -> None:
    if "<" in function.__qualname__:
        raise JobDefinitionError(
            f"job {function.__qualname__}: executor 'process' needs a function at the top level of a module, as the "
            f"child process imports it by name; move it there"
        )
    if importable_module(function) == "__main__":
        raise JobDefinitionError(
            f"job {function.__qualname__}: executor 'process' needs a function in a module that can be imported, and "
            f"this one was typed in or read from standard input; write it into a file"
        )


def _check_memory_limit(function: Callable[..., Any], executor: str, limit_bytes: object) -> None:
    if limit_bytes is None:
        return
    if executor != "process":
        raise JobDefinitionError(
            f"job {function.__qualname__}: memory_limit_bytes needs executor='process', got executor {executor!r}, "
            f"whose jobs share the worker's memory"
        )
    if not isinstance(limit_bytes, int) or isinstance(limit_bytes, bool) or limit_bytes < LEAST_MEMORY_LIMIT_BYTES:
        raise JobDefinitionError(
            f"job {function.__qualname__}: memory_limit_bytes: got {limit_bytes!r}, expected an int of at least "
            f"{LEAST_MEMORY_LIMIT_BYTES:,}: the interpreter and the imports count, too"
        )


def default_kind(function: Callable[..., Any]) -> str:
    """Return ``module.qualname``, with the module's name as a worker would import it."""
    return f"{importable_module(function).removesuffix('.__main__')}.{function.__qualname__}"


def importable_module(function: Callable[..., Any]) -> str:
    """Return the name by which another process imports a function's module; ``__main__`` if none can."""
    if function.__module__ != "__main__":
        return function.__module__
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    return spec.name if spec else Path(file).stem if file else "__main__"


def _identity(function: Callable[..., Any]) -> str:
    return f"{default_kind(function)} ({function.__code__.co_filename})"
