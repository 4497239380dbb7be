"""A write leaves the outbox only with its answer."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.jobs.decide import Transition
from callboard.actors.jobs.state import Reason, Status
from callboard.actors.jobs.types import Applied
from callboard.actors.outbox import Answer, Outbox, Write


def write(number: int, answers: list[Answer]) -> Write:
    transition = Transition(UUID(int=number), Status.RUNNING, Status.COMPLETED, 1, Reason.SUCCEEDED)
    return Write(transition, answers.append)


def applied(number: int) -> Applied:
    return Applied(UUID(int=number), Status.COMPLETED)


def numbers(writes: list[Write]) -> list[int]:
    return [write.transition.job_id.int for write in writes]


def test_writes_are_taken_in_order_up_to_the_limit_and_answered_in_order() -> None:
    outbox, answers = Outbox(), []  # type: tuple[Outbox, list[Answer]]
    for number in range(3):
        outbox.put(write(number, answers))
    assert numbers(outbox.take(2)) == [0, 1]
    assert len(outbox) == 3
    outbox.answer([applied(0), applied(1)])
    assert answers == [applied(0), applied(1)]
    assert len(outbox) == 1
    assert numbers(outbox.take(10)) == [2]


def test_what_was_taken_and_not_answered_comes_first_again() -> None:
    outbox = Outbox()
    for number in range(4):
        outbox.put(write(number, []))
    outbox.take(2)
    outbox.put(write(4, []))
    outbox.untake()
    assert numbers(outbox.take(10)) == [0, 1, 2, 3, 4]
    assert len(outbox) == 5


def test_taking_from_an_empty_outbox_and_putting_back_nothing() -> None:
    outbox = Outbox()
    assert outbox.take(5) == []
    outbox.untake()
    outbox.answer([])
    assert len(outbox) == 0


def test_as_many_answers_as_writes() -> None:
    outbox = Outbox()
    outbox.put(write(0, []))
    outbox.take(1)
    with pytest.raises(ValueError, match="shorter"):
        outbox.answer([])


def test_the_writer_is_told_of_each_put() -> None:
    outbox, told = Outbox(), []  # type: tuple[Outbox, list[int]]
    outbox.put(write(0, []))
    outbox.notify(lambda: told.append(len(outbox)))
    outbox.put(write(1, []))
    outbox.put(write(2, []))
    assert told == [2, 3]


def test_a_write_put_while_answers_go_out_is_not_lost() -> None:
    """As a job actor does whose outcome could not be stored: it writes a plain error instead."""
    outbox = Outbox()
    outbox.put(write(0, [])._replace(on_answer=lambda answer: outbox.put(write(1, []))))
    outbox.take(1)
    outbox.answer([applied(0)])
    assert numbers(outbox.take(5)) == [1]


@given(st.lists(st.sampled_from(["put", "take", "answer", "untake"]), max_size=60), st.integers(1, 4))
def test_over_any_life_each_write_is_answered_once_and_in_order(life: list[str], limit: int) -> None:
    """The writer's rule is kept: it takes again only after it answered or put back."""
    outbox, answers, put, taken = Outbox(), [], 0, []  # type: tuple[Outbox, list[Answer], int, list[Write]]
    for step in life:
        if step == "put":
            outbox.put(write(put, answers))
            put += 1
        elif step == "take" and not taken:
            taken = list(outbox.take(limit))
        elif step == "answer":
            outbox.answer([applied(number) for number in numbers(taken)])
            taken = []
        elif step == "untake":
            outbox.untake()
            taken = []
        assert len(outbox) == put - len(answers)
    outbox.untake()
    outbox.answer([applied(number) for number in numbers(outbox.take(put))])
    assert answers == [applied(number) for number in range(put)]


def test_a_defect_where_one_answer_is_heard_keeps_none_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def deaf(answer: Answer) -> None:
        raise ZeroDivisionError("a defect of ours")

    outbox, answers = Outbox(), []  # type: tuple[Outbox, list[Answer]]
    for number in range(3):
        outbox.put(write(number, answers)._replace(**({"on_answer": deaf} if number == 1 else {})))
    outbox.take(3)
    outbox.answer([applied(0), applied(1), applied(2)])
    assert answers == [applied(0), applied(2)]
    assert "a defect of ours" in caplog.text
    assert len(outbox) == 0
