"""Exceptions as data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.jobs import failure
from callboard.actors.jobs.call import Call, Raised
from callboard.actors.jobs.context import JobContext
from callboard.actors.jobs.definition import JobRegistry, job
from callboard.actors.jobs.failure import MESSAGE_LIMIT_CHARACTERS, TRACEBACK_LIMIT_CHARACTERS, describe, plain_error
from tests.actors.jobs.builders import Services, claimed


class Trouble(Exception):
    class Inner(Exception):
        pass


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_builtins_go_without_their_module_and_others_are_found_by_it() -> None:
    assert describe(ValueError("x"))["type"] == "ValueError"
    assert describe(Trouble.Inner())["type"] == f"{__name__}.Trouble.Inner"


def test_type_message_and_traceback() -> None:
    try:
        raise Trouble("the reason") from ValueError("the cause")
    except Trouble as trouble:
        described = describe(trouble)
    assert described["message"] == "the reason"
    assert "test_type_message_and_traceback" in described["traceback"]
    assert "ValueError: the cause" in described["traceback"]
    assert described["traceback"].endswith("Trouble: the reason\n")


def test_our_own_frames_above_the_function_are_left_out() -> None:
    @job(registry=JobRegistry())
    def function() -> None:
        raise Trouble("here")

    outcome = Call(function, JobContext(claimed(), Services()), claimed(), 1000).run_blocking()
    assert isinstance(outcome, Raised)
    traceback = describe(outcome.exception)["traceback"]
    assert 'raise Trouble("here")' in traceback
    assert failure._OWN_FOLDER not in traceback


def test_an_exception_that_cannot_say_what_it_is_still_has_a_type() -> None:
    described = describe(Mute())
    assert described["message"] == "<its __str__ raised RuntimeError>"
    assert described["type"].endswith("Mute")


def test_a_long_message_keeps_its_beginning_and_a_long_traceback_its_end() -> None:
    described = describe(Trouble("begin" + "x" * 100_000 + "end"))
    assert len(described["message"]) == MESSAGE_LIMIT_CHARACTERS
    assert described["message"].startswith("begin")
    assert len(described["traceback"]) == TRACEBACK_LIMIT_CHARACTERS
    assert described["traceback"].endswith("end\n")


@given(st.text())
def test_whatever_the_message_it_can_be_stored(text: str) -> None:
    described = describe(Trouble(text))
    for part in described.values():
        assert "\0" not in part
        part.encode("utf-8")


@pytest.mark.parametrize(("text", "stored"), [("a\0b", "a\\0b"), ("\ud800", "\\ud800"), ("ä\U0001f680", "ä\U0001f680")])
def test_what_the_database_cannot_hold_is_written_out(text: str, stored: str) -> None:
    assert describe(Trouble(text))["message"] == stored


def test_an_error_without_an_exception() -> None:
    assert plain_error("T", "m") == {"type": "T", "message": "m", "traceback": None}
