"""A process that its parent started in the place of one that died."""

import asyncio
import json
import urllib.request
from typing import Any

import pytest

from callboard import JobContext, JobRegistry, Runtime, Settings, job
from callboard.actors.jobs.types import QueueDemand
from callboard.incarnation import Incarnation
from callboard.supervision.endpoint import listen

WAIT_SECONDS = 30
HOUR_SECONDS = 3600.0


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Nobody would take anything back for an hour."""
    return settings.model_copy(update={"lease_seconds": HOUR_SECONDS})


def add_job(registry: JobRegistry) -> Any:
    @job(registry=registry, max_attempts=2)
    async def answer(ctx: JobContext) -> int:
        return ctx.attempt

    return answer


async def claim_as(runtime: Runtime, node: str) -> None:
    claimed = await runtime._parts.store.claim([QueueDemand("default", 5)], node=node, lease_seconds=HOUR_SECONDS)
    assert len(claimed) == 1


async def test_what_the_dead_process_ran_runs_again_at_once(settings: Settings, registry: JobRegistry) -> None:
    answer = add_job(registry)
    async with Runtime(settings, registry=registry, work=False) as client:
        ref = await client.spawn(answer)
        await client._parts.store.register_node("dead")
        await claim_as(client, "dead")
        async with Runtime(settings, registry=registry, incarnation=Incarnation("heir", ("dead",))) as heir:
            assert heir.node == "heir"
            assert await ref.result(WAIT_SECONDS) == 2
            assert [node.name for node in (await client.summary()).nodes] == ["heir"]
        assert [row.actor for row in await ref.history() if row.reason == "lease_expired"] == ["node:heir"]


async def test_a_claim_that_was_on_its_way_when_the_process_died_is_taken_back_too(
    settings: Settings, registry: JobRegistry
) -> None:
    answer = add_job(registry)
    async with (
        Runtime(settings, registry=registry, work=False) as client,
        Runtime(
            settings.model_copy(update={"queues": {"other": 1}}),
            registry=registry,
            incarnation=Incarnation("heir", ("dead",)),
        ) as heir,
    ):
        ref = await client.spawn(answer)
        await claim_as(client, "dead")  # it arrives in the database after the heir has started
        async with asyncio.timeout(WAIT_SECONDS):
            while (await ref.history())[-1].reason != "lease_expired":
                await heir.pulse.wait(0.05)


async def test_the_socket_of_its_place(settings: Settings, registry: JobRegistry) -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        incarnation = Incarnation("heir", listening=listening.dup())
        settings = settings.model_copy(update={"metrics_port": port})
        async with Runtime(settings, registry=registry, incarnation=incarnation) as runtime:
            assert runtime.metrics_url == f"http://127.0.0.1:{port}"
            page = await asyncio.to_thread(read, f"{runtime.metrics_url}/readyz")
            assert json.loads(page)["state"] == "ready"
            await runtime.stop_serving()
            assert runtime.metrics_url is None


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as response:
        return response.read()
