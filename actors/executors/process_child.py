"""The child process that runs jobs of ``executor="process"``, one at a time, for as long as its worker lives.

The main thread runs the functions, so that they may use signals, as in any program. A second one listens to the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Coroutine
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from callboard.actors.batches.types import BatchResult
from callboard.actors.errors import JobDefinitionError
from callboard.actors.jobs.call import Call, Judged, Outcome, Raised, Returned
from callboard.actors.jobs.context import JobContext
from callboard.actors.jobs.definition import JobDefinition
from callboard.actors.jobs.failure import storable
from callboard.actors.jobs.judgement import Failure, Judgement, judge
from callboard.actors.jobs.types import AttemptKey, JobRecord
from callboard.actors.parent_death import end_with_parent
from callboard.actors.retry import next_delay_seconds

from .code_run import CodeRun
from .job_finder import find_job
from .process_messages import Cancel, Finished, Logged, Message, Ready, Reported, Run, Started, decode, encode

_log = logging.getLogger(__name__)

OUT_OF_MEMORY_SCORE: Final = 500
"""Added to this process's badness: when the machine runs out of memory, the kernel takes it, and not the worker."""


def main(descriptor: int, parent_pid: int, log_level: int) -> None:
    """Serve the worker until it hangs up.

    Args:
        descriptor: of the connection to the worker.
        parent_pid: the worker's process id.
        log_level: the level of its root logger.
    """
    end_with_parent(parent_pid)
    # An orderly stop is the worker's business, also where somebody signals all processes of a service. These are
    # handlers and not SIG_IGN, which programs that a job starts would inherit.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    with contextlib.suppress(OSError):  # not on Linux, or not allowed
        Path("/proc/self/oom_score_adj").write_text(str(OUT_OF_MEMORY_SCORE))
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    os.set_inheritable(descriptor, False)
    child = JobRunner(Connection(descriptor))
    logging.basicConfig(level=log_level, handlers=[PipeHandler(child)], force=True)
    threading.Thread(target=child.listen, name="callboard-worker-listener", daemon=True).start()
    child.serve()


class JobRunner:
    """Runs what the worker asks for, and is the runtime that its jobs' contexts see."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._runs: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._found: dict[str, JobDefinition[Any, Any]] = {}
        self._lock = threading.Lock()
        self._busy = False
        self._current: tuple[AttemptKey, JobContext, CodeRun] | None = None
        self._cancelled: AttemptKey | None = None

    def listen(self) -> None:
        """Take what the worker says. The end of the connection is the worker's, or its wish that we end."""
        try:
            while True:
                match decode(self._connection.recv_bytes()):
                    case Run() as run:
                        self._busy = True
                        self._runs.put(run)
                    case Cancel(attempt):
                        self._cancel(attempt)
        except (EOFError, OSError):
            if self._busy:  # a worker hangs up on an idle process only: it has died
                os.killpg(0, signal.SIGKILL)
        finally:
            self._runs.put(None)

    def serve(self) -> None:
        """Run jobs until the worker hangs up."""
        self.send(Ready())
        with asyncio.Runner() as runner:
            while (run := self._runs.get()) is not None:
                finished = self._run(run, runner)
                for stream in (sys.stdout, sys.stderr):
                    with contextlib.suppress(Exception):  # the job's code may have closed or replaced it
                        stream.flush()
                self._busy = False
                self.send(finished)

    def send(self, message: Message) -> None:
        """Tell the worker. Any thread."""
        data = encode(message)
        with self._sending:
            self._connection.send_bytes(data)

    def _run(self, run: Run, runner: asyncio.Runner) -> Finished:
        claimed = run.claimed
        try:
            definition = self._find(run)
        except BaseException as exception:  # noqa: BLE001 - imports are foreign code
            return Finished(None, judge(exception, (Exception,)), saw_cancelled=False)
        context = JobContext(claimed, self)
        code = CodeRun(Call(definition, context, claimed, run.result_limit_bytes))
        attempt = AttemptKey(claimed.id, claimed.token)
        with self._lock:
            self._current = (attempt, context, code)
            if self._cancelled == attempt:
                _ask_to_end(context, code)
        outcome = code.run(runner)
        with self._lock:
            self._current = None
        return _finished(outcome, definition, claimed.attempt, saw_cancelled=context.saw_cancelled)

    def _find(self, run: Run) -> JobDefinition[Any, Any]:
        kind = run.claimed.kind
        definition = self._found.get(kind)
        if definition is None:
            definition = self._found[kind] = find_job(run.module, run.qualname, kind)
            self.send(Started())
        return definition

    def _cancel(self, attempt: AttemptKey) -> None:
        with self._lock:
            if self._cancelled == attempt:
                return  # a second CancelledError would interrupt the clean-up after the first
            self._cancelled = attempt
            if self._current is not None and self._current[0] == attempt:
                _ask_to_end(*self._current[1:])

    # What contexts of jobs use

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The runtime's event loop is in another process."""
        raise _not_here("the runtime's event loop")

    def progress(self, attempt: AttemptKey, progress: dict[str, Any]) -> None:  # noqa: ARG002 - one attempt runs
        """Pass a report on."""
        self.send(Reported(json.dumps(progress)))

    def children(self, *_: object, **__: object) -> Coroutine[Any, Any, list[JobRecord]]:
        """Refuse."""
        raise _not_here("ctx.map")

    @property
    def result_limit_bytes(self) -> int:
        """Is the worker's."""
        raise _not_here("the limit of results")

    def kept_step(self, *_: object, **__: object) -> Coroutine[Any, Any, str | None]:
        """Refuse."""
        raise _not_here("ctx.step")

    def keep_step(self, *_: object, **__: object) -> Coroutine[Any, Any, str]:
        """Refuse."""
        raise _not_here("ctx.step")

    def llm_reply(self, *_: object, **__: object) -> Coroutine[Any, Any, BatchResult | None]:
        """Refuse."""
        raise _not_here("ctx.llm_batch")

    def unknown_for_seconds(self, *_: object, **__: object) -> Coroutine[Any, Any, float]:
        """Refuse."""
        raise _not_here("unknown_for_seconds")


