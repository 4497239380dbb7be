"""Hosts that do not answer are left alone, and tried again one callback at a time."""

import pytest

from callboard.actors.callbacks.attempts import Attempt
from callboard.actors.callbacks.hosts import (
    FAILURES,
    LONGEST_PAUSE_SECONDS,
    PAUSE_SECONDS,
    PROBE_WAIT_SECONDS,
    HostBreakers,
    host_of,
    speaks_against_host,
)

SILENCE, GOOD = Attempt(1, error="no answer in time"), Attempt(1, 200)


def opened(now: float = 0.0) -> HostBreakers:
    hosts = HostBreakers()
    for _ in range(FAILURES):
        assert hosts.wait_seconds("dead", now) is None
        hosts.attempted("dead", SILENCE, now)
    return hosts


@pytest.mark.parametrize(
    ("attempt", "against"),
    [
        (SILENCE, True),
        *((Attempt(1, code), True) for code in (429, 502, 503, 504)),
        *((Attempt(1, code), False) for code in (200, 302, 400, 404, 410, 500)),
        (Attempt(1, error="private", blocked=True), False),
    ],
)
def test_what_speaks_against_a_host(attempt: Attempt, against: bool) -> None:
    assert speaks_against_host(attempt) is against


def test_a_host_is_a_name_and_a_port() -> None:
    assert host_of("https://Example.com:8443/done?x=1") == "example.com:8443"
    assert host_of("https://[2606:4700::1111]/") == "[2606:4700::1111]"
    assert host_of("https://[not an address/") == ""


def test_after_so_many_failures_in_a_row_a_host_is_left_alone_and_no_other_one() -> None:
    hosts = opened()
    assert hosts.wait_seconds("dead", 1) == PAUSE_SECONDS - 1
    assert hosts.wait_seconds("other", 1) is None
    assert hosts.silent(1) == 1


def test_failures_that_are_not_in_a_row_leave_it_closed() -> None:
    hosts = HostBreakers()
    for attempt in ([SILENCE] * (FAILURES - 1) + [GOOD]) * 3:
        hosts.attempted("flaky", attempt, 0)
    assert hosts.wait_seconds("flaky", 0) is None


def test_one_callback_tries_whether_the_host_is_back() -> None:
    hosts = opened()
    assert hosts.wait_seconds("dead", PAUSE_SECONDS) is None
    assert hosts.wait_seconds("dead", PAUSE_SECONDS) == PROBE_WAIT_SECONDS
    hosts.attempted("dead", GOOD, PAUSE_SECONDS + 1)
    assert [hosts.wait_seconds("dead", PAUSE_SECONDS + 1) for _ in range(20)] == [None] * 20
    assert hosts.silent(PAUSE_SECONDS + 1) == 0


def test_the_pause_doubles_up_to_its_bound() -> None:
    hosts, now, pauses = opened(), PAUSE_SECONDS, []
    for _ in range(6):
        assert hosts.wait_seconds("dead", now) is None
        hosts.attempted("dead", SILENCE, now)
        pauses.append(hosts.wait_seconds("dead", now))
        now += pauses[-1]
    assert pauses == [120, 240, 480, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]


def test_attempts_that_began_before_it_opened_lengthen_nothing() -> None:
    hosts = opened()
    hosts.attempted("dead", SILENCE, 30)
    assert hosts.wait_seconds("dead", 30) == PAUSE_SECONDS - 30


def test_a_probe_that_was_blocked_says_nothing() -> None:
    hosts = opened()
    assert hosts.wait_seconds("dead", PAUSE_SECONDS) is None
    hosts.attempted("dead", Attempt(1, error="private", blocked=True), PAUSE_SECONDS)
    assert hosts.wait_seconds("dead", PAUSE_SECONDS) is None
