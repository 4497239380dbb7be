"""What is said over an admin socket: one line of JSON each way, then the connection is closed. See docs/admin.md."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

PROTOCOL: Final = 1
REQUEST_LIMIT_BYTES: Final = 64 * 1024
"""A longer request is refused unread."""
ANSWER_LIMIT_BYTES: Final = 64 * 2**20
"""A client reads no more than that."""

ErrorCode: TypeAlias = Literal[
    "bad_request", "busy", "not_found", "ambiguous", "refused", "start_failed", "unanswered", "stopping", "failed"
]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Literal[1] = PROTOCOL


class TreeRequest(_Message):
    """Show all actors."""

    command: Literal["tree"] = "tree"


class StopRequest(_Message):
    """Terminate a supervisor's child, and what depends on it. It stays down."""

    command: Literal["stop"] = "stop"
    name: str = Field(min_length=1, max_length=1000)


class RestartRequest(_Message):
    """Terminate a supervisor's child, and what depends on it, and start them again."""

    command: Literal["restart"] = "restart"
    name: str = Field(min_length=1, max_length=1000)


AdminRequest: TypeAlias = TreeRequest | StopRequest | RestartRequest

_REQUEST: Final[TypeAdapter[AdminRequest]] = TypeAdapter(Annotated[AdminRequest, Field(discriminator="command")])


class AdminError(BaseModel):
    """Why nothing came of a request."""

    code: ErrorCode
    message: str


class AdminAnswer(BaseModel):
    """The answer to a request: a result or an error."""

    protocol: Literal[1] = PROTOCOL
    result: dict[str, Any] | None = None
    error: AdminError | None = None


def read_request(line: bytes) -> AdminRequest | AdminError:
    """Read one line from a client; an error says what is wrong with it."""
    try:
        return _REQUEST.validate_json(line)
    except ValidationError as error:
        details = "; ".join(
            f"{'.'.join(map(str, detail['loc'])) or 'request'}: {detail['msg']}"
            for detail in error.errors(include_url=False, include_context=False, include_input=False)
        )
        return AdminError(code="bad_request", message=f"{details}; expected one line of JSON as docs/admin.md says")


def written(message: AdminRequest | AdminAnswer) -> bytes:
    """Return a message as one line."""
    return message.model_dump_json(exclude_none=True).encode() + b"\n"


def read_answer(line: bytes) -> AdminAnswer:
    """Read one line from a server.

    Raises:
        pydantic.ValidationError: it is no answer of this protocol.
    """
    return AdminAnswer.model_validate_json(line)
