from __future__ import annotations

import asyncio
import threading

import pykka
import pytest

from callboard.actors.future import EventFuture
from callboard.actors.system import ActorSystem
from tests.actors.players import Waiter


def test_threads_that_wait_wake_up() -> None:
    future: EventFuture[str] = EventFuture()
    got: list[str] = []
    waiters = [threading.Thread(target=lambda: got.append(future.get(timeout=10))) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    future.set("value")
    for waiter in waiters:
        waiter.join()
    assert got == ["value"] * 3


async def test_several_tasks_await_one_future() -> None:
    future: EventFuture[str] = EventFuture()
    tasks = [asyncio.ensure_future(future) for _ in range(3)]
    await asyncio.sleep(0)
    threading.Thread(target=future.set, args=("value",)).start()
    assert await asyncio.gather(*tasks) == ["value"] * 3


async def test_a_cancelled_waiter_does_not_spoil_the_future() -> None:
    future: EventFuture[str] = EventFuture()
    cancelled, patient = asyncio.ensure_future(future), asyncio.ensure_future(future)
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.sleep(0)
    future.set("value")
    assert await patient == "value"
    assert cancelled.cancelled()


async def test_derived_futures_can_be_awaited_before_their_source_is_set() -> None:
    numbers: EventFuture[list[int]] = EventFuture()
    derived = [
        numbers.map(len),
        numbers.filter(lambda number: number > 1),
        numbers.reduce(lambda total, number: total + number, 0),
        numbers.join(numbers),
        numbers.map(len).map(str),
    ]
    tasks = [asyncio.ensure_future(future) for future in derived]
    await asyncio.sleep(0)
    numbers.set([1, 2, 3])
    assert await asyncio.gather(*tasks) == [3, [2, 3], 6, [[1, 2, 3], [1, 2, 3]], "3"]


async def test_awaiting_a_hook_of_the_users_own_does_not_block_the_loop() -> None:
    let_go = threading.Event()
    future: EventFuture[bool] = EventFuture()
    future.set_get_hook(let_go.wait)
    task = asyncio.ensure_future(future)
    await asyncio.sleep(0)
    let_go.set()
    assert await task is True
    await asyncio.get_running_loop().shutdown_default_executor()


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    future: EventFuture[str] = EventFuture()
    task = asyncio.ensure_future(future)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,))
    with pytest.raises(pykka.Timeout):
        await asyncio.to_thread(future.get, timeout=0.001)
    assert not future._callbacks
    await asyncio.get_running_loop().shutdown_default_executor()


def test_a_done_callback_is_called_once_before_or_after() -> None:
    future: EventFuture[int] = EventFuture()
    calls: list[str] = []
    future.add_done_callback(lambda: calls.append("before"))
    future.set(1)
    future.add_done_callback(lambda: calls.append("after"))
    assert calls == ["before", "after"]


def test_an_exception_is_raised_with_its_traceback() -> None:
    future: EventFuture[int] = EventFuture()
    assert future.fail(ValueError("no"))
    assert not future.fail(ValueError("again"))
    with pytest.raises(ValueError, match="no"):
        future.get()
    assert future.is_done


def test_an_ask_without_a_timeout_ends_after_the_systems(threaded_system: ActorSystem) -> None:
    threaded_system.ask_timeout_seconds = 0.01
    ref = threaded_system.spawn(Waiter)
    with pytest.raises(pykka.Timeout, match=r"0\.01 seconds"):
        ref.ask(asyncio.Event())
    ref.kill()


async def test_awaiting_an_answer_ends_after_the_systems_timeout(system: ActorSystem) -> None:
    system.ask_timeout_seconds = 0.01
    ref = system.spawn(Waiter)
    with pytest.raises(pykka.Timeout, match=r"0\.01 seconds"):
        await ref.ask(asyncio.Event(), block=False)
    ref.kill()
