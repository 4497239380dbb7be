"""A write leaves the outbox only with its answer."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.jobs.decide import Transition
from callboard.actors.jobs.state import Reason, Status
from callboard.actors.jobs.types import Applied
from callboard.actors.outbox import Answer, Outbox, Write
from tests.actors.jobs.builders import claimed


def write(number: int) -> Write:
    job = claimed(UUID(int=number))
    return Write(Transition(job.id, Status.RUNNING, Status.COMPLETED, 1, Reason.SUCCEEDED), job, 0.0)


class Ear:
    """Hears answers; has some writes written again."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.instead: list[Write] = []

    def settle(self, writes: Sequence[Write], answers: Sequence[Answer]) -> list[Write]:
        assert numbers(list(writes)) == [answer.job_id.int for answer in answers if isinstance(answer, Applied)]
        self.answers += answers
        instead, self.instead = self.instead, []
        return instead


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def outbox(ear: Ear) -> Outbox:
    return Outbox(ear.settle)


def applied(number: int) -> Applied:
    return Applied(UUID(int=number), Status.COMPLETED)


def numbers(writes: list[Write]) -> list[int]:
    return [write.transition.job_id.int for write in writes]


def test_writes_are_taken_in_order_up_to_the_limit_and_answered_in_order(outbox: Outbox, ear: Ear) -> None:
    for number in range(3):
        outbox.put(write(number))
    assert numbers(outbox.take(2)) == [0, 1]
    assert len(outbox) == 3
    outbox.answer([applied(0), applied(1)])
    assert ear.answers == [applied(0), applied(1)]
    assert len(outbox) == 1
    assert numbers(outbox.take(10)) == [2]


def test_what_was_taken_and_not_answered_comes_first_again(outbox: Outbox) -> None:
    for number in range(4):
        outbox.put(write(number))
    outbox.take(2)
    outbox.put(write(4))
    outbox.untake()
    assert numbers(outbox.take(10)) == [0, 1, 2, 3, 4]
    assert len(outbox) == 5


def test_taking_from_an_empty_outbox_and_putting_back_nothing(outbox: Outbox) -> None:
    assert outbox.take(5) == []
    outbox.untake()
    outbox.answer([])
    assert len(outbox) == 0


def test_as_many_answers_as_writes(outbox: Outbox, ear: Ear) -> None:
    outbox.put(write(0))
    outbox.take(1)
    with pytest.raises(ValueError, match="0 answers to 1 writes"):
        outbox.answer([])
    assert (ear.answers, len(outbox)) == ([], 1)


def test_the_writer_is_told_of_each_put(outbox: Outbox) -> None:
    told: list[int] = []
    outbox.put(write(0))
    outbox.notify(lambda: told.append(len(outbox)))
    outbox.put(write(1))
    outbox.put(write(2))
    assert told == [2, 3]


def test_what_is_to_be_written_instead_waits_like_all_others(outbox: Outbox, ear: Ear) -> None:
    """As for a job whose outcome could not be stored: a plain error is."""
    outbox.put(write(0))
    outbox.take(1)
    ear.instead = [write(1)]
    outbox.answer([applied(0)])
    assert numbers(outbox.take(5)) == [1]


@given(st.lists(st.sampled_from(["put", "take", "answer", "untake"]), max_size=60), st.integers(1, 4))
def test_over_any_life_each_write_is_answered_once_and_in_order(life: list[str], limit: int) -> None:
    """The writer's rule is kept: it takes again only after it answered or put back."""
    ear, put, taken = Ear(), 0, []  # type: tuple[Ear, int, list[Write]]
    outbox = Outbox(ear.settle)
    for step in life:
        if step == "put":
            outbox.put(write(put))
            put += 1
        elif step == "take" and not taken:
            taken = list(outbox.take(limit))
        elif step == "answer":
            outbox.answer([applied(number) for number in numbers(taken)])
            taken = []
        elif step == "untake":
            outbox.untake()
            taken = []
        assert len(outbox) == put - len(ear.answers)
    outbox.untake()
    outbox.answer([applied(number) for number in numbers(outbox.take(put))])
    assert ear.answers == [applied(number) for number in range(put)]
