"""The guards that every test runs under must themselves be able to fail."""

import asyncio
import threading

import psycopg
import pytest

from tests.support.leaks import assert_no_new_tasks, assert_no_new_threads
from tests.support.postgres import assert_no_connections


def test_a_thread_that_stays_is_named():
    done = threading.Event()
    before = threading.enumerate()
    thread = threading.Thread(target=done.wait, name="forgotten")
    thread.start()
    with pytest.raises(AssertionError, match=r"left threads running:\n.*forgotten"):
        assert_no_new_threads(before, timeout_seconds=0)
    done.set()
    assert_no_new_threads(before)


async def test_a_task_that_stays_is_named_and_cancelled():
    before = asyncio.all_tasks()
    task = asyncio.create_task(asyncio.Event().wait(), name="forgotten")
    with pytest.raises(AssertionError, match=r"left asyncio tasks running:\n.*forgotten"):
        await assert_no_new_tasks(before, timeout_seconds=0)
    assert task.cancelled()


async def test_a_task_that_is_just_ending_is_no_leak():
    before = asyncio.all_tasks()
    ended = asyncio.create_task(asyncio.sleep(0))
    await assert_no_new_tasks(before)
    assert ended.done()


def test_a_connection_that_stays_is_named(server, empty_database_url):
    with psycopg.connect(empty_database_url, application_name="forgotten") as connection:
        database = connection.info.dbname
        with pytest.raises(AssertionError, match=r"left connections to its database open:\n.*forgotten"):
            assert_no_connections(server, database, timeout_seconds=0)
    assert_no_connections(server, database)


def test_each_test_has_a_database_of_its_own(empty_database_url, server):
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        assert connection.info.dbname not in server.url


def test_a_migrated_database_has_the_schema(database_url):
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM pg_tables WHERE schemaname = 'callboard'").fetchone() == (
            True,
        )


def test_tests_that_use_a_server_are_marked(request, server):
    assert request.node.get_closest_marker("postgres") is not None
