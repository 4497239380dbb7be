"""Return codes in words."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.exit_status import describe_exit


@pytest.mark.parametrize(
    ("returncode", "expected"),
    [
        (0, "ended with exit code 0"),
        (3, "ended with exit code 3"),
        (-signal.SIGTERM, "was killed by SIGTERM"),
        (-signal.SIGSEGV, "was killed by SIGSEGV (a crash in native code)"),
        (-200, "was killed by signal 200"),
    ],
)
def test_each_end_has_its_words(returncode: int, expected: str) -> None:
    assert describe_exit(returncode) == expected


@given(st.integers(-255, 255))
def test_every_return_code_is_told(returncode: int) -> None:
    assert str(abs(returncode)) in describe_exit(returncode) or signal.Signals(-returncode).name in describe_exit(
        returncode
    )
