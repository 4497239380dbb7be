"""Spawn a run's jobs, and say of each how it must end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from callboard import InvalidArguments, JobRef, ProgressEvent, Runtime

from .fate import ABORTED, CANCELLED, COMPLETED, Fate, completed, exhausted, timed_out
from .jobs import FLAKY_ATTEMPTS, count_package, hash_flaky_file, hash_module, parse_module, wait_for_change
from .library import FileDigest, ModuleSize, Tally
from .plan import Plan

TIMEOUT_SECONDS = 0.5
TIMED_OUT_ATTEMPTS = 2
NOT_A_PATH = 42


@dataclass(frozen=True, slots=True)
class SpawnedJobs:
    """References to what was spawned. The packages' children are not among them: their parents spawn them."""

    packages: Sequence[JobRef[Tally]]
    modules: Sequence[JobRef[ModuleSize]]
    digests: Sequence[JobRef[FileDigest]]
    failing: Sequence[JobRef[Any]]
    unwanted: JobRef[int]
    """The one to cancel while it runs."""
    fates: dict[UUID, Fate]


async def spawn_jobs(runtime: Runtime, plan: Plan) -> SpawnedJobs:
    """Spawn a run's jobs. Durable on return."""
    computing, reading = plan.cpu_queue, plan.input_queue
    once, twice, path = plan.flaky[::2], plan.flaky[1::2], plan.modules[0]

    packages = await runtime.spawn_many(count_package, [(paths,) for paths in plan.split], queue=computing)
    modules = await runtime.spawn_many(parse_module, [(path,) for path in plan.loose], queue=computing)
    digests = await runtime.spawn_many(hash_module, [(path,) for path in plan.reliable], queue=reading)
    second_try = await runtime.spawn_many(hash_flaky_file, [(path, 1) for path in once], queue=reading)
    third_try = await runtime.spawn_many(hash_flaky_file, [(path, 2) for path in twice], queue=reading)

    missing = await runtime.spawn(hash_module, plan.missing, queue=reading)
    broken = await runtime.spawn(hash_flaky_file, path, failures=FLAKY_ATTEMPTS, queue=reading)
    late = await runtime.spawn(
        wait_for_change, path, queue=reading, timeout_seconds=TIMEOUT_SECONDS, max_attempts=TIMED_OUT_ATTEMPTS
    )
    unwanted = await runtime.spawn(wait_for_change, path, queue=reading)

    fates = {ref.id: COMPLETED for ref in (*packages, *modules, *digests)}
    fates |= {ref.id: completed(failures=1) for ref in second_try}
    fates |= {ref.id: completed(failures=2) for ref in third_try}
    fates |= {missing.id: ABORTED, broken.id: exhausted(FLAKY_ATTEMPTS)}
    fates |= {late.id: timed_out(TIMED_OUT_ATTEMPTS), unwanted.id: CANCELLED}
    return SpawnedJobs(packages, modules, [*digests, *second_try, *third_try], [missing, broken, late], unwanted, fates)


async def spawn_refused(runtime: Runtime, plan: Plan) -> str | None:
    """Spawn a job with an argument of the wrong type; return the refusal, or None if there was none."""
    try:
        await runtime.spawn(parse_module, NOT_A_PATH, queue=plan.cpu_queue)
    except InvalidArguments as refusal:
        return str(refusal)
    return None


async def cancel_once_running(ref: JobRef[Any]) -> bool:
    """Cancel a job as soon as its code shows a sign of life; False if it has ended by itself."""
    async with aclosing(ref.events()) as events:
        async for event in events:
            if isinstance(event, ProgressEvent):
                return await ref.cancel()
    return False
