"""The places where a job's code can run, each behind the same few calls, for the contract suite."""

import asyncio
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from callboard.actors.executors.base import Execution, Executor
from callboard.actors.executors.event_loop import EventLoopExecutor
from callboard.actors.executors.process import ProcessExecutor
from callboard.actors.executors.process_limits import ProcessLimits
from callboard.actors.executors.thread import ThreadExecutor
from callboard.actors.jobs.call import Call
from callboard.actors.jobs.context import JobContext
from callboard.actors.jobs.decide import Event
from callboard.actors.jobs.definition import ExecutorName, JobDefinition, JobRegistry, job
from callboard.actors.jobs.interpret import interpret
from callboard.actors.jobs.types import AttemptKey
from callboard.actors.retry import next_delay_seconds
from tests.actors.executors.contract_jobs import RELEASE, variant
from tests.actors.executors.ears import PATIENCE_SECONDS, Ears
from tests.actors.jobs.builders import Services, claimed

LIMIT_BYTES = 16 * 2**20
DEFAULT_DELAY_SECONDS = 42.0


class ReportingServices(Services):
    """Lets a test wait for the code's reports."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: queue.Queue[dict[str, Any]] = queue.Queue()

    def progress(self, attempt: AttemptKey, progress: dict[str, Any]) -> None:
        super().progress(attempt, progress)
        self.arrived.put(progress)


class Attempt(Ears):
    """One call under way."""

    def __init__(self, place: "Place", call: Call, services: ReportingServices) -> None:
        super().__init__()
        self._place = place
        self.call = call
        self.services = services
        self.execution: Execution = place.on_its_thread(
            lambda: place.executor.start(call, self.on_start, self.on_finish)
        )

    def next_report(self) -> dict[str, Any]:
        return self.services.arrived.get(timeout=PATIENCE_SECONDS)

    def ask_to_end(self) -> None:
        """What the job's actor does at a timeout, a cancel and a shutdown."""

        def ask() -> None:
            self.call.context.ask_to_end()
            self.execution.cancel()

        self._place.on_its_thread(ask)

    def abandon(self) -> bool:
        return self._place.on_its_thread(self.execution.abandon)

    def event(self) -> Event:
        definition = self.call.definition

        def draw(exception: BaseException | None) -> float:
            own = definition.retry
            return DEFAULT_DELAY_SECONDS if own is None else next_delay_seconds(own, 1, exception)

        return interpret(self.outcome(), retry_on=definition.retry_on, retry_delay_seconds=draw)


@dataclass
class Place:
    """An executor, and which kind of function it is given."""

    executor_name: ExecutorName
    is_coroutine: bool
    executor: Executor
    loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_process(self) -> bool:
        return self.executor_name == "process"

    def on_its_thread(self, function: Any) -> Any:
        if self.loop is None:
            return function()

        async def call() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(PATIENCE_SECONDS)

    def start(self, name: str, changes: dict[str, Any] | None = None, /, **arguments: Any) -> Attempt:
        """Start the job of that name from ``contract_jobs``."""
        definition = self._definition(name)
        attempt = claimed(uuid4(), kind=definition.kind, arguments=json.dumps(arguments))._replace(**(changes or {}))
        services = ReportingServices()
        return Attempt(self, Call(definition, JobContext(attempt, services), attempt, LIMIT_BYTES), services)

    def _definition(self, name: str) -> JobDefinition[..., Any]:
        definition = variant(name, is_coroutine=self.is_coroutine)
        if self.is_process:
            return definition
        here = job(
            executor=self.executor_name,
            registry=JobRegistry(),
            retry=definition.retry,
            retry_on=definition.retry_on,
        )
        return here(definition.function)


@contextmanager
def make_place(name: ExecutorName, *, is_coroutine: bool) -> Iterator[Place]:
    """Make an executor with room for one call, or a loop."""
    match name:
        case "thread":
            threads = ThreadExecutor(1)
            yield Place(name, is_coroutine, threads)
            RELEASE.set()
            threads.close(PATIENCE_SECONDS)
        case "process":
            processes = ProcessExecutor(1, ProcessLimits(), lambda reason: None)
            yield Place(name, is_coroutine, processes)
            processes.close(PATIENCE_SECONDS)
            assert processes.processes() == []
        case "async":
            with asyncio.Runner() as runner:
                loop = runner.get_loop()
                thread = threading.Thread(target=loop.run_forever)
                thread.start()
                yield Place(name, is_coroutine, EventLoopExecutor(loop), loop)
                RELEASE.set()
                loop.call_soon_threadsafe(loop.stop)
                thread.join(PATIENCE_SECONDS)
