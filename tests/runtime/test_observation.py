"""What a runtime shows to the outside: metrics, probes, its own name in the database."""

import asyncio
import json
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from callboard import ConfigurationError, JobRegistry, Runtime, Settings, job

WAIT_SECONDS = 20


@pytest.fixture
async def runtime(settings: Settings, registry: JobRegistry) -> AsyncIterator[Runtime]:
    served = settings.model_copy(update={"metrics_port": 0, "node_name": "stage-left"})
    async with Runtime(served, registry=registry) as runtime:
        yield runtime


async def fetch(url: str) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(get)


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_count_what_happened(runtime: Runtime, registry: JobRegistry) -> None:
    @job(registry=registry, kind="metered", max_attempts=2)
    async def metered(fail: bool) -> None:
        if fail:
            raise ValueError

    refs = await runtime.spawn_many(metered, [(False,), (False,), (True,)])
    await asyncio.gather(*(ref.result(WAIT_SECONDS) for ref in refs), return_exceptions=True)
    status, text = await fetch(f"{runtime.metrics_url}/metrics")
    found = samples(text)

    assert status == 200
    assert found["callboard_jobs_created_total", (("kind", "metered"), ("queue", "default"))] == 3
    finished = {
        dict(labels)["status"]: value
        for (name, labels), value in found.items()
        if name == "callboard_jobs_finished_total"
    }
    assert {status: count for status, count in finished.items() if count} == {"completed": 2, "failed": 1}
    assert found["callboard_supervisors_alive", ()] in (2, 3)  # root and work; and duties, once this node leads
    assert found["callboard_job_slots", (("queue", "default"),)] == 20


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_finds_nothing_wrong(runtime: Runtime) -> None:
    _, text = await fetch(f"{runtime.metrics_url}/metrics")
    done = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


async def test_probes(runtime: Runtime) -> None:
    assert (await fetch(f"{runtime.metrics_url}/readyz"))[0] == 200
    assert (await fetch(f"{runtime.metrics_url}/livez"))[0] == 200
    runtime.health.draining()
    status, text = await fetch(f"{runtime.metrics_url}/readyz")
    assert status == 503
    assert "drain" in json.dumps(json.loads(text))
    assert (await fetch(f"{runtime.metrics_url}/livez"))[0] == 200


async def test_the_node_has_its_name(runtime: Runtime) -> None:
    (node,) = (await runtime.summary()).nodes
    assert node.name.startswith("stage-left:")
    assert node.name == runtime.node


async def test_a_port_that_is_taken(runtime: Runtime, settings: Settings) -> None:
    port = int(runtime.metrics_url.rsplit(":", 1)[1])
    other = Runtime(settings.model_copy(update={"metrics_port": port}), registry=JobRegistry())
    with pytest.raises(ConfigurationError, match=str(port)):
        await other.start()


async def test_a_runtime_starts_once(runtime: Runtime) -> None:
    with pytest.raises(ConfigurationError, match="started before; make a new Runtime"):
        await runtime.start()
