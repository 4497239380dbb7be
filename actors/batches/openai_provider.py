"""OpenAI's Batch API, through the official SDK (extra ``openai``)."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import openai
from openai.types import Batch

from .http_status import failure_kind
from .provider import BatchLimits, Candidate, FailureKind, Phase, ProviderBatch, ProviderFailure, ProviderResult
from .result_lines import read_lines
from .sdk_failures import provider_failures
from .state import BatchStatus, ItemStatus
from .types import WireRequest

LIMITS: Final = BatchLimits(max_requests=50_000, max_bytes=200_000_000)
"""Source: OpenAI's documentation of the Batch API (50,000 requests, 200 MB)."""
ENDPOINTS: Final = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/completions", "/v1/moderations")
REFERENCE_KEY: Final = "callboard_batch"
"""The metadata by which a batch is found again."""

_PHASES: Final = {
    **dict.fromkeys(("validating", "in_progress", "finalizing", "cancelling"), Phase.RUNNING),
    **dict.fromkeys(("completed", "failed", "expired", "cancelled"), Phase.ENDED),
}
_ENDED_AS: Final = {
    "failed": (BatchStatus.FAILED, ItemStatus.ERRORED),
    "expired": (BatchStatus.EXPIRED, ItemStatus.EXPIRED),
    "cancelled": (BatchStatus.CANCELLED, ItemStatus.CANCELED),
}
_PAGE: Final = 100


class OpenAIProvider:
    """Implements ``BatchProvider``.

    The SDK reads key and address from the environment (``OPENAI_API_KEY``, ``OPENAI_BASE_URL``), unless a client is
    given. It never tries again by itself here, as that may make a second batch, which is paid for.

    Args:
        request_timeout_seconds: of one request.
        client: another client than the default one; it is closed with this.
    """

    limits = LIMITS
    endpoints: Sequence[str] = ENDPOINTS

    def __init__(self, *, request_timeout_seconds: float = 60.0, client: openai.AsyncOpenAI | None = None) -> None:
        try:
            own = client or openai.AsyncOpenAI()
        except openai.OpenAIError as error:
            raise ProviderFailure(str(error), kind=FailureKind.CREDENTIALS) from error
        self._client = own.with_options(max_retries=0, timeout=request_timeout_seconds)

    async def submit(self, reference: str, requests: Sequence[WireRequest], endpoint: str | None) -> ProviderBatch:
        """Upload the requests, then create a batch of them. Only the second costs money."""
        url: Any = endpoint or ENDPOINTS[0]
        # As a file, of which the SDK sends one block after another: 200 MB at once hold up the event loop for seconds.
        content = await asyncio.to_thread(_file, requests, url)
        with provider_failures(openai, "upload a batch's requests"):
            file = await self._client.files.create(file=(f"callboard-{reference}.jsonl", content), purpose="batch")
        with provider_failures(openai, "create a batch", may_be_done=True):
            batch = await self._client.batches.create(
                input_file_id=file.id,
                endpoint=url,
                completion_window="24h",
                metadata={REFERENCE_KEY: reference},
            )
        return _described(batch)

    async def find(self, reference: str, total: int, since: datetime) -> Sequence[Candidate]:  # noqa: ARG002 - the protocol's
        """Look for a batch by its metadata."""
        found = []
        with provider_failures(openai, "list batches"):
            async for batch in self._client.batches.list(limit=_PAGE):
                if batch.created_at < since.timestamp():
                    break
                if (batch.metadata or {}).get(REFERENCE_KEY) == reference:
                    found.append(Candidate(_described(batch), certain=True))
        return found[::-1]

    async def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """Ask how a batch is."""
        with provider_failures(openai, f"retrieve batch {provider_batch_id}"):
            return _described(await self._client.batches.retrieve(provider_batch_id))

    async def results(self, batch: ProviderBatch) -> AsyncGenerator[ProviderResult, None]:
        """Stream the results: of the file of answers, then of that of errors. Either may be missing."""
        for file_id in batch.result_files:
            with provider_failures(openai, f"results of batch {batch.id}"):
                async with self._client.files.with_streaming_response.content(file_id) as response:
                    async for line in read_lines(response.iter_bytes(), batch.id):
                        yield _result(line)

    async def cancel(self, provider_batch_id: str) -> None:
        """Ask the provider to end a batch."""
        try:
            with provider_failures(openai, f"cancel batch {provider_batch_id}"):
                await self._client.batches.cancel(provider_batch_id)
        except ProviderFailure as failure:
            # One that has ended cannot be cancelled: what it says about that is 400 or 409.
            conflict = getattr(failure.__cause__, "status_code", None) == 409
            if failure.kind is not FailureKind.REFUSED and not conflict:
                raise
            if (await self.retrieve(provider_batch_id)).phase is not Phase.ENDED:
                raise

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


def _file(requests: Sequence[WireRequest], url: str) -> io.BytesIO:
    file = io.BytesIO()
    for request in requests:
        line = f'{{"custom_id": "{request.wire_id}", "method": "POST", "url": "{url}", "body": {request.params}}}\n'
        file.write(line.encode())
    file.seek(0)
    return file


def _described(batch: Batch) -> ProviderBatch:
    status = str(batch.status)
    ended_as, leftover = _ENDED_AS.get(status, (BatchStatus.COMPLETED, ItemStatus.ERRORED))
    counts = {} if batch.request_counts is None else batch.request_counts.to_dict()
    errors = [] if batch.errors is None else batch.errors.data or []
    return ProviderBatch(
        id=batch.id,
        status=status,
        phase=_PHASES.get(status, Phase.UNRECOGNIZED),
        counts={name: count for name, count in counts.items() if isinstance(count, int)},
        expires_at=None if batch.expires_at is None else datetime.fromtimestamp(batch.expires_at, UTC),
        ended_as=ended_as,
        # What was not run before the end is in no file; a completed batch has run everything.
        expected_results=_finished(counts) if status in _ENDED_AS else None,
        leftover=leftover,
        error="; ".join(f"{error.code}: {error.message}" for error in errors) or None,
        result_files=tuple(file for file in (batch.output_file_id, batch.error_file_id) if file),
    )


def _finished(counts: dict[str, object]) -> int:
    return sum(count for name in ("completed", "failed") if isinstance(count := counts.get(name), int))


def _result(line: dict[str, Any]) -> ProviderResult:
    name, error, response = str(line.get("custom_id")), line.get("error"), line.get("response")
    if error is not None:
        code = error.get("code") if isinstance(error, dict) else None
        expired = {"batch_expired": ItemStatus.EXPIRED, "batch_cancelled": ItemStatus.CANCELED}
        status = expired.get(str(code), ItemStatus.ERRORED)
        return ProviderResult(name, status, None, json.dumps(error), code == "request_timeout")
    if not isinstance(response, dict):
        return ProviderResult(name, None, None, None)
    body = json.dumps(response.get("body"))
    if response.get("status_code") == 200:
        return ProviderResult(name, ItemStatus.SUCCEEDED, body, None)
    answered = response.get("status_code")
    passing = isinstance(answered, int) and failure_kind(answered) is FailureKind.PASSING
    return ProviderResult(name, ItemStatus.ERRORED, None, body, passing)
