"""The newest report wins, and the last one is stored before the attempt ends."""

from uuid import UUID

import pytest

from callboard.actors.jobs.types import AttemptKey
from callboard.actors.progress import ProgressBoard

ATTEMPT, OTHER = AttemptKey(UUID(int=1), 1), AttemptKey(UUID(int=2), 1)


@pytest.fixture
def board() -> ProgressBoard:
    return ProgressBoard()


def test_the_newest_report_replaces_older_ones(board: ProgressBoard) -> None:
    board.report(ATTEMPT, {"done": 1})
    board.report(ATTEMPT, {"done": 2})
    board.report(OTHER, {"done": 3})
    assert board.take() == {ATTEMPT: {"done": 2}, OTHER: {"done": 3}}


def test_a_report_waits_until_it_is_stored(board: ProgressBoard) -> None:
    assert not board.waits(ATTEMPT)
    board.report(ATTEMPT, {"done": 1})
    assert board.waits(ATTEMPT)
    board.take()
    assert board.waits(ATTEMPT)
    board.flushed(ATTEMPT)
    assert not board.waits(ATTEMPT)
    assert board.take() == {}


def test_what_could_not_be_stored_is_taken_again_unless_there_is_newer(board: ProgressBoard) -> None:
    board.report(ATTEMPT, {"done": 1})
    board.report(OTHER, {"done": 1})
    board.take()
    board.report(ATTEMPT, {"done": 2})
    assert board.take() == {ATTEMPT: {"done": 2}, OTHER: {"done": 1}}


def test_an_ending_attempt_goes_on_when_its_report_is_stored(board: ProgressBoard) -> None:
    happened: list[str] = []
    board.on_flush(lambda: happened.append("hurry"))
    board.report(ATTEMPT, {"done": 1})
    board.flush_before(ATTEMPT, lambda: happened.append("go on"))
    assert happened == ["hurry"]
    assert board.hurried
    board.take()
    board.flushed(OTHER)
    assert happened == ["hurry"]
    board.flushed(ATTEMPT)
    assert happened == ["hurry", "go on"]
    assert not board.hurried
    board.flushed(ATTEMPT)
    assert happened == ["hurry", "go on"]


def test_an_ending_attempt_waits_for_a_report_made_while_the_one_before_was_stored(board: ProgressBoard) -> None:
    happened: list[str] = []
    board.report(ATTEMPT, {"done": 1})
    board.take()
    board.report(ATTEMPT, {"done": 2})
    board.flush_before(ATTEMPT, lambda: happened.append("go on"))
    board.flushed(ATTEMPT)
    assert happened == []
    assert board.take() == {ATTEMPT: {"done": 2}}
    board.flushed(ATTEMPT)
    assert happened == ["go on"]


@pytest.mark.parametrize("taken", [False, True])
def test_nothing_is_left_of_an_attempt_that_ended(taken: bool, board: ProgressBoard) -> None:
    board.report(ATTEMPT, {"done": 1})
    board.flush_before(ATTEMPT, lambda: pytest.fail("a forgotten attempt went on"))
    if taken:
        board.take()
    board.forget([ATTEMPT])
    assert not board.waits(ATTEMPT)
    assert not board.hurried
    assert board.take() == {}
    board.flushed(ATTEMPT)
