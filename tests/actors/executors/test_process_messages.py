"""What crosses between a worker and a job's process, and comes out as it went in."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.executors.process_messages import (
    Cancel,
    Finished,
    Logged,
    Message,
    Ready,
    Reported,
    Run,
    Started,
    decode,
    encode,
)
from callboard.actors.jobs.decide import Park, Snooze
from callboard.actors.jobs.judgement import Failure
from callboard.actors.jobs.state import WaitingOn
from callboard.actors.jobs.types import AttemptKey
from tests.actors.jobs.builders import JOB_ID, claimed

ATTEMPT = claimed(
    arguments='{"text":"ä\\u0000"}', timeout_seconds=1.5, deadline=datetime(2027, 1, 1, tzinfo=UTC), parent_id=JOB_ID
)
ERROR = {"type": "ValueError", "message": "no", "traceback": None}


@pytest.mark.parametrize(
    "message",
    [
        Run("app.jobs", "embed", ATTEMPT, 100),
        Cancel(AttemptKey(JOB_ID, 7)),
        Ready(),
        Started(),
        Reported('{"done": 1}'),
        Logged("app", 20, "hällo", 1.5),
        Finished('{"a":1}', None, saw_cancelled=False),
        Finished(None, None, saw_cancelled=True),
        Finished(None, Failure(ERROR), saw_cancelled=False),
        Finished(None, Failure(ERROR, retryable=False, retry_delay_seconds=1.5, was_cancelled=True), True),
        Finished(None, Snooze(30.0), saw_cancelled=False),
        Finished(None, Park(WaitingOn.CHILDREN), saw_cancelled=False),
    ],
    ids=repr,
)
def test_every_message_comes_out_as_it_went_in(message: Message) -> None:
    decoded = decode(encode(message))
    assert (type(decoded), decoded) == (type(message), message)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_crosses(text: str, number: float) -> None:
    assert decode(encode(Logged(text, 1, text, number))) == Logged(text, 1, text, number)
    assert decode(encode(Finished(text, None, saw_cancelled=False))) == Finished(text, None, saw_cancelled=False)


@pytest.mark.parametrize("data", [b"", b"\xff[]", b"pickle", b"\x00[]"])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a message of a job process|validation error"):
        decode(data)
