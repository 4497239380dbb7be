"""A worker as a process of its own: `python -m tests.runtime.worker_process URL LEASE_SECONDS [--no-renewals]`.

Prints ``ready``, then works until it is killed, or stops in order at the end of its standard input. Its last line is
what it was refused, as JSON: ``{"stale": 1, "lost": 0}``. With ``--no-renewals`` its lease keeper asks the database for
nothing, as one whose connection hangs, so that it does not find out either that an attempt is lost.
"""

import asyncio
import json
import logging
import sys

from callboard import Runtime, Settings
from tests.runtime.worker_jobs import REGISTRY


async def main(url: str, lease_seconds: float, *, renewals: bool) -> None:
    settings = Settings(
        database_url=url,
        queues={"default": 8},
        lease_seconds=lease_seconds,
        hang_limit_seconds=lease_seconds / 2,
        rescue_interval_seconds=0.2,
        poll_interval_seconds=0.1,
        retry_initial_seconds=0.01,
        retry_max_seconds=0.02,
    )
    runtime = Runtime(settings, registry=REGISTRY)
    if not renewals:
        runtime._parts.keeper.tick = list
    async with runtime:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    print(json.dumps({"stale": refusals(runtime, "stale"), "lost": lost_leases(runtime)}), flush=True)


def refusals(runtime: Runtime, cause: str) -> int:
    samples = [sample for metric in runtime.telemetry.registry.collect() for sample in metric.samples]
    return int(
        sum(
            sample.value
            for sample in samples
            if sample.name == "callboard_job_transitions_rejected_total" and sample.labels["reason"] == cause
        )
    )


def lost_leases(runtime: Runtime) -> int:
    return int(
        runtime.telemetry.registry.get_sample_value("callboard_job_lease_failures_total", {"reason": "lost"}) or 0
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), renewals="--no-renewals" not in sys.argv))