def _ask_to_end(context: JobContext, code: CodeRun) -> None:
    context.ask_to_end()
    code.cancel()


class PipeHandler(logging.Handler):
    """Sends log records to the worker, which knows where they belong."""

    def __init__(self, child: JobRunner) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter())  # the message, and a traceback: the worker adds the rest
        self._child = child

    def emit(self, record: logging.LogRecord) -> None:
        """Send one."""
        try:
            text = storable(self.format(record))
            self._child.send(Logged(record.name, record.levelno, text, record.created))
        except Exception:  # noqa: BLE001 - as every handler does: to stderr, which the worker reads as well
            self.handleError(record)


def _finished(outcome: Outcome, definition: JobDefinition[Any, Any], attempt: int, *, saw_cancelled: bool) -> Finished:
    match outcome:
        case Returned(result):
            return Finished(result, None, saw_cancelled)
        case Raised(exception):
            judgement = _with_own_delay(judge(exception, definition.retry_on), definition, attempt, exception)
            return Finished(None, judgement, saw_cancelled)
        case Judged(judgement):
            return Finished(None, judgement, saw_cancelled)


def _with_own_delay(
    judgement: Judgement, definition: JobDefinition[Any, Any], attempt: int, exception: BaseException
) -> Judgement:
    """Ask the job's own retry strategy here, where the exception is that it may look at."""
    if not isinstance(judgement, Failure) or not judgement.retryable or judgement.retry_delay_seconds is not None:
        return judgement
    if definition.retry is None:
        return judgement
    try:
        delay = next_delay_seconds(definition.retry, attempt, exception)
    except Exception:  # noqa: BLE001 - it may be anybody's code, and must not cost the job its outcome
        _log.exception("the retry strategy of job kind %s raised; the default one is used", definition.kind)
        return judgement
    return judgement._replace(retry_delay_seconds=delay)


def _not_here(what: str) -> JobDefinitionError:
    return JobDefinitionError(
        f"{what} is not there in a job with executor='process', which runs apart from the runtime: use it in a job "
        f"with executor 'async' or 'thread', which may spawn this one"
    )
