"""Threads that send, ask, stop and kill at once: every ask is answered, every life ends, nothing stays behind."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from callboard.actors.actor import EventActor
from callboard.actors.future import EventFuture
from callboard.actors.ref import EventRef
from callboard.actors.system import ActorSystem
from tests.actors.players import PATIENCE_SECONDS
from tests.support.waiting import wait_until

ROUNDS, ACTORS, THREADS, ACTIONS = 25, 10, 4, 60


class OnTheLoop(EventActor):
    def on_receive(self, message: int) -> int:
        if message % 50 == 49:
            self.context.spawn(type(self))
        return message


class OnThePool(OnTheLoop):
    dispatcher = "pool"


class AsyncOnTheLoop(EventActor):
    async def on_receive(self, message: int) -> int:
        await asyncio.sleep(0)
        return message

    async def on_stop(self) -> None:
        await asyncio.sleep(0)


class AsyncOnThePool(AsyncOnTheLoop):
    dispatcher = "pool"


@pytest.fixture
def threads_that_interrupt_each_other() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def act(chance: random.Random, refs: list[EventRef[Any]], answers: list[EventFuture[Any]]) -> None:
    actions = {
        "ask": lambda ref, number: answers.append(ref.ask(number, block=False)),
        "send": lambda ref, number: ref.send(number),
        "kill": lambda ref, _: ref.kill(),
        "shutdown": lambda ref, _: ref.shutdown(),
        "stop": lambda ref, _: answers.append(ref.stop(block=False)),
        "suspend and resume": lambda ref, _: (ref.suspend(), ref.resume()),
    }
    for number in range(ACTIONS):
        (action,) = chance.choices(list(actions), weights=(50, 40, 4, 3, 3, 5))
        actions[action](chance.choice(refs), number)


@pytest.mark.parametrize("seed", range(4))
def test_a_storm_leaves_no_question_open_and_nobody_behind(
    threaded_system: ActorSystem, threads_that_interrupt_each_other: None, seed: int
) -> None:
    chance = random.Random(seed)
    classes = [OnTheLoop, OnThePool, AsyncOnTheLoop, AsyncOnThePool]
    for _ in range(ROUNDS):
        refs = [threaded_system.spawn(chance.choice(classes)) for _ in range(ACTORS)]
        ends = [ref.termination() for ref in refs]
        answers: list[EventFuture[Any]] = []
        threads = [
            threading.Thread(target=act, args=(random.Random(chance.random()), refs, answers)) for _ in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for ref in refs:
            ref.shutdown()
        for end in ends:
            end.get(timeout=PATIENCE_SECONDS)
        for answer in answers:
            try:
                answer.get(timeout=PATIENCE_SECONDS)
            except pykka.ActorDeadError:
                continue
    assert len(threaded_system.registry) == 0
    wait_until(lambda: threaded_system.pool_dispatcher.abandoned_threads == 0)
