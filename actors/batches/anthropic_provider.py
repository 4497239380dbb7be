"""Anthropic's Message Batches, through the official SDK (extra ``anthropic``)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

import anthropic
import httpx2
from anthropic.types.messages import MessageBatch

from .naming import belongs
from .provider import BatchLimits, Candidate, FailureKind, Phase, ProviderBatch, ProviderFailure, ProviderResult
from .result_lines import read_lines
from .sdk_failures import provider_failures
from .state import BatchStatus, ItemStatus
from .types import WireRequest

LIMITS: Final = BatchLimits(max_requests=100_000, max_bytes=256_000_000)
"""Source: Anthropic's documentation of Message Batches (100,000 requests or 256 MB)."""

_PHASES: Final = {"in_progress": Phase.RUNNING, "canceling": Phase.RUNNING, "ended": Phase.ENDED}
_OUTCOMES: Final = {
    "succeeded": ItemStatus.SUCCEEDED,
    "errored": ItemStatus.ERRORED,
    "canceled": ItemStatus.CANCELED,
    "expired": ItemStatus.EXPIRED,
}
_PASSING: Final = frozenset({"api_error", "overloaded_error", "rate_limit_error", "timeout_error"})
"""Errors of one request that are not its own fault. Source: Anthropic's documentation of errors."""
_PAGE: Final = 100
_BLOCK_BYTES: Final = 2**18
"""A submission is sent in blocks of about this size."""
_STREAMED: Final = {"Accept": "application/binary", "X-Stainless-Raw-Response": "stream"}
"""Lets the SDK hand out the response itself, unread: its own decoder of lines holds back the last line before a stall,
fails on blank lines, and leaves the connection open after an error."""


class AnthropicProvider:
    """Implements ``BatchProvider``.

    The SDK reads key and address from the environment (``ANTHROPIC_API_KEY``, ``ANTHROPIC_BASE_URL``), unless a client
    is given. It never tries again by itself here: its own retry of a creation whose answer got lost makes a second
    batch, which is paid for, and it sleeps as long as a ``Retry-After`` says.

    Args:
        request_timeout_seconds: of one request.
        client: another client than the default one; it is closed with this.
    """

    limits = LIMITS
    endpoints: Sequence[str] = ()

    def __init__(
        self, *, request_timeout_seconds: float = 60.0, client: anthropic.AsyncAnthropic | None = None
    ) -> None:
        own = client or anthropic.AsyncAnthropic()
        self._client = own.with_options(max_retries=0, timeout=request_timeout_seconds)
        self._batches = self._client.messages.batches

    async def submit(self, reference: str, requests: Sequence[WireRequest], endpoint: str | None) -> ProviderBatch:  # noqa: ARG002 - the protocol's
        """Create a batch."""
        # By hand and block by block: the SDK's own way has the event loop, hence a leader, stand still for 6 s in a
        # batch of 256 MB, and takes four times its memory.
        headers = {"Content-Length": str(sum(map(len, _body(requests))))}
        with provider_failures(anthropic, "create a batch", may_be_done=True):
            batch = await self._client.post(
                "/v1/messages/batches",
                cast_to=MessageBatch,
                content=_blocks(_body(requests)),
                options={"headers": headers},
            )
            return _described(batch)

    async def find(self, reference: str, total: int, since: datetime) -> Sequence[Candidate]:
        """Look for a batch by its size and time, and once it has ended, by the name of its first result.

        The API takes nothing else by which a batch could be recognized.
        """
        candidates = []
        with provider_failures(anthropic, "list batches"):
            async for batch in self._batches.list(limit=_PAGE):
                if batch.created_at < since:
                    break
                if sum(_counts(batch).values()) == total:
                    candidates.append(_described(batch))
        return [found for batch in candidates if (found := await self._recognized(reference, batch)) is not None]

    async def _recognized(self, reference: str, batch: ProviderBatch) -> Candidate | None:
        if batch.phase is not Phase.ENDED:
            return Candidate(batch, certain=False)
        async with aclosing(self.results(batch)) as results:
            first = await anext(results, None)
        return Candidate(batch, certain=True) if first is not None and belongs(reference, first.wire_id) else None

    async def retrieve(self, provider_batch_id: str) -> ProviderBatch:
        """Ask how a batch is."""
        with provider_failures(anthropic, f"retrieve batch {provider_batch_id}"):
            return _described(await self._batches.retrieve(provider_batch_id))

    async def results(self, batch: ProviderBatch) -> AsyncGenerator[ProviderResult, None]:
        """Stream the results, from the provider's own host only: the key goes along."""
        with provider_failures(anthropic, f"results of batch {batch.id}"):
            response = await self._client.get(
                self._results_url(batch), cast_to=httpx2.Response, options={"headers": _STREAMED}
            )
            try:
                async for line in read_lines(response.aiter_bytes(), batch.id):
                    yield _result(line)
            finally:
                await response.aclose()

    def _results_url(self, batch: ProviderBatch) -> str:
        url = batch.result_files[0] if batch.result_files else ""
        ours = urlsplit(str(self._client.base_url))
        theirs = urlsplit(url)
        if (theirs.scheme, theirs.netloc) == (ours.scheme, ours.netloc):
            return url
        return f"/v1/messages/batches/{quote(batch.id, safe='')}/results"

    async def cancel(self, provider_batch_id: str) -> None:
        """Ask the provider to end a batch."""
        try:
            with provider_failures(anthropic, f"cancel batch {provider_batch_id}"):
                await self._batches.cancel(provider_batch_id)
        except ProviderFailure as failure:
            # One that has ended cannot be cancelled: what it says about that is 400 or 409.
            if failure.kind is not FailureKind.REFUSED and not _is_conflict(failure):
                raise
            if (await self.retrieve(provider_batch_id)).phase is not Phase.ENDED:
                raise

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


