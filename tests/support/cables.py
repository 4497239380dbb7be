"""Network cables that a test can cut: nodes in network namespaces, and a switch between them and the server.

What happens to a connection over a cable is the kernel's doing, at both ends: retransmissions, keepalives, time limits.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path

from sqlalchemy.engine import make_url

from callboard.persistence.embedded import EmbeddedServer

_TOOLS = ("ip", "bridge")


def missing() -> str | None:
    """Return why there can be no cables here, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent:
        return f"network namespaces need {' and '.join(absent)} (Debian: iproute2)"
    made = subprocess.run(["ip", "netns", "add", name := _name("probe")], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespace can be made here: {made.stderr.strip()}"
    _run("ip", "netns", "del", name)
    return None


class Cut(Enum):
    """How a cable fails."""

    SILENT = "silent"
    """Somewhere in between nothing is passed on any more. Both ends have a link, and are told nothing."""
    UNPLUGGED = "unplugged"
    """The node's own link is down: it has no route, and is told so. The server is told nothing."""


class Cable:
    """A network namespace and its cable to the switch.

    Attributes:
        prefix: what runs a command in the namespace.
        url: the server's URL as a node in the namespace reaches it.
    """

    def __init__(self, switch: Switch, number: int, server_url: str) -> None:
        self._name = _name(str(number))
        self._port = f"{self._name}p"
        self._cut: Cut | None = None
        self.prefix = ("ip", "netns", "exec", self._name)
        self.url = make_url(server_url).set(host=switch.address).render_as_string(hide_password=False)
        _run("ip", "netns", "add", self._name)
        _run("ip", "link", "add", self._port, "type", "veth", "peer", "name", "cable", "netns", self._name)
        _run("ip", "link", "set", self._port, "master", switch.name, "up")
        _run("ip", "-n", self._name, "address", "add", f"{switch.network}.{number}/24", "dev", "cable")
        for link in ("lo", "cable"):
            _run("ip", "-n", self._name, "link", "set", link, "up")

    def cut(self, how: Cut) -> None:
        """Cut it."""
        self._cut = how
        if how is Cut.SILENT:
            _run("bridge", "link", "set", "dev", self._port, "state", "disabled")
        else:
            _run("ip", "-n", self._name, "link", "set", "cable", "down")

    def mend(self) -> None:
        """Let everything through again, old connections included."""
        if self._cut is Cut.SILENT:
            _run("bridge", "link", "set", "dev", self._port, "state", "forwarding")
        elif self._cut is Cut.UNPLUGGED:
            _run("ip", "-n", self._name, "link", "set", "cable", "up")
        self._cut = None

    def remove(self) -> None:
        """Remove the namespace, and with it the cable. What ran in there should have ended."""
        _run("ip", "link", "del", self._port)
        _run("ip", "netns", "del", self._name)


class Switch:
    """A bridge with an address of this machine, where the server listens.

    Attributes:
        name: the bridge.
        network: the first three parts of its addresses.
        address: the server's.
    """

    def __init__(self) -> None:
        self.name = _name("s")
        self.network = f"10.213.{secrets.randbelow(254) + 1}"
        self.address = f"{self.network}.1"
        _run("ip", "link", "add", self.name, "type", "bridge")
        _run("ip", "address", "add", f"{self.address}/24", "dev", self.name)
        _run("ip", "link", "set", self.name, "up")

    def remove(self) -> None:
        """Remove it."""
        _run("ip", "link", "del", self.name)


class CabledServer:
    """A server of its own, on this machine's loopback and at the switch.

    Attributes:
        server: the server.
    """

    def __init__(self, server: EmbeddedServer, switch: Switch, stack: ExitStack) -> None:
        self.server = server
        self._switch = switch
        self._stack = stack
        self._cables = 0

    def cable(self, url: str) -> Cable:
        """Add a namespace with a cable; ``url`` is that of a database as it is reached on this machine."""
        self._cables += 1
        cable = Cable(self._switch, self._cables + 1, url)
        self._stack.callback(cable.remove)
        return cable


@contextmanager
def running_cabled_server(settings: dict[str, str] | None = None) -> Iterator[CabledServer]:
    """Start a server that nodes reach over cables; whatever is added to it is removed with it."""
    with ExitStack() as stack:
        switch = Switch()
        stack.callback(switch.remove)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="callboard-cables-")))
        folder.chmod(0o755)  # the server has an account of its own
        rules = folder / "pg_hba.conf"
        lines = ("local all all", "host all all 127.0.0.1/32", f"host all all {switch.network}.0/24")
        rules.write_text("".join(f"{line} scram-sha-256\n" for line in lines))
        rules.chmod(0o644)
        places = {"listen_addresses": f"127.0.0.1,{switch.address}", "hba_file": str(rules)}
        server = stack.enter_context(EmbeddedServer(settings={**(settings or {}), **places}))
        yield CabledServer(server, switch, stack)


def _name(purpose: str) -> str:
    """Return a name that a link may have (15 bytes), and no other run has."""
    return f"cb{secrets.token_hex(3)}{purpose}"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
