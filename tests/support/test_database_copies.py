"""Copies made ahead: each is a test's own, goes when it is over, and what fails on the thread is not lost there."""

from collections.abc import Iterator

import pytest
from psycopg import sql

from callboard.actors.errors import StoreError
from tests.support.database_copies import DatabaseCopies
from tests.support.postgres import Server, another_connection, unique_name


@pytest.fixture
def own_connection(server: Server) -> Iterator[Server]:
    with another_connection(server) as own:
        yield own


def exists(server: Server, name: str) -> bool:
    return bool(server.connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone())


def test_copies_are_apart_and_go_when_they_are_given_back_or_left(
    server: Server, template_database: str, own_connection: Server
):
    copies = DatabaseCopies(own_connection, template_database, ahead=1)
    first, second = copies.take(), copies.take()
    assert first != second
    copies.drop(first)
    copies.rest()
    assert (exists(server, first), exists(server, second)) == (False, True)
    [left] = [copy.result() for copy in copies._ready]
    copies.drop(second)
    copies.close()
    assert [exists(server, name) for name in (second, left)] == [False, False]


def test_a_copy_that_cannot_be_made_fails_who_takes_it(own_connection: Server):
    copies = DatabaseCopies(own_connection, unique_name(), ahead=0)
    with pytest.raises(StoreError, match="does not exist"):
        copies.take()
    copies.close()


def test_a_drop_that_fails_fails_the_next_one(server: Server, template_database: str, own_connection: Server):
    copies = DatabaseCopies(own_connection, template_database, ahead=0)
    name = copies.take()
    server.connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(name)))
    copies.drop(name)
    copies.rest()
    with pytest.raises(StoreError, match="cannot drop a template database"):
        copies.take()
    copies.close()
    server.connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(name)))
    server.drop_database(name)