def _body(requests: Sequence[WireRequest]) -> Iterator[bytes]:
    yield b'{"requests":['
    for place, request in enumerate(requests):
        comma = "," if place else ""
        yield f'{comma}{{"custom_id":"{request.wire_id}","params":{request.params}}}'.encode()
    yield b"]}"


async def _blocks(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    block = bytearray()
    for piece in pieces:
        block += piece
        if len(block) >= _BLOCK_BYTES:
            yield bytes(block)
            block.clear()
            await asyncio.sleep(0)  # a fast connection takes it all without ever letting others have their turn
    yield bytes(block)


def _is_conflict(failure: ProviderFailure) -> bool:
    return getattr(failure.__cause__, "status_code", None) == 409


def _counts(batch: MessageBatch) -> dict[str, int]:
    return {name: count for name, count in batch.request_counts.to_dict().items() if isinstance(count, int)}


def _described(batch: MessageBatch) -> ProviderBatch:
    status = str(batch.processing_status)
    return ProviderBatch(
        id=batch.id,
        status=status,
        phase=_PHASES.get(status, Phase.UNRECOGNIZED),
        counts=_counts(batch),
        expires_at=batch.expires_at,
        ended_as=BatchStatus.COMPLETED,
        result_files=(batch.results_url,) if batch.results_url else (),
    )


def _result(line: dict[str, Any]) -> ProviderResult:
    result = line.get("result")
    body: dict[str, Any] = result if isinstance(result, dict) else {}
    # The word counts, not the class that the SDK would make of it: an unknown word is parsed as a success without a
    # message.
    status = _OUTCOMES.get(str(body.get("type")))
    message, error = body.get("message"), body.get("error")
    if status is ItemStatus.SUCCEEDED and message is None:
        status = None
    return ProviderResult(
        str(line.get("custom_id")),
        status,
        None if message is None else json.dumps(message),
        None if error is None else json.dumps(error),
        status is ItemStatus.ERRORED and _error_type(error) in _PASSING,
    )


def _error_type(error: object) -> str:
    """Return the type of an error, which comes in an envelope."""
    inner = error.get("error", error) if isinstance(error, dict) else None
    return str(inner.get("type")) if isinstance(inner, dict) else ""
