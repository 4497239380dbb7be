"""The table of the state machine, and its picture in the docs."""

from pathlib import Path

import pytest

from callboard.actors.jobs.state import (
    EDGES,
    TERMINAL,
    UNCOUNTED,
    UNFINISHED,
    Reason,
    Status,
    allowed,
    diagram,
    sources,
)

PAGE = Path(__file__).parents[3] / "docs" / "state-machine.md"

WANTED_EDGES = {
    (None, "created"),
    (None, "pending"),
    ("created", "pending"),
    ("created", "cancelled"),
    ("created", "failed"),
    ("pending", "running"),
    ("pending", "cancelled"),
    ("pending", "failed"),
    ("running", "completed"),
    ("running", "failed"),
    ("running", "cancelled"),
    ("running", "pending"),
}
"""As the design lists them, written down a second time so that a change of the table is noticed."""


def test_exactly_the_edges_of_the_design_exist() -> None:
    assert set(EDGES) == WANTED_EDGES


def test_every_edge_has_a_reason_and_every_reason_an_edge() -> None:
    assert all(EDGES.values())
    assert frozenset().union(*EDGES.values()) == frozenset(Reason)


@pytest.mark.parametrize("status", Status)
def test_nothing_leaves_a_terminal_status_and_something_leaves_every_other(status: Status) -> None:
    leaves = [target for source, target in EDGES if source is status]
    assert (leaves == []) == status.is_terminal
    assert status.is_terminal == (status in TERMINAL) == (status not in UNFINISHED)


@pytest.mark.parametrize("status", Status)
def test_every_status_can_be_reached_from_the_spawn(status: Status) -> None:
    reached: set[Status | None] = {None}
    for _ in Status:
        reached |= {target for source, target in EDGES if source in reached}
    assert status in reached


def test_only_attempts_that_go_back_to_the_queue_are_given_back() -> None:
    assert EDGES[Status.RUNNING, Status.PENDING] >= UNCOUNTED
    assert not UNCOUNTED & {Reason.ERROR, Reason.TIMEOUT, Reason.LEASE_EXPIRED}


def test_allowed_wants_the_edge_and_the_reason() -> None:
    assert allowed(Status.RUNNING, Status.COMPLETED, Reason.SUCCEEDED)
    assert not allowed(Status.RUNNING, Status.COMPLETED, Reason.ERROR)
    assert not allowed(Status.COMPLETED, Status.RUNNING, Reason.CLAIMED)
    assert not allowed(None, Status.RUNNING, Reason.CLAIMED)


def test_sources_are_the_left_sides_without_the_spawn() -> None:
    assert sources(Status.PENDING) == {Status.CREATED, Status.RUNNING}
    assert sources(Status.CANCELLED) == UNFINISHED
    assert sources(Status.CREATED) == frozenset()


def test_the_diagram_in_the_docs_is_the_one_of_the_table() -> None:
    assert f"```mermaid\n{diagram()}\n```" in PAGE.read_text(encoding="utf-8"), (
        "docs/state-machine.md is out of date: put the text of "
        "`python -c 'from callboard.actors.jobs.state import diagram; print(diagram())'` into its mermaid block"
    )
