"""One call of a job's function: arguments from text, the result to text, whatever happens as an outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import pydantic
from pydantic_core import PydanticSerializationError

from callboard.actors.errors import InvalidResult, PayloadTooLarge

from .context import JobContext
from .definition import JobDefinition
from .judgement import Failure, Judgement
from .types import ClaimedJob


@dataclass(slots=True)  # not a named tuple, which is slower to make, and each call makes one
class Returned:
    """The function returned."""

    result: str | None
    """Its value as JSON text."""


class Raised(NamedTuple):
    """The function raised, or its arguments or result did not fit."""

    exception: BaseException


class Judged(NamedTuple):
    """The function raised in another process, and this is what it means."""

    judgement: Judgement


Outcome: TypeAlias = Returned | Raised | Judged


class Call:
    """A function with its arguments, to be run once by an executor."""

    __slots__ = ("claimed", "context", "definition", "result_limit_bytes")

    def __init__(
        self, definition: JobDefinition[..., Any], context: JobContext, claimed: ClaimedJob, result_limit_bytes: int
    ) -> None:
        self.definition = definition
        self.context = context
        self.claimed = claimed
        self.result_limit_bytes = result_limit_bytes

    async def run(self, finished: Callable[[Outcome], None]) -> None:
        """Await a coroutine function, then tell how it ended. Whatever it raises is its outcome."""
        try:
            args, kwargs = self.definition.signature.decode(self.claimed.arguments, self.context)
            returned = Returned(self._encode(await self.definition.function(*args, **kwargs)))
        # SystemExit and KeyboardInterrupt too: asyncio raises those two out of the event loop, and a job's sys.exit()
        # must not end the worker. A worker's own signals are no exceptions, see callboard/cli/shutdown.py.
        except BaseException as exception:  # noqa: BLE001
            finished(Raised(exception))
        else:
            finished(returned)

    def run_blocking(self) -> Outcome:
        """Call a plain function. Never raises."""
        try:
            args, kwargs = self.definition.signature.decode(self.claimed.arguments, self.context)
            return Returned(self._encode(self.definition.function(*args, **kwargs)))
        except BaseException as exception:  # noqa: BLE001 - as above
            return Raised(exception)

    def _encode(self, value: Any) -> str | None:
        try:
            text = self.definition.signature.encode_result(value)
        except (pydantic.ValidationError, PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
            raise InvalidResult(
                f"job {self.definition.kind} returned {type(value).__name__}, which cannot be stored: {error}. "
                f"Return what its annotation says, in types that pydantic can write as JSON"
            ) from error
        if text is not None and len(text) > self.result_limit_bytes // 4:
            size = len(text.encode())
            if size > self.result_limit_bytes:
                raise PayloadTooLarge(
                    f"job {self.definition.kind} returned {size:,} bytes of JSON; at most {self.result_limit_bytes:,} "
                    f"are stored (CALLBOARD_RESULT_LIMIT_BYTES). Store it elsewhere and return where"
                )
        return text


def was_cancelled(outcome: Outcome) -> bool:
    """Tell whether the code ended because it was cancelled."""
    match outcome:
        case Raised(exception):
            return isinstance(exception, asyncio.CancelledError)
        case Judged(Failure(was_cancelled=True)):
            return True
        case _:
            return False
