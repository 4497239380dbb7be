"""What a running job's function can ask of the runtime."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, TypeVar
from uuid import UUID

from callboard.actors.batches.requests import encode_params
from callboard.actors.batches.state import ItemStatus
from callboard.actors.batches.types import BatchResult
from callboard.actors.errors import InvalidArguments, LlmRequestFailed, PayloadTooLarge

from .control import Parked
from .ended import ended_from
from .state import WaitingOn
from .step import checked_key, decode_step, encode_step
from .types import AttemptKey, ClaimedJob, JobRecord

if TYPE_CHECKING:
    from .definition import ConfiguredJob, JobDefinition

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

PROGRESS_LIMIT_BYTES: Final = 64 * 1024


class ContextServices(Protocol):
    """What the runtime lends to contexts."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The runtime's event loop, on which ``children`` must run."""

    def progress(self, attempt: AttemptKey, progress: dict[str, Any]) -> None:
        """Keep the newest progress of an attempt and store it soon. Any thread."""

    async def children(
        self, parent: ClaimedJob, key: str, job: Any, calls: Sequence[tuple[Any, ...]]
    ) -> list[JobRecord]:
        """Return the children of ``parent`` under ``key``, spawning those that do not exist yet."""

    @property
    def result_limit_bytes(self) -> int:
        """How much JSON the result of a job, or of a step, may take."""

    async def kept_step(self, job_id: UUID, key: str) -> str | None:
        """Return what a step of a job gave, as JSON text; None where none is kept."""

    async def keep_step(self, attempt: AttemptKey, key: str, value: str) -> str:
        """Keep what a step gave; return what is kept: the first result stands. Waits for a database that is away.

        Raises:
            StaleAttempt: the attempt runs no longer. Nothing was kept.
        """

    async def llm_reply(self, attempt: AttemptKey, key: str, provider: str, params: str) -> BatchResult | None:
        """Ask a model once for a job and key; return the outcome, or None if there is none yet.

        Raises:
            ConfigurationError: nobody polls, or there is no such provider. Nothing was asked.
            InvalidBatch: the request is larger than a batch may be. Nothing was asked.
            StaleAttempt: the attempt runs no longer. Nothing was asked.
        """

    async def unknown_for_seconds(self, job_id: UUID) -> float:
        """Return how long ago a worker first put the job back because it did not know its kind; 0 if none did."""


