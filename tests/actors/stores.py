"""A memory store that can be made to fail, to pause, and to say what it was asked."""

import asyncio
from collections.abc import Sequence
from typing import Any

from callboard.actors.errors import StoreUnavailable, ValueNotStorable
from callboard.actors.jobs.decide import Transition
from callboard.actors.jobs.identifier import uuid7
from callboard.actors.jobs.types import Applied, AttemptKey, ClaimedJob, NewJob, QueueDemand, Refused
from callboard.persistence.memory_store import MemoryStore
from callboard.testing import FakeClock


class StageStore(MemoryStore):
    """Every method works as the memory store's, unless the test says otherwise.

    Attributes:
        failures: raised by the next calls of ``claim`` and ``apply``, before they do anything.
        lost_answers: raised by the next calls of ``claim`` and ``apply``, after they did their work.
        gate: when closed, ``claim`` and ``apply`` wait.
        claims: what was asked of ``claim``.
        adoptions: how many attempts were known at each call of ``adopt``.
        batches: the sizes of what ``apply`` got.
        poison: results that ``apply`` does not accept.
    """

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.failures: list[Exception] = []
        self.lost_answers: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.claims: list[list[QueueDemand]] = []
        self.adoptions: list[int] = []
        self.batches: list[int] = []
        self.poison: set[str] = set()

    async def claim(self, demands: Sequence[QueueDemand], *, node: str, lease_seconds: float) -> list[ClaimedJob]:
        self.claims.append(list(demands))
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        claimed = await super().claim(demands, node=node, lease_seconds=lease_seconds)
        if self.lost_answers:
            raise self.lost_answers.pop(0)
        return claimed

    async def adopt(self, known: Sequence[AttemptKey], *, node: str, lease_seconds: float) -> list[ClaimedJob]:
        self.adoptions.append(len(known))
        return await super().adopt(known, node=node, lease_seconds=lease_seconds)

    async def apply(self, transitions: Sequence[Transition], *, actor: str) -> list[Applied | Refused]:
        self.batches.append(len(transitions))
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        if any(transition.result in self.poison for transition in transitions):
            raise ValueNotStorable("cannot store this")
        answers = await super().apply(transitions, actor=actor)
        if self.lost_answers:
            raise self.lost_answers.pop(0)
        return answers

    async def add(self, count: int, queue: str = "default", **changes: Any) -> list[NewJob]:
        jobs = [NewJob(uuid7(), "tests.kind", queue, "{}", **changes) for _ in range(count)]
        await self.spawn(jobs, actor="client:test")
        return jobs


def unavailable() -> StoreUnavailable:
    return StoreUnavailable("the database cannot be reached")
