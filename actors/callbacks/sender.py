"""Sends one callback: to an address that was looked at, without redirects, with a bound for everything."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final, NamedTuple

import h11
from standardwebhooks import Webhook

from .target import Address, Target, is_trusted, parse_url, refusal

LARGEST_ANSWER_BYTES: Final = 64 * 1024
"""So much of an answer is read; what is in it interests nobody."""
_CHUNK_BYTES: Final = 16 * 1024
_USER_AGENT: Final = "callboard"


class Blocked(Exception):
    """The URL or an address of its host may not be called. Nothing was sent."""


class Answer(NamedTuple):
    """What came back."""

    status_code: int
    retry_after_seconds: float | None


class Message(NamedTuple):
    """What is sent."""

    id: str
    """The same in all attempts: receivers leave out what they have had."""
    url: str
    body: str


Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


async def resolve(host: str, port: int) -> Sequence[Address]:
    """Return the addresses of a host."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(str(place[0]).partition("%")[0]) for *_, place in found))


def signed_headers(secrets: Sequence[str], message: Message, at: datetime) -> dict[str, str]:
    """Return the headers of the Standard Webhooks specification, signed with each secret.

    Args:
        secrets: ``whsec_...``.
        message: what is sent.
        at: the time of the attempt.
    """
    moment = at.astimezone(UTC)
    signatures = [Webhook(secret).sign(message.id, moment, message.body) for secret in secrets]
    return {
        "webhook-id": message.id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


class Sender:
    """Sends callbacks.

    Args:
        secrets: what to sign with.
        trusted_hosts: hosts that may be reached without TLS, and at private addresses.
        timeout_seconds: for one attempt, from the look-up of the address to the end of the answer.
        resolve: looks addresses up.
        tls: makes the context of a TLS connection; default: certificates that the system trusts, for the name.
        now: the time.
    """

    def __init__(
        self,
        secrets: Sequence[str],
        trusted_hosts: Collection[str],
        *,
        timeout_seconds: float,
        resolve: Resolve = resolve,
        tls: Callable[[], ssl.SSLContext] | None = None,
        now: Callable[[], datetime],
    ) -> None:
        self._secrets = tuple(secrets)
        self._trusted_hosts = frozenset(trusted_hosts)
        self._timeout_seconds = timeout_seconds
        self._resolve = resolve
        self._tls = tls or _tls
        self._now = now

    async def send(self, message: Message) -> Answer:
        """Send, and return the answer's status.

        Raises:
            Blocked: it may not go there. Nothing was sent.
            TimeoutError: it took too long.
            OSError: there is no connection, or not with a valid certificate.
            h11.RemoteProtocolError: the answer is no HTTP.
        """
        async with asyncio.timeout(self._timeout_seconds):
            try:
                target = parse_url(message.url, self._trusted_hosts)
            except ValueError as error:
                raise Blocked(str(error)) from error
            reader, writer = await self._connect(target)
            try:
                return await self._exchange(target, message, reader, writer)
            finally:
                writer.transport.abort()  # whatever it still sends

    async def _connect(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        addresses = await self._resolve(target.host, target.port)
        if not is_trusted(target.host, self._trusted_hosts):
            for address in addresses:  # all of them: one that is private among public ones is no accident
                why = refusal(address)
                if why is not None:
                    raise Blocked(f"{target.host} is {address}, {why}")
        context = self._tls() if target.scheme == "https" else None
        failure: OSError | None = None
        for address in addresses:
            try:
                # The address that was looked at, never the name again: between two look-ups it could change.
                return await asyncio.open_connection(
                    str(address), target.port, ssl=context, server_hostname=target.host if context else None
                )
            except OSError as error:
                failure = error
        raise failure or OSError(f"{target.host} has no address")

    async def _exchange(
        self, target: Target, message: Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Answer:
        body = message.body.encode()
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_ANSWER_BYTES)
        headers = {
            "host": target.authority,
            "user-agent": _USER_AGENT,
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            **signed_headers(self._secrets, message, self._now()),
        }
        for event in (
            h11.Request(method="POST", target=target.path, headers=list(headers.items())),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            writer.write(http.send(event) or b"")
        await writer.drain()
        return await _answer(http, reader)


async def _answer(http: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(_CHUNK_BYTES))
        elif isinstance(event, h11.Response):
            return Answer(event.status_code, _retry_after(event))
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionResetError("the receiver closed the connection without an answer")


def _retry_after(response: h11.Response) -> float | None:
    for name, value in response.headers:
        if name == b"retry-after" and value.isdigit():
            return float(value[:9])
    return None


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