class JobContext:
    """One attempt, seen from inside the job's function.

    Attributes:
        saw_cancelled: whether the function looked at ``cancelled`` when it was true.
    """

    # Every attempt has a context, and few use it: what is kept in one is made when first needed.
    saw_cancelled = False
    _cancelled = False
    _wake_up: threading.Event | None = None
    _used_keys: set[tuple[str, str]] | None = None

    def __init__(self, claimed: ClaimedJob, services: ContextServices) -> None:
        self._claimed = claimed
        self._services = services

    @property
    def job_id(self) -> UUID:
        """The job's id: the key that makes an effect repeatable."""
        return self._claimed.id

    @property
    def kind(self) -> str:
        """The job's kind."""
        return self._claimed.kind

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self._claimed.queue

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1."""
        return self._claimed.attempt

    @property
    def max_attempts(self) -> int:
        """How many attempts the job may have."""
        return self._claimed.max_attempts

    @property
    def token(self) -> int:
        """Names this attempt in every write, and changes with each."""
        return self._claimed.token

    @property
    def owner(self) -> str | None:
        """On whose behalf the job runs, or None."""
        return self._claimed.owner

    @property
    def deadline(self) -> datetime | None:
        """When the job must have ended, or None."""
        return self._claimed.deadline

    @property
    def cancelled(self) -> bool:
        """Whether this attempt should end: cancelled, timed out, or taken over. Thread jobs look now and then."""
        self.saw_cancelled = self.saw_cancelled or self._cancelled
        return self._cancelled

    def wait_cancelled(self, timeout_seconds: float) -> bool:
        """Sleep in a thread job, but wake up when the attempt should end; True if it should."""
        # Made here, as most jobs never wait for it. First the event, then the look: `ask_to_end` does it the other way
        # round, so one of the two sees the other.
        self._wake_up = self._wake_up or threading.Event()
        return self.cancelled or (self._wake_up.wait(timeout_seconds) and self.cancelled)

    def ask_to_end(self) -> None:
        """Set ``cancelled``. Called by the job's actor."""
        self._cancelled = True
        wake_up = self._wake_up
        if wake_up is not None:
            wake_up.set()

    def progress(self, done: float | None = None, total: float | None = None, **fields: Any) -> None:
        """Report progress; the newest report wins and is stored within about a second. Any thread, never blocks.

        Args:
            done: how much is done.
            total: of how much.
            **fields: anything else that JSON can hold.

        Raises:
            InvalidArguments: JSON cannot hold it. The report before stays.
            PayloadTooLarge: it takes more than 64 KB.
        """
        report = {name: value for name, value in (("done", done), ("total", total)) if value is not None} | fields
        self._services.progress(AttemptKey(self.job_id, self.token), _checked_report(report))

    async def map(
        self,
        job: JobDefinition[Any, R] | ConfiguredJob[Any, R],
        calls: Iterable[tuple[Any, ...]],
        *,
        key: str = "",
        return_exceptions: bool = False,
    ) -> list[R]:
        """Run a job for each tuple of arguments and return their results, in order.

        The children are spawned once. Then this function is unwound and gives its slot back; when the last child has
        ended it is called again from its start, and this time ``map`` returns. So what comes before a ``map`` runs
        twice: keep it cheap and repeatable. Waiting costs no attempt. Whoever cancels this job cancels its children.

        Args:
            job: the job of the children.
            calls: the positional arguments of each child; an empty one returns ``[]`` at once.
            key: tells several maps of one function apart; one that has only one needs none.
            return_exceptions: put ``JobFailed`` and ``JobCancelled`` into the list instead of raising the first.

        Raises:
            JobFailed, JobCancelled: a child ended so.
            InvalidArguments: some arguments do not fit, or the key was used before; no child is spawned.
        """
        if not self._first_use("map", key):
            raise InvalidArguments(
                f"ctx.map was called twice with the key {key!r}, under which the children of the first call are found; "
                f'give each call a key of its own: ctx.map(..., key="...")'
            )
        arguments = list(calls)
        if not arguments:
            return []
        children = await self._on_the_runtimes_loop(self._services.children(self._claimed, key, job, arguments))
        if children[0].kind != job.definition.kind:
            raise InvalidArguments(
                f"ctx.map of {job.definition.kind} finds children of kind {children[0].kind} under the key {key!r}: an "
                f"earlier attempt spawned them. Give the changed call another key"
            )
        if not all(child.status.is_terminal for child in children):
            raise Parked(WaitingOn.CHILDREN)
        decode = job.definition.signature.decode_result
        results: list[Any] = []
        for ended in map(ended_from, children):
            failure = ended.failure()
            if failure is not None and not return_exceptions:
                raise failure
            results.append(decode(ended.result) if failure is None else failure)
        return results

    async def step(
        self, key: str, function: Callable[P, Awaitable[R]] | Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Any:
        """Call a function once for this job, keep its result beside the job, and return what is kept.

        Where an attempt before has kept it already, the function is not called. So what stands in a step does not run
        again when the job's function runs from its start: after a ``map``, an error, a ``Snooze``, a stop or the death
        of a worker. It may run again where the worker dies between its effect and the record.

        Args:
            key: names the step within the job; 1 to 200 printable characters.
            function: a coroutine function, or a plain one. A plain one is called in a thread, where the job runs on
                the event loop, and in the job's own thread otherwise.
            *args: its arguments.
            **kwargs: its arguments.

        Returns:
            Its result as JSON gives it back, the first time too: a tuple is a list then.

        Raises:
            InvalidArguments: the key is no key, or was used before in this run. Nothing was called.
            InvalidResult: JSON cannot hold the result.
            PayloadTooLarge: it takes more than the setting ``result_limit_bytes``.
            StaleAttempt: this attempt was cancelled, or taken over, meanwhile. Nothing was kept.
            Exception: whatever the function raises; that is not kept.
        """
        checked_key(key, "ctx.step")
        if not self._first_use("step", key):
            raise InvalidArguments(
                f"ctx.step was called twice with the key {key!r}, under which the result of the first call is kept; "
                f"give each step a key of its own"
            )
        services = self._services
        kept = await self._on_the_runtimes_loop(services.kept_step(self.job_id, key))
        if kept is None:
            value = await self._called(function, args, kwargs)
            text = encode_step(key, value, services.result_limit_bytes)
            keeping = services.keep_step(AttemptKey(self.job_id, self.token), key, text)
            kept = await self._on_the_runtimes_loop(keeping)
        return decode_step(kept)

    async def llm_batch(self, request: Mapping[str, Any], *, key: str, provider: str = "anthropic") -> Any:
        """Ask a model in a batch, at half the price, and return what it replied, hours later.

        The request is recorded once for this job and key. Then this function is unwound and gives its slot back; the
        leader sends what jobs have asked together, as batches. When the reply is stored the function is called again
        from its start, and this time ``llm_batch`` returns. Waiting costs no attempt, and needs no worker.

        Args:
            request: its body, as the provider's API takes it: ``model``, ``messages``, ...
            key: names it within the job; 1 to 200 printable characters. The first request under a key stands.
            provider: who is asked: ``anthropic`` (default), ``openai``, or one given to ``Runtime(providers=...)``.

        Returns:
            What the provider returned, as plain JSON data: Anthropic's message, OpenAI's response body.

        Raises:
            LlmRequestFailed: there will be no reply: refused, expired, or cancelled with its batch. An attempt that
                this ends is the job's last.
            InvalidArguments: the key is no key, or was used before in this run, or the request is not JSON.
            InvalidBatch: the request is larger than a batch may be.
            ConfigurationError: nobody polls (``enable_batch_job_polling``), or there is no such provider here.
        """
        checked_key(key, "ctx.llm_batch")
        if not self._first_use("llm_batch", key):
            raise InvalidArguments(
                f"ctx.llm_batch was called twice with the key {key!r}, under which the first request is recorded; give "
                f"each request a key of its own"
            )
        params = encode_params(request, "ctx.llm_batch")
        asking = self._services.llm_reply(AttemptKey(self.job_id, self.token), key, provider, params)
        reply = await self._on_the_runtimes_loop(asking)
        if reply is None:
            raise Parked(WaitingOn.LLM_BATCH)
        if reply.status is not ItemStatus.SUCCEEDED:
            raise LlmRequestFailed(key, reply.status, reply.error)
        return reply.result

    def _first_use(self, method: str, key: str) -> bool:
        """Tell whether a method gets a key for the first time in this run; remember it."""
        used = self._used_keys = self._used_keys or set()
        is_first = (method, key) not in used
        used.add((method, key))
        return is_first

    async def _called(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not inspect.iscoroutinefunction(function) and self._is_on_the_runtimes_loop():
            result = await asyncio.to_thread(function, *args, **kwargs)
        else:
            result = function(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    def _is_on_the_runtimes_loop(self) -> bool:
        return asyncio.get_running_loop() is self._services.loop

    async def _on_the_runtimes_loop(self, work: Coroutine[Any, Any, T]) -> T:
        if self._is_on_the_runtimes_loop():
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._services.loop))


def _checked_report(report: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a report that nobody changes any more and that the database takes."""
    try:
        text = json.dumps(report, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArguments(
            f"ctx.progress: JSON cannot hold the report ({error}); use numbers and strings"
        ) from error
    if len(text) > PROGRESS_LIMIT_BYTES:
        raise PayloadTooLarge(
            f"ctx.progress: the report takes {len(text):,} bytes of JSON; at most {PROGRESS_LIMIT_BYTES:,} are stored. "
            f"Report numbers, and return the data"
        )
    checked: dict[str, Any] = json.loads(text)
    return checked
