"""Both stores, asked the same at random, answer the same: whatever the suite has not thought of."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from callboard.actors.clock import SystemClock
from callboard.actors.errors import DuplicateJob, InvalidTransition, QueueFull, StaleAttempt
from callboard.actors.job_store import JobStore
from callboard.actors.jobs.decide import (
    Cancel,
    Event,
    Fail,
    Park,
    Policy,
    Snooze,
    SoftStop,
    Succeed,
    Transition,
    decide,
)
from callboard.actors.jobs.limits import Limit, LimitScope
from callboard.actors.jobs.state import UNFINISHED, Status, WaitingOn
from callboard.actors.jobs.types import AttemptKey, JobFilter, NewJob, OnConflict, QueueDemand
from callboard.actors.ports import NoTelemetry
from callboard.actors.settings import Settings
from callboard.persistence.memory_store import MemoryStore
from callboard.persistence.postgres_store import PostgresStore

from .support import ERROR, LONG_AGO, new_job

TIMES = {"run_at", "deadline", "lease_expires_at", "created_at", "started_at", "finished_at", "at", "wait_seconds"}
STEPS = 200
UNFINISHED_STATUSES = sorted(UNFINISHED)


@pytest.fixture
async def both(database_url: str) -> AsyncIterator[tuple[JobStore, JobStore]]:
    postgres = PostgresStore(Settings(database_url=database_url), NoTelemetry())
    yield MemoryStore(SystemClock()), postgres
    await postgres.close()


def timeless(value: Any) -> Any:
    """Replace times by whether there is one: the two clocks differ."""
    if hasattr(value, "_asdict"):
        fields = value._asdict()
    elif is_dataclass(value) and not isinstance(value, type):
        fields = asdict(value)
    else:
        return value
    if (fields.get("error") or {}).get("type") == "DeadlineExceeded":  # its message tells the time
        fields["error"] = "DeadlineExceeded"
    return {name: item is not None if name in TIMES else item for name, item in fields.items()}


class Script:
    """Draws calls, and remembers what they can refer to."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.ids: list[UUID] = [new_job().id]  # one that does not exist

    def jobs(self) -> list[NewJob]:
        jobs = [self.job() for _ in range(self.draw.choice([1, 2, 5]))]
        if self.draw.random() < 0.1:
            jobs = [new_job(queue="a") for _ in range(70)]
        self.ids += [job.id for job in jobs]
        return jobs

    def job(self) -> NewJob:
        fields: dict[str, Any] = {
            "queue": self.draw.choice("ab"),
            "kind": self.draw.choice("xy"),
            "priority": self.draw.choice([-1, 0, 0, 1]),
            "max_attempts": self.draw.choice([1, 2, 3]),
            "status": self.draw.choice([Status.PENDING] * 4 + [Status.CREATED]),
            "delay_seconds": self.draw.choice([0.0, 0.0, 0.0, 3600.0]),
            "deadline_seconds": self.draw.choice([None, None, None, 3600.0, LONG_AGO]),
            "unique_key": self.draw.choice([None, None, "u", "v"]),
            "owner": self.draw.choice([None, "o", "p"]),
        }
        if self.draw.random() < 0.3:
            fields |= {"concurrency_key": self.draw.choice("kl"), "concurrency_limit": 2}
        if self.draw.random() < 0.2:
            fields |= {
                "unique_key": "w",
                "unique_statuses": self.draw.choice([tuple(UNFINISHED_STATUSES), (Status.PENDING, Status.COMPLETED)]),
                "on_conflict": self.draw.choice(list(OnConflict)),
            }
        if self.draw.random() < 0.4:
            place = {"parent_id": self.draw.choice(self.ids), "child_key": "c", "child_index": self.draw.randrange(3)}
            fields |= {
                **place,
                "unique_key": None,
                "unique_statuses": None,
            }  # with both, it is undefined which of a batch keeps out which
        return new_job(**fields)

    def limit(self) -> Limit:
        scope, name = self.draw.choice(
            [(LimitScope.QUEUE, "a"), (LimitScope.KIND, "x"), (LimitScope.OWNER, "*"), (LimitScope.KEY, "k")]
        )
        queued = self.draw.choice([None, 20]) if scope in {LimitScope.QUEUE, LimitScope.OWNER} else None
        return Limit(scope, name, max_running=self.draw.choice([0, 1, 3, 9]), max_queued=queued)

    def some_ids(self) -> list[UUID]:
        return self.draw.sample(self.ids, min(len(self.ids), self.draw.choice([1, 3, 8])))

    def event(self) -> Event:
        return self.draw.choice(
            [
                Succeed('{"r": 1}'),
                Fail(ERROR, 0.0),
                Fail(ERROR, 3600.0),
                Fail(ERROR, 0.0, retryable=False),
                Snooze(0.0),
                SoftStop(),
                Park(WaitingOn.CHILDREN),
                Park(WaitingOn.CHILDREN),
                Cancel(),
            ]
        )


