"""The kernel alone: messages, starts, memory and asks per second, beside Pykka and a bare event loop in one run."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import pykka

from callboard.actors.actor import EventActor
from callboard.actors.loop_dispatcher import LoopDispatcher
from callboard.actors.ref import EventRef
from callboard.actors.system import ActorSystem

from . import supervisors

ROUNDS = 3
"""Each measurement is taken so often, and the best one counts: the others say what else the machine did."""

PYKKA_ACTORS = 300
"""Pykka pays a thread for each actor; more would measure the limit of threads."""


class Counting(EventActor):
    """Calls back when it has received so many messages."""

    def __init__(self, count: int, done: Callable[[], object]) -> None:
        super().__init__()
        self.left = count
        self.done = done

    def on_receive(self, _: Any) -> None:
        """Count down."""
        self.left -= 1
        if self.left == 0:
            self.done()


class Echo(EventActor):
    """Answers with the message."""

    def on_receive(self, message: Any) -> Any:
        """Return the message."""
        return message


class ShortLived(EventActor):
    """Gets one message and stops, as most job actors do."""

    def on_receive(self, _: Any) -> None:
        """Stop."""
        self.stop()


class PykkaCounting(pykka.ThreadingActor):
    """As ``Counting``."""

    def __init__(self, count: int, done: Callable[[], object]) -> None:
        super().__init__()
        self.left = count
        self.done = done

    def on_receive(self, _: Any) -> None:
        """Count down."""
        self.left -= 1
        if self.left == 0:
            self.done()


class PykkaEcho(pykka.ThreadingActor):
    """As ``Echo``."""

    def on_receive(self, message: Any) -> Any:
        """Return the message."""
        return message


def run(count: int) -> dict[str, Any]:
    """Measure with ``count`` messages, a tenth as many actors, and at most half as many children of a supervisor.

    Returns:
        rates by name (per second unless the name says otherwise) of callboard, pykka, the bare loop, and supervisors
        by their number of children; the ratios of callboard's to the others', and of the supervisors' to each other.
    """
    callboard = asyncio.run(_callboard(count))
    bare_loop = asyncio.run(_bare_loop(count))
    pykkas = _pykka(count)
    children = supervisors.run(count // 2)
    return {
        "count": count,
        "callboard": callboard,
        "bare_loop": bare_loop,
        "pykka": pykkas,
        **{f"{size}_children": rates for size, rates in children.items()},
        "ratios": {
            "tell_to_pykka": callboard["tell_per_second"] / pykkas["tell_per_second"],
            "tell_to_call_soon": callboard["tell_per_second"] / bare_loop["call_soon_per_second"],
            "start_to_pykka": callboard["start_per_second"] / pykkas["start_per_second"],
            "ask_to_pykka": callboard["ask_per_second"] / pykkas["ask_per_second"],
            "ask_to_call_soon_round_trip": callboard["ask_per_second"] / bare_loop["round_trip_per_second"],
            "idle_bytes_to_pykka": callboard["idle_bytes"] / pykkas["idle_bytes"],
            **supervisors.linearity(children),
        },
    }


async def _callboard(count: int) -> dict[str, float]:
    system = ActorSystem(loop_dispatcher=LoopDispatcher.attach())
    actors = max(count // 10, 100)
    figures = {
        "tell_per_second": await _best(lambda: _tell(system, count)),
        "ask_per_second": await _best(lambda: _ask(system, actors)),
        "start_per_second": await _best(lambda: _start(system, actors)),
        "short_lives_per_second": await _best(lambda: _short_lives(system, actors)),
        "idle_bytes": await _idle_bytes(system, min(actors, 10_000)),
    }
    await system.aclose()
    return figures


async def _best(measure: Callable[[], Awaitable[float]]) -> float:
    rates: list[float] = []
    for _ in range(ROUNDS):
        gc.collect()
        rates.append(await measure())
    return max(rates)


async def _tell(system: ActorSystem, count: int) -> float:
    done = asyncio.Event()
    ref = system.spawn(Counting, count, done.set)
    begin = time.perf_counter()
    for number in range(count):
        ref.tell(number)
    await done.wait()
    rate = count / (time.perf_counter() - begin)
    await ref.stop(block=False)
    return rate


async def _ask(system: ActorSystem, count: int) -> float:
    ref = system.spawn(Echo)
    begin = time.perf_counter()
    for number in range(count):
        await ref.ask(number, block=False)
    rate = count / (time.perf_counter() - begin)
    await ref.stop(block=False)
    return rate


async def _start(system: ActorSystem, count: int) -> float:
    begin = time.perf_counter()
    refs = [system.spawn(Echo) for _ in range(count)]
    await refs[-1].ask("has started", block=False)
    rate = count / (time.perf_counter() - begin)
    await _end(refs)
    return rate


async def _short_lives(system: ActorSystem, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count // 100):
        for _ in range(100):
            ref = system.spawn(ShortLived)
            ref.tell("live")
        await ref.termination()  # they run in the order of their start, so the last one ends last
    return count / (time.perf_counter() - begin)


async def _idle_bytes(system: ActorSystem, count: int) -> float:
    await system.spawn(Echo).ask("warm", block=False)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    refs = [system.spawn(Echo) for _ in range(count)]
    await refs[-1].ask("has started", block=False)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await _end(refs)
    return (after - before) / count


async def _end(refs: list[EventRef[Any]]) -> None:
    for ref in refs:
        ref.kill()
    for ref in refs:
        await ref.termination()


async def _bare_loop(count: int) -> dict[str, float]:
    return {
        "call_soon_per_second": await _best(lambda: _call_soon(count)),
        "round_trip_per_second": await _best(lambda: _round_trip(max(count // 10, 100))),
    }


async def _call_soon(count: int) -> float:
    loop, done, left = asyncio.get_running_loop(), asyncio.Event(), count

    def handle(_: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()

    begin = time.perf_counter()
    for number in range(count):
        loop.call_soon(handle, number)
    await done.wait()
    return count / (time.perf_counter() - begin)


async def _round_trip(count: int) -> float:
    loop = asyncio.get_running_loop()
    begin = time.perf_counter()
    for number in range(count):
        answer = loop.create_future()
        loop.call_soon(answer.set_result, number)
        await answer
    return count / (time.perf_counter() - begin)


def _pykka(count: int) -> dict[str, float]:
    figures = {
        "tell_per_second": max(_pykka_tell(count) for _ in range(ROUNDS)),
        "ask_per_second": max(_pykka_ask(max(count // 100, 100)) for _ in range(ROUNDS)),
        "start_per_second": max(_pykka_start() for _ in range(ROUNDS)),
        "idle_bytes": _pykka_idle_bytes(),
    }
    pykka.ActorRegistry.stop_all()
    return figures


def _pykka_tell(count: int) -> float:
    done = threading.Event()
    ref = PykkaCounting.start(count, done.set)
    begin = time.perf_counter()
    for number in range(count):
        ref.tell(number)
    done.wait()
    rate = count / (time.perf_counter() - begin)
    ref.stop()
    return rate


def _pykka_ask(count: int) -> float:
    ref = PykkaEcho.start()
    begin = time.perf_counter()
    for number in range(count):
        ref.ask(number)
    rate = count / (time.perf_counter() - begin)
    ref.stop()
    return rate


def _pykka_start() -> float:
    begin = time.perf_counter()
    refs = [PykkaEcho.start() for _ in range(PYKKA_ACTORS)]
    rate = PYKKA_ACTORS / (time.perf_counter() - begin)
    for ref in refs:
        ref.stop()
    return rate


def _pykka_idle_bytes() -> float:
    """Python's own memory only: what the thread's stack takes comes on top."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    refs = [PykkaEcho.start() for _ in range(PYKKA_ACTORS)]
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for ref in refs:
        ref.stop()
    return (after - before) / PYKKA_ACTORS
