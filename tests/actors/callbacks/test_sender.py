"""Sending one callback, to receivers that misbehave in every way."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import h11
import pytest

from callboard.actors.callbacks.sender import Blocked, Message, Sender
from callboard.actors.callbacks.target import Address
from tests.support.receiver import Received, Receiver, plain

SECRET = "whsec_" + "QUJD" * 10
OLD_SECRET = "whsec_" + "REVG" * 10
BODY = '{"type":"job.completed","data":{"name":"größe"}}'


def sender(timeout_seconds: float = 10, trusted: Sequence[str] = ("127.0.0.1",), **others: Any) -> Sender:
    return Sender(
        [SECRET, OLD_SECRET], trusted, timeout_seconds=timeout_seconds, now=lambda: datetime.now(UTC), **others
    )


def message(receiver: Receiver, path: str = "/done?x=1") -> Message:
    return Message("msg_1", receiver.url + path, BODY)


def names(*addresses: str) -> Any:
    async def resolve(host: str, port: int) -> Sequence[Address]:
        return list(map(ipaddress.ip_address, addresses))

    return resolve


async def test_it_is_signed_so_that_old_and_new_secret_verify() -> None:
    async with Receiver(plain(204)) as receiver:
        assert (await sender().send(message(receiver))).status_code == 204
        [request] = receiver.requests
    assert request.path == "/done?x=1"
    assert request.headers["host"] == receiver_host(request)
    assert request.headers["webhook-id"] == "msg_1"
    assert request.headers["content-type"] == "application/json"
    for secret in (SECRET, OLD_SECRET):
        assert request.verified(secret) == {"type": "job.completed", "data": {"name": "größe"}}


def receiver_host(request: Received) -> str:
    host = request.headers["host"]
    assert host.startswith("127.0.0.1:")
    return host


async def test_a_redirect_is_an_answer_like_others() -> None:
    async with Receiver(plain(200)) as target, Receiver(plain(302, f"location: {target.url}/\r\n")) as receiver:
        assert (await sender().send(message(receiver))).status_code == 302
        assert target.requests == []


async def test_what_an_answer_asks_for_is_read() -> None:
    async with Receiver(plain(429, "retry-after: 120\r\n"), plain(503, "retry-after: soon\r\n")) as receiver:
        assert await sender().send(message(receiver)) == (429, 120.0)
        assert await sender().send(message(receiver)) == (503, None)


async def test_a_huge_answer_is_not_read() -> None:
    async def huge(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    async with Receiver(huge) as receiver:
        assert (await sender().send(message(receiver))).status_code == 200


async def test_endless_headers_are_refused() -> None:
    async def endless(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x-filler: " + b"x" * 1000 + b"\r\n")
            await writer.drain()

    async with Receiver(endless) as receiver:
        with pytest.raises(h11.RemoteProtocolError):
            await sender().send(message(receiver))


async def test_a_slow_drip_ends_at_the_time_limit() -> None:
    async def drip(_: Received, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\n" * 1000:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)

    async with Receiver(drip) as receiver:
        with pytest.raises(TimeoutError):
            await sender(timeout_seconds=0.3).send(message(receiver))


async def test_closing_and_nonsense_are_errors() -> None:
    async def close(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def nonsense(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n\r\n")

    async with Receiver(close, nonsense) as receiver:
        with pytest.raises((ConnectionError, h11.RemoteProtocolError)):
            await sender().send(message(receiver))
        with pytest.raises(h11.RemoteProtocolError):
            await sender().send(message(receiver))


async def test_nobody_there_is_an_error() -> None:
    async with Receiver(plain(200)) as receiver:
        gone = message(receiver)
    with pytest.raises(OSError, match=r"refused|Connect"):
        await sender().send(gone)


@pytest.mark.parametrize(
    "addresses", [("127.0.0.1",), ("1.1.1.1", "10.0.0.1"), ("::ffff:169.254.169.254",), ("2002:7f00:1::",)]
)
async def test_a_name_with_one_private_address_is_blocked(addresses: tuple[str, ...]) -> None:
    with pytest.raises(Blocked, match=r"rebound\.example is "):
        await sender(resolve=names(*addresses)).send(Message("msg_1", "https://rebound.example/", BODY))


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "localhost", "localhost.", "127.1"])
async def test_other_spellings_of_this_machine_are_blocked(host: str) -> None:
    with pytest.raises((Blocked, OSError)) as refused:
        await sender(trusted=()).send(Message("msg_1", f"https://{host}:1/", BODY))
    assert isinstance(refused.value, Blocked) or "not known" in str(refused.value).lower()


async def test_the_name_is_looked_up_once_and_that_address_is_connected_to() -> None:
    asked = []
    async with Receiver(plain(200)) as receiver:
        port = receiver.url.rpartition(":")[2]

        async def rebinding(host: str, _: int) -> Sequence[Address]:
            asked.append(host)
            return [ipaddress.ip_address("127.0.0.1" if len(asked) == 1 else "127.0.0.9")]

        trusting = sender(trusted=("inside.example",), resolve=rebinding)
        answer = await trusting.send(Message("msg_1", f"http://inside.example:{port}/", BODY))
        assert (answer.status_code, asked) == (200, ["inside.example"])
        assert receiver.requests[0].headers["host"] == f"inside.example:{port}"