Call = Callable[[JobStore], Any]


async def next_call(script: Script, model: JobStore) -> tuple[str, Call]:
    """Draw a call; what it is about is read from the model only."""
    jobs = script.jobs() if script.draw.random() < 0.25 else []
    demands = [QueueDemand(queue, script.draw.choice([0, 1, 10])) for queue in "ab"]
    lease = script.draw.choice([60.0, 60.0, LONG_AGO])
    changes = await transitions(script, model)
    ids = script.some_ids()
    keys = [AttemptKey(job_id, script.draw.choice([1, 2])) for job_id in ids]
    calls: dict[str, Call] = {
        "claim": lambda store: store.claim(demands, node="here", lease_seconds=lease),
        "apply": lambda store: store.apply(changes, actor="node:here"),
        "cancel": lambda store: store.cancel(ids, actor="client:test"),
        "release": lambda store: store.release(ids, actor="client:test"),
        "run_now": lambda store: store.run_now(ids),
        "renew": lambda store: store.renew(keys, lease_seconds=60),
        "progress": lambda store: store.progress({key: {"step": key.token} for key in keys}),
        "set_limit": lambda store: store.controls.set_limit(limit, actor="client:test"),
        "clear_limit": lambda store: store.controls.clear_limit(limit.scope, limit.name),
        "set_queue": lambda store: store.controls.set_queue(
            limit.name, paused=paused, draining=draining, actor="client:test"
        ),
        "children": lambda store: store.children(ids[0], "c"),
        "rescue": lambda store: store.rescue(
            actor="node:b", policy=Policy(), limit=1000, retry_delay_seconds=lambda attempt: 0.0
        ),
    }
    parent = script.draw.choice([*[None] * 9, keys[0]])
    limit = script.limit()
    paused, draining = [script.draw.random() < 0.2 for _ in range(2)]
    if jobs:
        return "spawn", lambda store: store.spawn(jobs, actor="client:test", parent=parent)
    name = script.draw.choice([*calls, "claim", "claim", "apply", "apply", "apply"])
    return name, calls[name]


async def transitions(script: Script, model: JobStore) -> list[Transition]:
    """Draw changes that were right for running jobs, some of them with a stale token, and some twice."""
    jobs = await model.list_jobs(JobFilter(statuses=(Status.RUNNING,)), limit=1000)
    changes = []
    for job in script.draw.sample(jobs, min(len(jobs), script.draw.choice([1, 4, 20]))):
        try:
            change = decide(job, script.event(), Policy(), datetime.now(UTC))
        except InvalidTransition:
            continue
        changes += [change._replace(token=change.token - (script.draw.random() < 0.1))] * script.draw.choice([1, 1, 2])
    script.draw.shuffle(changes)
    return changes


async def asked(call: Call, store: JobStore) -> Any:
    try:
        return await call(store)
    except StaleAttempt:
        return "a parent has ended, or is another attempt's"
    except QueueFull as error:
        return str(error)
    except DuplicateJob as error:
        return f"{error.job_id} holds the key"


def comparable(answer: Any, *, ordered: bool) -> Any:
    if not isinstance(answer, list):
        return answer
    items = [timeless(item) for item in answer]
    return items if ordered else sorted(items, key=repr)


@pytest.mark.postgres
@pytest.mark.parametrize("seed", range(6))
async def test_both_stores_answer_the_same(both: tuple[JobStore, JobStore], seed: int) -> None:
    script = Script(seed)
    memory, postgres = both
    for step in range(STEPS):
        name, call = await next_call(script, memory)
        ordered = name not in {"run_now", "rescue", "claim"}
        expected, answer = [comparable(await asked(call, store), ordered=ordered) for store in both]
        assert answer == expected, f"seed {seed}, step {step}: {name}"
    for job_id in script.ids:
        assert [timeless(row) for row in await postgres.history(job_id)] == [
            timeless(row) for row in await memory.history(job_id)
        ]
    everything = [await store.list_jobs(JobFilter(), limit=10_000) for store in both]
    for left, right in zip(*everything, strict=True):
        assert timeless(left) == timeless(right)
    seen = {row.to_status for job_id in script.ids for row in await memory.history(job_id)}
    assert seen == set(Status), "the script is too tame"
