"""A callback goes to the address that was looked at, over TLS that is checked for the name."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from callboard.actors.callbacks.sender import Blocked, Message, Sender
from callboard.actors.callbacks.target import Address
from tests.support.certificates import Certificate, certificate
from tests.support.receiver import Receiver, plain

SECRET = "whsec_" + "QUJD" * 10
HOST = "inside.example"
"""No name server knows it: whoever looks it up again, instead of using the address, does not get there."""


class Names:
    """Looks addresses up as it is told, one answer after another, the last one from then on."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return list(map(ipaddress.ip_address, answer))


def sender(names: Names, *, trusted: Sequence[str] = (), tls: Certificate | None = None) -> Sender:
    return Sender(
        [SECRET],
        trusted,
        timeout_seconds=10,
        resolve=names,
        tls=None if tls is None else tls.trusting,
        now=lambda: datetime.now(UTC),
    )


def message(receiver: Receiver, host: str = HOST) -> Message:
    return Message("msg_1", f"https://{host}:{receiver.port}/done", "{}")


@pytest.fixture
def right(tmp_path: Path) -> Certificate:
    return certificate(tmp_path / "right", f"DNS:{HOST}")


async def test_the_checked_address_is_connected_to_and_the_certificate_is_checked_for_the_name(
    right: Certificate,
) -> None:
    shown: list[str | None] = []
    context, names = right.server(), Names(["127.0.0.1"])
    context.sni_callback = lambda _connection, name, _context: shown.append(name)
    async with Receiver(plain(204), tls=context) as receiver:
        answer = await sender(names, trusted=[HOST], tls=right).send(message(receiver))
        [request] = receiver.requests
    assert answer.status_code == 204
    assert (names.asked, shown) == ([HOST], [HOST])
    assert request.headers["host"] == f"{HOST}:{receiver.port}"
    assert request.verified(SECRET) == {}


async def test_a_certificate_for_the_address_and_another_name_is_refused(tmp_path: Path) -> None:
    wrong = certificate(tmp_path / "wrong", "DNS:other.example,IP:127.0.0.1")
    async with Receiver(plain(204), tls=wrong.server()) as receiver:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await sender(Names(["127.0.0.1"]), trusted=[HOST], tls=wrong).send(message(receiver))
    assert receiver.requests == []


async def test_a_certificate_of_an_unknown_authority_is_refused(right: Certificate) -> None:
    async with Receiver(plain(204), tls=right.server()) as receiver:
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
            await sender(Names(["127.0.0.1"]), trusted=[HOST]).send(message(receiver))
    assert receiver.requests == []


async def test_a_name_that_turns_private_after_it_was_checked_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[tuple[str, str | None]] = []

    async def connect(host: str, _port: int, *, server_hostname: str | None, **_: object) -> None:
        connected.append((host, server_hostname))
        raise ConnectionRefusedError(host)

    monkeypatch.setattr(asyncio, "open_connection", connect)
    names = Names(["1.1.1.1"], ["169.254.169.254"])
    rebinding = sender(names)
    call = Message("msg_1", "https://rebound.example/", "{}")
    with pytest.raises(ConnectionRefusedError):
        await rebinding.send(call)
    assert connected == [("1.1.1.1", "rebound.example")]  # never the name, which by now is another address
    assert names.asked == ["rebound.example"]
    with pytest.raises(Blocked, match=r"169\.254\.169\.254"):
        await rebinding.send(call)
    assert len(connected) == 1


async def test_a_redirect_to_a_private_address_is_not_followed(right: Certificate) -> None:
    async with (
        Receiver(plain(200)) as inside,
        Receiver(plain(307, f"location: {inside.url}/\r\n"), tls=right.server()) as receiver,
    ):
        answer = await sender(Names(["127.0.0.1"]), trusted=[HOST], tls=right).send(message(receiver))
    assert answer.status_code == 307
    assert inside.requests == []
