"""The demo's LLM batch: 200 questions about modules, to a stand-in for a provider, by the real SDK."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from callboard import BatchRef, BatchRequest, BatchResult, BatchStatus, ItemStatus, Runtime
from callboard.actors.batches.provider import BatchProvider

from .library import module_name
from .plan import Plan
from .provider import ProviderServer, reply

ITEMS: Final = 200
PROVIDER: Final = "anthropic"
POLL_INTERVAL_SECONDS: Final = 0.5
PATIENCE_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class BatchFindings:
    """What became of the batch.

    Attributes:
        right: items whose answer is what it must be.
        differences: what is not as it should be, a line each.
    """

    right: int = 0
    differences: tuple[str, ...] = ()


@asynccontextmanager
async def stand_in() -> AsyncGenerator[Mapping[str, BatchProvider], None]:
    """Lend the stand-in, as ``Runtime(providers=...)`` takes it; nothing where its SDK is not installed."""
    if importlib.util.find_spec(PROVIDER) is None:
        yield {}
        return
    import anthropic  # an extra

    from callboard.actors.batches.anthropic_provider import AnthropicProvider

    with ProviderServer() as server:
        # On this machine: neither certificates nor a proxy of the environment's have to do with it.
        http = anthropic.DefaultAsyncHttpxClient(verify=False, trust_env=False)
        client = anthropic.AsyncAnthropic(base_url=server.url, api_key="demo", http_client=http)
        provider = AnthropicProvider(client=client)
        try:
            yield {PROVIDER: provider}
        finally:
            await provider.close()


def questions(plan: Plan) -> list[BatchRequest]:
    """Return the batch's requests: about the plan's modules, again and again until there are enough."""
    names = [module_name(plan.folder, path) for path in plan.modules]
    return [BatchRequest(f"question {n}", _params(f"What is {names[n % len(names)]} for?")) for n in range(ITEMS)]


def _params(prompt: str) -> dict[str, Any]:
    return {"model": "stand-in", "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]}


async def submit(runtime: Runtime, plan: Plan) -> BatchRef | None:
    """Submit the batch; None where the runtime polls none."""
    if not runtime.settings.enable_batch_job_polling:
        return None
    return await runtime.submit_batch(PROVIDER, questions(plan))


async def collect(ref: BatchRef | None, plan: Plan) -> BatchFindings:
    """Wait for the batch's end, and compare each answer with the stand-in's rule."""
    if ref is None:
        return BatchFindings()
    try:
        record = await ref.ended(PATIENCE_SECONDS)
    except TimeoutError:
        record = await ref.record()
    results = [result async for result in ref.collected()]
    differences = compare(questions(plan), results)
    if record.status is not BatchStatus.COMPLETED:
        differences = [f"the batch is {record.status}, expected completed ({record.last_error})", *differences]
    return BatchFindings(sum(result.status is ItemStatus.SUCCEEDED for result in results), tuple(differences))


def compare(requests: Sequence[BatchRequest], results: Sequence[BatchResult]) -> list[str]:
    """Return in what results differ from what the stand-in answers, a line each."""
    if len(results) != len(requests):
        return [f"the batch has {len(results)} results, expected {len(requests)}"]
    lines = []
    for request, result in zip(requests, results, strict=True):
        expected = reply(request.params)
        found = result.result["content"][0]["text"] if result.status is ItemStatus.SUCCEEDED else result.status
        if (result.custom_id, found) != (request.custom_id, expected):
            lines.append(f"batch item {request.custom_id}: got {result.custom_id}: {found}, expected {expected}")
    return lines
