"""What an admin socket takes for a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.supervision.admin_messages import (
    AdminError,
    RestartRequest,
    StopRequest,
    TreeRequest,
    read_request,
    written,
)

names = st.text(min_size=1, max_size=1000)


@given(st.one_of(st.just(TreeRequest()), st.builds(StopRequest, name=names), st.builds(RestartRequest, name=names)))
def test_a_request_is_one_line_and_comes_back_as_it_was(request) -> None:
    line = written(request)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert read_request(line) == request


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (b"", "JSON"),
        (b"[]\n", "object"),
        (b"{}\n", "command"),
        (b'{"command": "dance"}', "'tree', 'stop', 'restart'"),
        (b'{"command": "stop"}', "stop.name: Field required"),
        (b'{"command": "stop", "name": ""}', "stop.name"),
        (b'{"command": "tree", "depth": 3}', "tree.depth"),
        (b'{"protocol": 2, "command": "tree"}', "tree.protocol"),
        (b'{"command": "stop", "name": 5}', "stop.name"),
        (b"\xff\n", "JSON"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(line: bytes, part: str) -> None:
    error = read_request(line)
    assert isinstance(error, AdminError)
    assert error.code == "bad_request"
    assert part in error.message


@given(st.binary(max_size=200))
def test_no_line_raises(line: bytes) -> None:
    assert read_request(line) is not None
