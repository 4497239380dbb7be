"""The endpoint over real sockets on the loopback interface."""

import gzip
import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from callboard.actors.clock import SystemClock
from callboard.actors.errors import ConfigurationError
from callboard.supervision.endpoint import Endpoint, listen
from callboard.supervision.health import HealthRegistry


@pytest.fixture
def health() -> HealthRegistry:
    return HealthRegistry(SystemClock(), hang_limit_seconds=60)


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Counter("callboard_jobs_total", "Jobs.", registry=registry).inc(3)
    return registry


@pytest.fixture
def endpoint(registry, health) -> Iterator[Endpoint]:
    with serving(registry, health) as endpoint:
        yield endpoint


@contextmanager
def serving(registry, health, **options) -> Iterator[Endpoint]:
    endpoint = Endpoint(registry, health, **options)
    endpoint.start()
    try:
        yield endpoint
    finally:
        endpoint.stop()


def fetch(endpoint: Endpoint, path: str, method: str = "GET", headers: dict[str, str] | None = None):
    with closing(http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=10)) as connection:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response, response.read()


def test_further_documents_are_json(registry, health) -> None:
    with serving(registry, health, documents={"/targets": lambda: [{"targets": ["a:1"]}]}) as endpoint:
        response, body = fetch(endpoint, "/targets")
        assert (response.status, response.getheader("Content-Type")) == (200, "application/json")
        assert json.loads(body) == [{"targets": ["a:1"]}]
        assert "/targets" in json.loads(fetch(endpoint, "/nothing")[1])["pages"]


def test_two_endpoints_share_a_socket_and_the_second_goes_on_alone(registry, health) -> None:
    with (
        listen("127.0.0.1", 0) as shared,
        serving(registry, health, listening=shared.dup()) as older,
        serving(registry, health, listening=shared.dup()) as newer,
    ):
        assert older.port == newer.port == shared.getsockname()[1]
        assert [fetch(older, "/metrics")[0].status for _ in range(20)] == [200] * 20
        older.stop()  # no accept() of it hangs, whichever of the two got each connection
        assert [fetch(newer, "/metrics")[0].status for _ in range(5)] == [200] * 5


def endpoint_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("callboard-")]


