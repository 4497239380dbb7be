"""SIGINT and SIGTERM, counted."""

import asyncio
import os
import signal

import pytest

from callboard.cli.shutdown import ShutdownSignals


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_first_stops_and_the_second_hurries(number: signal.Signals) -> None:
    hurried = asyncio.Event()
    with ShutdownSignals() as signals:
        waiting = asyncio.create_task(signals.wait_stop())
        await asyncio.sleep(0)
        assert not signals.stop_requested
        send(number)
        await waiting
        assert signals.stop_requested
        signals.on_second(hurried.set)
        assert not hurried.is_set()
        send(number)
        await hurried.wait()


async def test_one_that_came_early_is_not_lost() -> None:
    hurried: list[str] = []
    with ShutdownSignals() as signals:
        send(signal.SIGTERM)
        await signals.wait_stop()
        send(signal.SIGINT)
        signals.on_second(lambda: hurried.append("now"))
        assert hurried == ["now"]
        await asyncio.sleep(0)


def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with ShutdownSignals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
