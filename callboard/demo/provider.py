"""A stand-in for Anthropic and OpenAI on 127.0.0.1: their batch APIs over real HTTP, for the real SDKs. No model.

It answers a prompt with the prompt's words, counted. The demo uses it, and the tests make it misbehave.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from email.parser import BytesParser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from .hosted_batches import HostedBatch, HostedBatches

_ROUTES: Final = tuple(
    (method, re.compile(pattern), name)
    for method, pattern, name in (
        ("POST", r"/v1/messages/batches", "anthropic_create"),
        ("GET", r"/v1/messages/batches", "anthropic_list"),
        ("GET", r"/v1/messages/batches/([^/]+)", "anthropic_retrieve"),
        ("POST", r"/v1/messages/batches/([^/]+)/cancel", "anthropic_cancel"),
        ("GET", r"/v1/messages/batches/([^/]+)/results", "anthropic_results"),
        ("POST", r"/v1/files", "openai_upload"),
        ("GET", r"/v1/files/([^/]+)/content", "openai_content"),
        ("POST", r"/v1/batches", "openai_create"),
        ("GET", r"/v1/batches", "openai_list"),
        ("GET", r"/v1/batches/([^/]+)", "openai_retrieve"),
        ("POST", r"/v1/batches/([^/]+)/cancel", "openai_cancel"),
    )
)


class Call(NamedTuple):
    """A request as the stand-in sees it."""

    name: str
    """Of its route, such as ``anthropic_create``."""
    argument: str
    """What the path names; empty where it names nothing."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """What goes back.

    Attributes:
        status: of HTTP.
        body: a JSON document, or blocks of bytes, which go out one by one.
        headers: further ones.
        cut: whether the connection is cut after the body, in the middle of the answer; a body of None sends nothing.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = {}
    cut: bool = False


def reply(params: Mapping[str, Any]) -> str:
    """Return what the stand-in says to a request: a rule that whoever checks it knows as well."""
    prompt = str(params["messages"][-1]["content"])
    return f"{len(prompt.split())} words: {prompt}"


