"""Connections that are given up when the server does not answer.

A cut network closes no connection by itself. TCP finds out what its keepalives can see; a proxy that holds both ends
and forwards nothing, or a server process that is stopped, it does not see. So every single wait for the server has a
limit here, whoever waits: for a statement, a COMMIT, a step of COPY.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final, TypeVar

import psycopg

_Result = TypeVar("_Result")

_ANSWER_TRAVELS_SECONDS: Final = 2.0
"""What an answer may take beyond the statement's own limit, at which a server that can be reached ends it."""


class NoAnswer(psycopg.OperationalError):
    """The server did not answer in time; the connection is closed."""


def answer_limit_seconds(statement_timeout_seconds: float) -> float:
    """Return how long to wait for the answer to one statement that the server itself ends after its own limit."""
    return statement_timeout_seconds + _ANSWER_TRAVELS_SECONDS


def bounded(
    steps: Generator[Any, Any, _Result], limit_seconds: float, monotonic: Callable[[], float] = time.monotonic
) -> Generator[Any, Any, _Result]:
    """Pass a conversation of psycopg's on, and end it when it takes longer than the limit.

    psycopg resumes it at least every tenth of a second, with a false value where nothing has come.

    Raises:
        NoAnswer: the limit has passed.
    """
    try:
        wanted = next(steps)
        ends = monotonic() + limit_seconds
        while True:
            ready = yield wanted
            if not ready and monotonic() > ends:
                steps.close()
                raise NoAnswer(
                    f"no answer within {limit_seconds:g} s: the network is cut, or the server hangs; the connection is "
                    f"given up"
                )
            wanted = steps.send(ready)
    except StopIteration as end:
        result: _Result = end.value
        return result


class BoundedAsyncConnection(psycopg.AsyncConnection[Any]):
    """psycopg's, closed when one answer takes longer than ``answer_limit_seconds`` (default: no limit)."""

    answer_limit_seconds: float = math.inf

    async def wait(self, gen: Generator[Any, Any, _Result], *args: Any, **options: Any) -> _Result:
        """Wait for the server, for as long as the limit allows."""
        try:
            return await super().wait(bounded(gen, self.answer_limit_seconds), *args, **options)
        except NoAnswer:
            await self.close()
            raise

    @contextlib.contextmanager
    def answering_within(self, limit_seconds: float) -> Iterator[None]:
        """Set another limit for the answers within the block."""
        usual, self.answer_limit_seconds = self.answer_limit_seconds, limit_seconds
        try:
            yield
        finally:
            self.answer_limit_seconds = usual


class BoundedConnection(psycopg.Connection[Any]):
    """psycopg's blocking one, closed when one answer takes longer than ``answer_limit_seconds`` (default: no limit)."""

    answer_limit_seconds: float = math.inf

    def wait(self, gen: Generator[Any, Any, _Result], *args: Any, **options: Any) -> _Result:
        """Wait for the server, for as long as the limit allows."""
        try:
            return super().wait(bounded(gen, self.answer_limit_seconds), *args, **options)
        except NoAnswer:
            self.close()
            raise


async def connect_bounded(
    conninfo: str = "", *, answer_limit_seconds: float, **arguments: Any
) -> BoundedAsyncConnection:
    """Connect; ``arguments`` are psycopg's."""
    connection = await BoundedAsyncConnection.connect(conninfo, **arguments)
    connection.answer_limit_seconds = answer_limit_seconds
    return connection