def test_metrics_are_parsable_text(endpoint):
    response, body = fetch(endpoint, "/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = [sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples]
    assert ("callboard_jobs_total", 3.0) in [(sample.name, sample.value) for sample in samples]


def test_metrics_follow_what_the_scraper_accepts(endpoint):
    response, body = fetch(
        endpoint,
        "/metrics",
        headers={"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"},
    )
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    assert gzip.decompress(body).endswith(b"# EOF\n")


def test_metrics_can_be_restricted_by_name(endpoint):
    assert b"callboard_jobs_total" in fetch(endpoint, "/metrics?name[]=callboard_jobs_total")[1]
    assert fetch(endpoint, "/metrics?name[]=something_else")[1] == b""


def test_head_answers_the_headers_of_get(endpoint):
    response, body = fetch(endpoint, "/metrics", "HEAD")
    assert (response.status, body) == (200, b"")
    assert int(response.headers["Content-Length"]) > 0


def test_probes_answer_what_health_says(endpoint, health):
    assert fetch(endpoint, "/livez")[0].status == 200
    assert fetch(endpoint, "/healthz")[0].status == 200
    assert fetch(endpoint, "/startupz")[0].status == 503
    health.startup_finished()
    health.store_checked("unreachable")
    assert fetch(endpoint, "/startupz")[0].status == 200
    response, body = fetch(endpoint, "/readyz")
    assert response.status == 503
    assert json.loads(body) == {"ok": False, "state": "degraded", "reasons": ["store: unreachable"]}
    health.store_checked()
    response, body = fetch(endpoint, "/readyz")
    assert (response.status, json.loads(body)["ok"]) == (200, True)


async def test_it_answers_while_the_event_loop_hangs(registry, clock):
    health = HealthRegistry(clock, hang_limit_seconds=15)
    with serving(registry, health) as endpoint:
        # The calls below block this test's event loop, so nothing that the endpoint needs can run on it.
        assert fetch(endpoint, "/livez")[0].status == 200
        clock.advance(15)
        response, body = fetch(endpoint, "/livez")
        assert response.status == 503
        assert "silent for 15.0 s" in json.loads(body)["reasons"][0]
        assert fetch(endpoint, "/metrics")[0].status == 200


def test_an_unknown_page_lists_the_known_ones(endpoint):
    response, body = fetch(endpoint, "/metric")
    assert response.status == 404
    assert "/metrics" in json.loads(body)["pages"]


def test_other_methods_are_refused(endpoint):
    assert fetch(endpoint, "/metrics", "POST")[0].status == 501


def test_a_collector_that_raises_is_a_500_and_is_logged(health, caplog):
    class Broken:
        def collect(self):
            raise LookupError("broken provider")

    registry = CollectorRegistry()
    registry.register(Broken())
    with serving(registry, health) as endpoint:
        assert fetch(endpoint, "/metrics")[0].status == 500
    assert "broken provider" in caplog.text


def test_a_taken_port_names_address_and_settings(endpoint, registry, health):
    with pytest.raises(ConfigurationError) as caught:
        Endpoint(registry, health, port=endpoint.port).start()
    for part in ("'127.0.0.1'", str(endpoint.port), "in use", "CALLBOARD_METRICS_PORT", "CALLBOARD_METRICS_HOST"):
        assert part in str(caught.value)


def test_a_foreign_host_names_the_setting(registry, health):
    with pytest.raises(ConfigurationError, match=r"'192\.0\.2\.1'.*CALLBOARD_METRICS_HOST"):
        Endpoint(registry, health, host="192.0.2.1").start()


def test_stop_frees_the_port_and_leaves_no_thread(registry, health):
    endpoint = Endpoint(registry, health)
    endpoint.stop()
    endpoint.start()
    with pytest.raises(RuntimeError, match="already listens"):
        endpoint.start()
    idle = socket.create_connection(("127.0.0.1", endpoint.port))
    with idle:
        fetch(endpoint, "/livez")
        url = endpoint.url
        endpoint.stop()
        endpoint.stop()
        assert endpoint_threads() == []
        assert endpoint.url == url
    endpoint.start()
    assert fetch(endpoint, "/livez")[0].status == 200
    endpoint.stop()


def test_a_slow_client_is_cut_off_however_it_drips(registry, health):
    with (
        serving(registry, health, request_timeout_seconds=0.2) as endpoint,
        socket.create_connection(("127.0.0.1", endpoint.port), timeout=10) as client,
    ):
        client.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
        assert client.recv(100) == b"", "closed without an answer"


def test_too_many_connections_are_refused_and_the_rest_is_served(registry, health):
    with (
        serving(registry, health, max_connections=1) as endpoint,
        socket.create_connection(("127.0.0.1", endpoint.port), timeout=10) as first,
    ):
        # Connections are accepted in order, so the first one holds the only place by now.
        response, _ = fetch(endpoint, "/livez")
        assert response.status == 503
        assert response.headers["Retry-After"] == "1"
        first.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        assert first.recv(100).startswith(b"HTTP/1.0 200")


def test_a_client_that_goes_away_hurts_nobody(health):
    asked, gone = threading.Event(), threading.Event()

    class Slow:
        def collect(self):
            asked.set()
            gone.wait(10)
            return []

    registry = CollectorRegistry()
    registry.register(Slow())
    with serving(registry, health) as endpoint:
        with socket.create_connection(("127.0.0.1", endpoint.port), timeout=10) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert asked.wait(10)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends a reset
        gone.set()
        assert fetch(endpoint, "/livez")[0].status == 200


def test_a_connection_that_gets_no_thread_is_closed_and_logged(registry, health, monkeypatch, caplog):
    class Exhausted:
        def __init__(self, **_: object) -> None:
            pass

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    with serving(registry, health) as endpoint:
        with monkeypatch.context() as patched:
            patched.setattr("callboard.supervision.endpoint.Thread", Exhausted)
            with pytest.raises((http.client.HTTPException, ConnectionError)):
                fetch(endpoint, "/livez")
        assert "can't start new thread" in caplog.text
        assert fetch(endpoint, "/livez")[0].status == 200