class ProviderServer:
    """The stand-in; a context manager. It listens on a free port of 127.0.0.1.

    Args:
        batches: what it runs; default: batches that end at the second look.
    """

    def __init__(self, batches: HostedBatches | None = None) -> None:
        self.batches = batches or HostedBatches(looks=2)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="provider", daemon=True)

    def __enter__(self) -> ProviderServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Its address, for ``ANTHROPIC_BASE_URL``; for ``OPENAI_BASE_URL`` with ``/v1``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, call: Call) -> Answer:
        """Answer a call. Runs in a thread of the call's own."""
        handler = getattr(self, f"_{call.name}", None)
        found: Answer = Answer(HTTPStatus.NOT_FOUND) if handler is None else handler(call)
        return found if found.body is not None or found.cut else found._replace(body=_error(found.status))

    # Anthropic

    def _anthropic_create(self, call: Call) -> Answer:
        requests = [(one["custom_id"], one["params"]) for one in json.loads(call.body)["requests"]]
        return Answer(200, self.anthropic_document(self.batches.create("msgbatch", requests)))

    def _anthropic_list(self, call: Call) -> Answer:
        own = [batch for batch in self.batches.all() if batch.id.startswith("msgbatch")]
        page, more = _page(own, call.query.get("after_id"), int(call.query.get("limit", 20)))
        document = {
            "data": [self.anthropic_document(batch) for batch in page],
            "has_more": more,
            "first_id": page[0].id if page else None,
            "last_id": page[-1].id if page else None,
        }
        return Answer(200, document)

    def _anthropic_retrieve(self, call: Call) -> Answer:
        batch = self.batches.look(call.argument)
        return Answer(404) if batch is None else Answer(200, self.anthropic_document(batch))

    def _anthropic_cancel(self, call: Call) -> Answer:
        batch = self.batches.cancel(call.argument)
        if batch is None:
            return Answer(404)
        return Answer(409) if batch.ended else Answer(200, self.anthropic_document(batch))

    def _anthropic_results(self, call: Call) -> Answer:
        return Answer(200, self.anthropic_lines(self.batches.get(call.argument)))

    def anthropic_document(self, batch: HostedBatch) -> dict[str, Any]:
        """Return a batch as Anthropic describes it."""
        status = "ended" if batch.ended else "canceling" if batch.cancelled else "in_progress"
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": {
                "processing": 0 if batch.ended else len(batch.requests),
                "succeeded": batch.count("succeeded"),
                "errored": batch.count("errored"),
                "canceled": batch.count("canceled"),
                "expired": batch.count("expired"),
            },
            "created_at": batch.created_at.isoformat(),
            "expires_at": batch.expires_at.isoformat(),
            "ended_at": batch.created_at.isoformat() if batch.ended else None,
            "archived_at": None,
            "cancel_initiated_at": batch.created_at.isoformat() if batch.cancelled else None,
            "results_url": f"{self.url}/v1/messages/batches/{batch.id}/results" if batch.ended else None,
        }

    def anthropic_lines(self, batch: HostedBatch) -> Iterator[bytes]:
        """Yield a batch's results, in another order than its requests."""
        for name, params in reversed(batch.requests):
            outcome = batch.outcomes[name]
            result: dict[str, Any] = {"type": outcome}
            if outcome == "succeeded":
                content = [{"type": "text", "text": reply(params)}]
                result["message"] = {"type": "message", "role": "assistant", "content": content}
            if outcome == "errored":
                result["error"] = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
            yield _line({"custom_id": name, "result": result})

    # OpenAI

    def _openai_upload(self, call: Call) -> Answer:
        file_id = self.batches.store_file(_uploaded_file(call))
        return Answer(200, {"id": file_id, "object": "file", "purpose": "batch", "bytes": 0, "created_at": 0})

    def _openai_create(self, call: Call) -> Answer:
        wanted = json.loads(call.body)
        content = self.batches.file(wanted["input_file_id"]) or b""
        requests = [(one["custom_id"], one["body"]) for one in map(json.loads, content.splitlines())]
        batch = self.batches.create(
            "batch", requests, endpoint=wanted["endpoint"], metadata=wanted.get("metadata") or {}
        )
        return Answer(200, self.openai_document(batch))

    def _openai_list(self, call: Call) -> Answer:
        own = [batch for batch in self.batches.all() if batch.id.startswith("batch")]
        page, more = _page(own, call.query.get("after"), int(call.query.get("limit", 20)))
        return Answer(200, {"object": "list", "data": [self.openai_document(one) for one in page], "has_more": more})

    def _openai_retrieve(self, call: Call) -> Answer:
        batch = self.batches.look(call.argument)
        return Answer(404) if batch is None else Answer(200, self.openai_document(batch))

    def _openai_cancel(self, call: Call) -> Answer:
        batch = self.batches.cancel(call.argument)
        if batch is None:
            return Answer(404)
        return Answer(409) if batch.ended else Answer(200, self.openai_document(batch))

    def _openai_content(self, call: Call) -> Answer:
        batch_id, _, kind = call.argument.rpartition("-")
        batch = self.batches.get(batch_id)
        return Answer(200, self.openai_lines(batch, failed=kind == "errors"))

    def openai_document(self, batch: HostedBatch) -> dict[str, Any]:
        """Return a batch as OpenAI describes it."""
        ended = "cancelled" if batch.cancelled else "completed"
        created_at = int(batch.created_at.timestamp())
        return {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "completion_window": "24h",
            "input_file_id": "file",
            "status": ended if batch.ended else "cancelling" if batch.cancelled else "in_progress",
            "created_at": created_at,
            "expires_at": int(batch.expires_at.timestamp()),
            "metadata": dict(batch.metadata),
            "output_file_id": f"{batch.id}-answers" if batch.count("succeeded") else None,
            "error_file_id": f"{batch.id}-errors" if batch.count("errored") else None,
            "request_counts": {
                "total": len(batch.requests),
                "completed": batch.count("succeeded"),
                "failed": batch.count("errored"),
            },
        }

    def openai_lines(self, batch: HostedBatch, *, failed: bool) -> Iterator[bytes]:
        """Yield one of a batch's two files. What never ran is in neither."""
        for name, params in reversed(batch.requests):
            outcome = batch.outcomes[name]
            if outcome == "succeeded" and not failed:
                message = {"role": "assistant", "content": reply(params)}
                body: dict[str, Any] = {"choices": [{"index": 0, "message": message}]}
                yield _line({"custom_id": name, "response": {"status_code": 200, "body": body}, "error": None})
            elif outcome == "errored" and failed:
                body = {"error": {"message": "no", "type": "invalid_request_error"}}
                yield _line({"custom_id": name, "response": {"status_code": 400, "body": body}, "error": None})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or each block waits 40 ms for the client to confirm the one before

            def do_GET(self) -> None:
                _serve(self, server)

            def do_POST(self) -> None:
                _serve(self, server)

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # the client has gone
                    super().handle()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Say nothing."""

        return Handler


def _serve(handler: BaseHTTPRequestHandler, server: ProviderServer) -> None:
    url = urlsplit(handler.path)
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    name, argument = _route(handler.command, url.path)
    _send(handler, server.answer(Call(name, argument, query, dict(handler.headers), body)))


def _route(method: str, path: str) -> tuple[str, str]:
    for wanted, pattern, name in _ROUTES:
        found = pattern.fullmatch(path)
        if found is not None and wanted == method:
            return name, found[1] if found.groups() else ""
    return "unknown", path


def _send(handler: BaseHTTPRequestHandler, answer: Answer) -> None:
    if answer.body is None:
        handler.close_connection = True
        return
    blocks = [json.dumps(answer.body).encode()] if isinstance(answer.body, dict) else answer.body
    handler.send_response(answer.status)
    for name, value in answer.headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for block in blocks:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
    if answer.cut:
        handler.close_connection = True
    else:
        handler.wfile.write(b"0\r\n\r\n")


def _page(batches: list[HostedBatch], after: str | None, limit: int) -> tuple[list[HostedBatch], bool]:
    start = 0 if after is None else [batch.id for batch in batches].index(after) + 1
    return batches[start : start + limit], len(batches) > start + limit


def _uploaded_file(call: Call) -> bytes:
    """Return the file of a form."""
    head = b"Content-Type: " + call.headers["Content-Type"].encode() + b"\r\n\r\n"
    for part in BytesParser().parsebytes(head + call.body).walk():
        if part.get_filename() is not None:
            return bytes(part.get_payload(decode=True) or b"")
    raise ValueError("the form has no file")


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"


def _error(status: int) -> dict[str, Any]:
    return {"type": "error", "error": {"type": HTTPStatus(status).phrase, "message": HTTPStatus(status).description}}
