"""The HTTP endpoint for scrapes and probes, on a thread of its own: it answers while the event loop hangs."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import socketserver
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from threading import Lock, Thread
from time import monotonic
from typing import Any, Final, NamedTuple, cast
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from callboard.actors.errors import ConfigurationError

from .health import HealthRegistry, HealthState, Verdict, liveness, readiness, readiness_state, startup

logger = logging.getLogger(__name__)

_PROBES: Final[dict[str, Callable[[HealthState], Verdict]]] = {
    "/livez": liveness,
    "/healthz": liveness,
    "/readyz": readiness,
    "/startupz": startup,
}
_POLL_INTERVAL_SECONDS: Final = 0.1
_BACKLOG: Final = 64


class Endpoint:
    """Serves ``/metrics``, ``/livez`` (also ``/healthz``), ``/readyz`` and ``/startupz`` over HTTP, without TLS.

    Further pages are JSON documents.

    Args:
        registry: what ``/metrics`` shows.
        health: what the probes ask.
        host: address to listen on, default 127.0.0.1; ``Settings.metrics_host``.
        port: 0 (default) takes a free one; ``Settings.metrics_port``.
        max_connections: connections served at a time, default 16; one more is answered 503 and closed.
        request_timeout_seconds: a client that has not sent its request and read its answer by then is cut off,
            default 10.
        documents: further paths, each with the function that returns its document. Called in the endpoint's threads.
        listening: a socket that listens already and does not block, in place of ``host`` and ``port``; other processes
            may hold it too. The endpoint closes it.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        health: HealthRegistry,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        max_connections: int = 16,
        request_timeout_seconds: float = 10.0,
        documents: Mapping[str, Callable[[], object]] | None = None,
        listening: socket.socket | None = None,
    ) -> None:
        self._registry = registry
        self._documents = documents or {}
        self._paths = ("/metrics", *_PROBES, *self._documents)
        self._health = health
        self._host = host
        self._port = port
        self._max_connections = max_connections
        self._request_timeout_seconds = request_timeout_seconds
        self._listening = listening
        self._server: _Server | None = None
        self._thread: Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on; before ``start``, the one it was given."""
        return self._port if self._server is None else int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Where it listens, without a path: ``http://127.0.0.1:9464``."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    def start(self) -> None:
        """Listen and serve until ``stop``.

        Raises:
            ConfigurationError: the address cannot be listened on; the message names the settings.
            RuntimeError: it was started before.
        """
        if self._server is not None:
            raise RuntimeError(f"the endpoint already listens on {self.url}")
        listening = self._listening or listen(self._host, self._port)
        self._server = _Server(listening, self._answer, self._max_connections, self._request_timeout_seconds)
        self._thread = Thread(
            target=self._server.serve_forever, args=(_POLL_INTERVAL_SECONDS,), name="callboard-endpoint", daemon=True
        )
        self._thread.start()
        logger.info("serving %s on %s", ", ".join(self._paths), self.url)

    def stop(self) -> None:
        """Close the listening socket and every connection, and return when all threads have ended. Twice is fine."""
        if self._server is None or self._thread is None:
            return
        self._port = self.port
        self._server.shutdown()
        self._thread.join()
        self._server.close()
        self._server = self._thread = None

    def _answer(self, target: str, headers: dict[str, str]) -> _Answer:
        url = urlsplit(target)
        if url.path == "/metrics":
            return self._metrics(parse_qs(url.query), headers)
        document = self._documents.get(url.path)
        if document is not None:
            return _json(HTTPStatus.OK, document())
        probe = _PROBES.get(url.path)
        if probe is None:
            return _json(HTTPStatus.NOT_FOUND, {"error": f"no page {url.path}", "pages": list(self._paths)})
        state = self._health.state()
        verdict = probe(state)
        return _json(
            HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE,
            {"ok": verdict.ok, "state": readiness_state(state), "reasons": list(verdict.reasons)},
        )

    def _metrics(self, query: dict[str, list[str]], headers: dict[str, str]) -> _Answer:
        encode, content_type = choose_encoder(headers.get("accept", ""))
        names = query.get("name[]")
        body = encode(self._registry.restricted_registry(names) if names else self._registry)
        answer_headers = {"Content-Type": content_type}
        if "gzip" in headers.get("accept-encoding", ""):
            body = gzip.compress(body, compresslevel=1)
            answer_headers["Content-Encoding"] = "gzip"
        return _Answer(HTTPStatus.OK, answer_headers, body)


class _Answer(NamedTuple):
    status: HTTPStatus
    headers: dict[str, str]
    body: bytes


def _json(status: HTTPStatus, content: object) -> _Answer:
    return _Answer(status, {"Content-Type": "application/json"}, json.dumps(content).encode() + b"\n")


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, does not block, and may be shared with other processes.

    Raises:
        ConfigurationError: the address cannot be listened on; the message names the settings.
    """
    listening: socket.socket | None = None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        # Where several processes wait for one connection, only one gets it; the others must not hang in accept().
        listening.setblocking(False)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise ConfigurationError(
            f"cannot serve metrics on host {host!r}, port {port}: {error.strerror or error}. Choose another address "
            "with CALLBOARD_METRICS_HOST and CALLBOARD_METRICS_PORT (0 takes a free port)"
        ) from error
    return listening


