"""A poller of the test's own: PostgreSQL, the real SDKs, and a provider that misbehaves by script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import anthropic
import openai
import psycopg
import pytest

from callboard.actors.batches.anthropic_provider import AnthropicProvider
from callboard.actors.batches.decide import PollPolicy
from callboard.actors.batches.metrics import BatchPollingMetrics
from callboard.actors.batches.openai_provider import OpenAIProvider
from callboard.actors.batches.poller import BatchPoller, PollerSettings
from callboard.actors.batches.ports import BatchStore, LlmRequestStore, NoBatchTelemetry
from callboard.actors.batches.providers import Providers
from callboard.actors.batches.state import BatchStatus, ItemStatus
from callboard.actors.batches.submitting import no_fence
from callboard.actors.batches.types import BatchRecord, BatchResult
from callboard.actors.breaker import BreakerState
from callboard.actors.ports import NoTelemetry
from callboard.actors.settings import Settings
from callboard.batch_desk import BatchDesk
from callboard.persistence import stores
from callboard.testing import FakeClock
from tests.support.faulty_provider import FaultyProvider

REQUEST_TIMEOUT_SECONDS = 5.0


class Statements(NoTelemetry):
    """The names of the store's statements, as they ran."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def statement(self, operation: str, seconds: float) -> None:
        self.names.append(operation)


class Measured(NoBatchTelemetry):
    """What the poller measured."""

    def __init__(self) -> None:
        self.cycles: list[BatchPollingMetrics] = []
        self.ended: list[BatchStatus] = []
        self.breakers: list[tuple[str, BreakerState]] = []

    def batches_polled(self, cycle: BatchPollingMetrics, seconds: float) -> None:
        self.cycles.append(cycle)

    def batch_ended(self, provider: str, status: BatchStatus) -> None:
        self.ended.append(status)

    def breaker_changed(self, provider: str, state: BreakerState) -> None:
        self.breakers.append((provider, state))


@dataclass
class Bench:
    """Everything that polling takes, with its pieces at hand."""

    connection: psycopg.Connection[Any]
    settings: Settings
    store: BatchStore
    llm_requests: LlmRequestStore
    statements: Statements
    server: FaultyProvider
    providers: Providers
    clock: FakeClock
    measured: Measured = field(default_factory=Measured)
    policy: PollPolicy = field(default_factory=PollPolicy)

    def __post_init__(self) -> None:
        self.desk = BatchDesk(self.store, self.llm_requests, self.providers, self.settings, actor="test")
        self.poller = self.new_poller()

    def new_poller(self, **changes: Any) -> BatchPoller:
        settings = PollerSettings(self.policy, request_timeout_seconds=REQUEST_TIMEOUT_SECONDS)
        settings = replace(settings, **changes)
        return BatchPoller(self.store, self.providers, settings, self.measured, self.clock, no_fence)

    async def submit(self, provider: str = "anthropic", items: int = 10) -> UUID:
        [batch] = await self.desk.submit(provider, requests(items), endpoint=None, several=False)
        return batch.id

    async def poll(self, times: int = 1) -> BatchPollingMetrics:
        """Poll, each time with every pause over."""
        for _ in range(times):
            self.pass_pauses()
            await self.poller.poll()
        return self.measured.cycles[-1]

    async def get(self, batch_id: UUID) -> BatchRecord:
        return await self.desk.require(batch_id)

    async def results(self, batch_id: UUID) -> list[BatchResult]:
        return await self.store.results(batch_id, limit=1_000_000)

    async def statuses(self, batch_id: UUID) -> set[ItemStatus]:
        return {result.status for result in await self.results(batch_id)}

    def execute(self, statement: str, *parameters: Any) -> list[Any]:
        cursor = self.connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []

    def pass_pauses(self) -> None:
        """Let the time of every poll come."""
        self.execute("UPDATE callboard.batches SET next_poll_at = now() - interval '1 ms' WHERE finished_at IS NULL")

    def age(self, batch_id: UUID, days: float) -> None:
        """Make a batch older."""
        self.execute(
            "UPDATE callboard.batches SET created_at = now() - %s * interval '1 day' WHERE id = %s", days, batch_id
        )


def requests(count: int) -> list[dict[str, Any]]:
    return [
        {"custom_id": f"item {n}", "params": {"model": "m", "max_tokens": 9, "messages": [message(n)]}}
        for n in range(count)
    ]


def message(number: int) -> dict[str, str]:
    return {"role": "user", "content": f"prompt {number}"}


@pytest.fixture
def provider_server() -> Iterator[FaultyProvider]:
    with FaultyProvider() as server:
        yield server


@pytest.fixture
async def bench(database_url: str, provider_server: FaultyProvider, clock: FakeClock) -> AsyncIterator[Bench]:
    settings = Settings(
        database_url=database_url,
        enable_batch_job_polling=True,
        llm_request_timeout_seconds=REQUEST_TIMEOUT_SECONDS,
        pg_pool_size=10,
    )
    statements = Statements()
    store = stores.postgres(settings, statements).store
    await store.open()
    # Without certificates, which each client would read for a tenth of a second, and nobody needs here.
    anthropic_client = anthropic.AsyncAnthropic(
        base_url=provider_server.url, api_key="test", http_client=anthropic.DefaultAsyncHttpxClient(verify=False)
    )
    openai_client = openai.AsyncOpenAI(
        base_url=f"{provider_server.url}/v1", api_key="test", http_client=openai.DefaultAsyncHttpxClient(verify=False)
    )
    official = {
        "anthropic": AnthropicProvider(client=anthropic_client, request_timeout_seconds=REQUEST_TIMEOUT_SECONDS),
        "openai": OpenAIProvider(client=openai_client, request_timeout_seconds=REQUEST_TIMEOUT_SECONDS),
    }
    providers = Providers(official, request_timeout_seconds=REQUEST_TIMEOUT_SECONDS)
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield Bench(
            connection, settings, store.batches, store.llm_requests, statements, provider_server, providers, clock
        )
    for provider in official.values():
        await provider.close()
    await store.close()
