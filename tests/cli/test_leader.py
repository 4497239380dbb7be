"""`callboard leader`."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import psycopg
import pytest

from tests.support.waiting import wait_until

from .support import Database, Invoke, document, error_of, succeeded

CAMPAIGN = "SELECT won FROM callboard.campaign(%s, 9, 100)"


@pytest.fixture
def session(database: Database) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.url, autocommit=True) as connection:
        yield connection


def test_nobody_leads(invoke: Invoke, database: Database) -> None:
    shown = document(invoke("leader", "show", "--json"))
    assert (shown["leader"], shown["term"], shown["lock_held"], shown["standbys"]) == (None, 0, False, 0)
    assert succeeded(invoke("leader", "show")).startswith("nobody leads; the last term was 0\n")
    refused = invoke("leader", "step-down")
    assert refused.exit_code == 1
    assert "nobody leads (the last term was 0)" in error_of(refused)


def test_the_leader_is_shown(invoke: Invoke, session: psycopg.Connection) -> None:
    session.execute(CAMPAIGN, ["ada"])
    shown = document(invoke("leader", "show", "--json"))
    assert (shown["leader"], shown["term"], shown["lock_held"]) == ("ada", 1, True)
    assert 0 <= shown["silent_seconds"] < 9 == shown["silence_limit_seconds"]
    text = succeeded(invoke("leader", "show"))
    assert text.splitlines()[0].split() == ["leader", "ada"]


def test_a_leader_whose_session_has_ended_is_shown_without_the_lock(
    invoke: Invoke, database: Database, session: psycopg.Connection
) -> None:
    session.execute(CAMPAIGN, ["ada"])
    session.close()
    wait_until(lambda: not document(invoke("leader", "show", "--json"))["lock_held"])


def test_the_leader_hands_over(invoke: Invoke, session: psycopg.Connection) -> None:
    session.execute(CAMPAIGN, ["ada"])
    done = Event()

    def lead() -> None:
        """Do as a leader does that is alone."""
        while not done.is_set():
            if session.execute("SELECT callboard.prove_leadership(1)").fetchone() == (True,):
                session.execute("SELECT callboard.resign_leadership(1)")
                session.execute("SELECT pg_advisory_unlock(callboard.leadership_key('leader'))")
                session.execute(CAMPAIGN, ["ada"])
                return

    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(lead)
        try:
            result = document(invoke("leader", "step-down", "--json"))
        finally:
            done.set()
            leading.result(timeout=10)
    assert (result["stepped_down"], result["leader"], result["term"]) == ("ada", "ada", 2)


def test_a_leader_that_does_not_hand_over_in_time_is_an_error(invoke: Invoke, session: psycopg.Connection) -> None:
    session.execute(CAMPAIGN, ["ada"])
    refused = invoke("leader", "step-down", "--timeout", 0.2)
    assert refused.exit_code == 69
    assert "ada was asked to hand over term 1, and no other has begun within 0.2 s" in error_of(refused)
    assert invoke("leader", "step-down", "--timeout", 0).exit_code == 2
