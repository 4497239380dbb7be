"""The messages on the control pipe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.supervision.processes.control import (
    LINE_LIMIT_BYTES,
    Assignment,
    Beat,
    ControlError,
    Failed,
    Greeting,
    Hurry,
    Notice,
    Prepared,
    Ready,
    Retire,
    decode,
    encode,
    split,
)

json_values = st.none() | st.integers() | st.text(max_size=10) | st.lists(st.integers(), max_size=3)
documents = st.dictionaries(st.text(max_size=5), json_values, max_size=3)
messages = (
    st.builds(Greeting, documents)
    | st.builds(Assignment, documents)
    | st.builds(Notice, documents)
    | st.builds(Failed, st.text(max_size=20))
    | st.sampled_from([Retire(), Hurry(), Prepared(), Ready(), Beat()])
)


@given(st.lists(messages, max_size=6), st.integers(min_value=1, max_value=50))
def test_messages_arrive_whole_and_in_order_however_the_bytes_come(sent, size) -> None:
    stream = b"".join(map(encode, sent))
    received, rest = [], b""
    for start in range(0, len(stream), size):
        lines, rest = split(rest + stream[start : start + size])
        received += map(decode, lines)
    assert received == sent
    assert [type(message) for message in received] == [type(message) for message in sent]
    assert rest == b""


@pytest.mark.parametrize("line", [b"", b"hello", b"[]", b'["unknown"]', b'["failed"]', b'{"ready": 1}', b"\xff", b"3"])
def test_what_is_no_message_is_refused(line: bytes) -> None:
    with pytest.raises(ControlError, match="over the control pipe; expected one of greeting, assignment, retire"):
        decode(line)


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(ControlError, match="no message is so long"):
        split(b"x" * (LINE_LIMIT_BYTES + 1))
