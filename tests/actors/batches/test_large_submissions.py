"""A large batch goes to its provider in blocks: the event loop, on which a leader lives, has its time in between."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

import anthropic
import httpx2
import openai

from callboard.actors.batches.anthropic_provider import AnthropicProvider
from callboard.actors.batches.naming import reference, wire_id
from callboard.actors.batches.openai_provider import OpenAIProvider
from callboard.actors.batches.types import WireRequest
from callboard.demo.hosted_batches import HostedBatch
from callboard.demo.provider import ProviderServer

BATCH = reference(uuid4())
REQUESTS = [WireRequest(wire_id(BATCH, n), json.dumps({"n": n, "text": "größe " * 1_000})) for n in range(200)]
"""About 2 MB."""
LARGEST_BLOCK_BYTES = 2**19


class Recorder(httpx2.AsyncBaseTransport):
    """Takes every request block by block, and answers it."""

    def __init__(self, answer: dict[str, object]) -> None:
        self._answer = answer
        self.requests: list[tuple[httpx2.Request, list[bytes]]] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        self.requests.append((request, [block async for block in request.stream]))
        return httpx2.Response(200, json=self._answer)


def hosted() -> HostedBatch:
    return HostedBatch("batch_1", [], "/v1/chat/completions", {}, datetime.now(UTC), looks_left=1)


def require_blocks(request: httpx2.Request, blocks: list[bytes]) -> bytes:
    assert max(map(len, blocks)) <= LARGEST_BLOCK_BYTES
    body = b"".join(blocks)
    assert len(body) > 1_000_000
    assert request.headers["content-length"] == str(len(body))
    assert "transfer-encoding" not in request.headers
    return body


async def test_anthropic_gets_one_document_in_blocks() -> None:
    with ProviderServer() as server:
        recorder = Recorder(server.anthropic_document(hosted()))
    client = anthropic.AsyncAnthropic(
        base_url="http://127.0.0.1:1", api_key="test", http_client=httpx2.AsyncClient(transport=recorder)
    )
    provider = AnthropicProvider(client=client)
    assert (await provider.submit(BATCH, REQUESTS, None)).id == "batch_1"
    await provider.close()
    [(request, blocks)] = recorder.requests
    assert (request.url.path, request.headers["content-type"]) == ("/v1/messages/batches", "application/json")
    assert json.loads(require_blocks(request, blocks)) == {
        "requests": [{"custom_id": one.wire_id, "params": json.loads(one.params)} for one in REQUESTS]
    }


async def test_openai_gets_one_file_in_blocks() -> None:
    with ProviderServer() as server:
        document = server.openai_document(hosted())
    recorder = Recorder(document | {"bytes": 0, "filename": "", "purpose": "batch"})
    client = openai.AsyncOpenAI(
        base_url="http://127.0.0.1:1/v1", api_key="test", http_client=httpx2.AsyncClient(transport=recorder)
    )
    provider = OpenAIProvider(client=client)
    assert (await provider.submit(BATCH, REQUESTS, "/v1/responses")).id == "batch_1"
    await provider.close()
    (upload, blocks), (create, _) = recorder.requests
    body = require_blocks(upload, blocks)
    lines = [json.loads(line) for line in body.splitlines() if line.startswith(b'{"custom_id"')]
    assert [(line["custom_id"], line["body"]) for line in lines] == [
        (one.wire_id, json.loads(one.params)) for one in REQUESTS
    ]
    assert {line["url"] for line in lines} == {"/v1/responses"}
    assert create.url.path == "/v1/batches"
