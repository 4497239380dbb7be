"""The admin server: its clients can be anything, and none of them holds the others up."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callboard.actors.errors import AdminRefused, AdminUnavailable
from callboard.supervision import admin_client
from callboard.supervision.admin_messages import (
    REQUEST_LIMIT_BYTES,
    AdminAnswer,
    AdminRequest,
    StopRequest,
    TreeRequest,
    read_answer,
)
from callboard.supervision.admin_server import AdminServer

PATIENCE_SECONDS = 10
HUGE = "x" * 8 * 2**20


class Desk:
    """Answers as its test says."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()
        self.requests: list[AdminRequest] = []

    async def answer(self, request: AdminRequest) -> AdminAnswer:
        self.requests.append(request)
        self.asked.set()
        await self.open.wait()
        match request:
            case StopRequest(name="defect"):
                raise ValueError("a defect")
            case StopRequest(name="huge"):
                return AdminAnswer(result={"text": HUGE})
        return AdminAnswer(result={"text": "done"})


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
async def admin_server(tmp_path: Path, desk: Desk) -> AsyncIterator[AdminServer]:
    server = AdminServer(tmp_path / "s", desk.answer, max_connections=2)
    await server.start()
    yield server
    await server.stop()


async def ask(admin_server: AdminServer, request: AdminRequest) -> object:
    assert admin_server.path is not None
    return await asyncio.to_thread(admin_client.ask, admin_server.path, request, timeout_seconds=PATIENCE_SECONDS)


async def send(admin_server: AdminServer, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(admin_server.path)
    writer.write(data)
    return reader, writer


async def test_answers(admin_server: AdminServer, desk: Desk) -> None:
    assert await ask(admin_server, TreeRequest()) == {"text": "done"}
    assert desk.requests == [TreeRequest()]


async def test_an_answer_larger_than_every_buffer(admin_server: AdminServer) -> None:
    assert await ask(admin_server, StopRequest(name="huge")) == {"text": HUGE}


async def test_a_defect_is_told_and_logged(admin_server: AdminServer, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AdminRefused, match=r"ValueError\('a defect'\); see the log") as refused:
        await ask(admin_server, StopRequest(name="defect"))
    assert refused.value.code == "failed"
    assert "an admin request failed" in caplog.text
    assert await ask(admin_server, TreeRequest()) == {"text": "done"}


@pytest.mark.parametrize("data", [b"nonsense\n", b"x" * (REQUEST_LIMIT_BYTES + 1)])
async def test_what_is_no_request(admin_server: AdminServer, desk: Desk, data: bytes) -> None:
    reader, writer = await send(admin_server, data)
    answer = read_answer(await reader.readline())
    writer.close()
    assert answer.error is not None
    assert answer.error.code == "bad_request"
    assert desk.requests == []


async def test_clients_that_go_away_early(admin_server: AdminServer, desk: Desk) -> None:
    desk.open.clear()
    for data in (b"", b'{"command": ', b'{"command": "tree"}\n'):
        _, writer = await send(admin_server, data)
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await desk.asked.wait()
    desk.open.set()
    assert await ask(admin_server, TreeRequest()) == {"text": "done"}


async def test_too_many_clients_are_told_so(admin_server: AdminServer, desk: Desk) -> None:
    desk.open.clear()
    waiting = []
    for _ in range(2):
        desk.asked.clear()
        waiting.append(asyncio.create_task(ask(admin_server, TreeRequest())))
        await desk.asked.wait()
    with pytest.raises(AdminRefused, match="too many admin connections") as refused:
        await ask(admin_server, TreeRequest())
    assert refused.value.code == "busy"
    desk.open.set()
    assert await asyncio.gather(*waiting) == [{"text": "done"}] * 2


@pytest.mark.parametrize("data", [b"", b'{"command": "stop", "name": "huge"}\n'], ids=["says nothing", "never reads"])
async def test_a_hung_client_is_cut_off(tmp_path: Path, desk: Desk, data: bytes) -> None:
    admin_server = AdminServer(tmp_path / "s", desk.answer, max_connections=1, client_timeout_seconds=0.05)
    await admin_server.start()
    reader, writer = await send(admin_server, data)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not admin_server._connections:
                await asyncio.sleep(0)
            while admin_server._connections:
                await asyncio.sleep(0)
        assert await ask(admin_server, TreeRequest()) == {"text": "done"}
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(len(HUGE))
    finally:
        writer.close()
        await admin_server.stop()


async def test_a_stop_waits_for_nobody(admin_server: AdminServer, desk: Desk) -> None:
    desk.open.clear()
    path = admin_server.path
    waiting = asyncio.create_task(ask(admin_server, TreeRequest()))
    await desk.asked.wait()
    await admin_server.stop()
    with pytest.raises(AdminUnavailable, match="closed the connection without an answer"):
        await waiting
    assert path is not None
    assert not path.exists()
    await admin_server.stop()


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(AdminUnavailable, match="cannot reach a worker"):
        admin_client.ask(tmp_path / "none.sock", TreeRequest(), timeout_seconds=1)


async def test_a_client_does_not_wait_for_ever(admin_server: AdminServer, desk: Desk) -> None:
    desk.open.clear()
    assert admin_server.path is not None
    with pytest.raises(AdminUnavailable, match=r"not answered within 0.05 s.*kill -USR1"):
        await asyncio.to_thread(admin_client.ask, admin_server.path, TreeRequest(), timeout_seconds=0.05)


async def test_another_protocol(tmp_path: Path) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\n")
        writer.close()
        await writer.wait_closed()

    path = tmp_path / "other.sock"
    async with await asyncio.start_unix_server(greet, path):
        with pytest.raises(AdminUnavailable, match="does not speak this version's protocol"):
            await asyncio.to_thread(admin_client.ask, path, TreeRequest(), timeout_seconds=PATIENCE_SECONDS)