class _Server(socketserver.TCPServer):
    """Accepts, hands each connection to a thread, and cuts off those that take too long."""

    def __init__(
        self,
        listening: socket.socket,
        answer: Callable[[str, dict[str, str]], _Answer],
        max_connections: int,
        request_timeout_seconds: float,
    ) -> None:
        self.answer = answer
        self.request_timeout_seconds = request_timeout_seconds
        self._max_connections = max_connections
        self._lock = Lock()
        self._connections: dict[socket.socket, _Connection] = {}
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a new connection on a thread of its own, or refuse it when there are too many."""
        with self._lock:
            full = len(self._connections) >= self._max_connections
            if not full:
                thread = Thread(target=self._serve, args=(request, client_address), name="callboard-probe", daemon=True)
                thread.start()
                self._connections[request] = _Connection(thread, monotonic() + self.request_timeout_seconds)
        if full:
            self._refuse(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (the base class's signature)
        """Log what kept a connection from being served."""
        logger.exception("cannot serve the connection from %s", client_address)  # noqa: LOG004 (socketserver handles one)

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError as error:
            logger.debug("connection from %s ended early: %s", client_address, error)
        except Exception:
            logger.exception("connection from %s", client_address)
        finally:
            self.shutdown_request(request)
            with self._lock:
                del self._connections[request]

    def _refuse(self, request: socket.socket) -> None:
        request.setblocking(False)
        try:
            request.send(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
        except OSError as error:
            logger.debug("a refused client did not wait for the answer: %s", error)
        self.shutdown_request(request)

    def service_actions(self) -> None:
        """Cut off clients that are too slow. Called by ``serve_forever`` a few times a second."""
        self._cut_off(monotonic())

    def _cut_off(self, now: float) -> list[Thread]:
        with self._lock:
            late = [(request, each.thread) for request, each in self._connections.items() if each.deadline <= now]
        for request, _ in late:
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError as error:  # it has ended by itself in this moment
                logger.debug("a slow client was already gone: %s", error)
        return [thread for _, thread in late]

    def close(self) -> None:
        """Close the listening socket and all connections, and wait for their threads."""
        self.server_close()
        for thread in self._cut_off(float("inf")):
            thread.join()


class _Connection(NamedTuple):
    thread: Thread
    deadline: float


class _Handler(BaseHTTPRequestHandler):
    """One request on one connection (HTTP/1.0)."""

    def setup(self) -> None:
        """Bound every single read and write as well: a thread must not outlive a client that vanished."""
        self.request.settimeout(cast(_Server, self.server).request_timeout_seconds)
        super().setup()

    def do_GET(self) -> None:
        """Answer with headers and body."""
        self._respond(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the headers of GET."""
        self._respond(with_body=False)

    def _respond(self, *, with_body: bool) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            answer = cast(_Server, self.server).answer(self.path, headers)
        except Exception:
            logger.exception("%s failed", self.path)
            answer = _json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "see the log of the process"})
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def version_string(self) -> str:
        """Name the server, and no versions: those are in ``callboard_build_info``."""
        return "callboard"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it so)
        """Log requests at DEBUG: probes come every few seconds."""
        logger.debug("%s %s", self.address_string(), format % args)
