"""The server's main process: start it detached, wait until it is ready, send signals, kill it with its children."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from callboard.actors.errors import EmbeddedServerError
from callboard.persistence.embedded_account import ServerAccount
from callboard.persistence.embedded_binaries import ServerBinaries
from callboard.persistence.embedded_folder import ServerFolder, socket_folder
from callboard.persistence.embedded_guard import is_server
from callboard.persistence.embedded_guard import postmaster as running_pid

_START_TIMEOUT_SECONDS = 60.0
_STOP_TIMEOUT_SECONDS = 30.0
_KILL_TIMEOUT_SECONDS = 60.0
_POLL_INTERVAL_SECONDS = 0.01
_START_ATTEMPTS = 5
_PORT_ATTEMPTS = 20

# Below the ranges from which kernels take the ports of outgoing connections (Linux 32768, macOS and IANA 49152): there,
# a client that tries to reach a stopped server can be given that very port, connect to itself, and keep the server out.
_PORTS = range(15_000, 32_000)

_DEFAULTS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "fsync": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "cluster_name": "callboard",
}


@dataclass(frozen=True)
class Postmaster:
    """A running server, as its own ``postmaster.pid`` describes it.

    Attributes:
        pid: its process id.
        port: its TCP port on 127.0.0.1.
        socket_directory: where its Unix socket is.
        ready: it accepts connections.
    """

    pid: int
    port: int
    socket_directory: Path
    ready: bool


def find_postmaster(cluster: Path) -> Postmaster | None:
    """Return the running server of a data directory, or None; also None in the first moments, before it says more."""
    pid = running_pid(cluster)
    if pid is None:
        return None
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if len(lines) < 8 or lines[0] != str(pid):  # pid, folder, start time, port, socket folder, address, memory, status
        return None
    return Postmaster(pid, int(lines[3]), Path(lines[4]), lines[7].strip() == "ready")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody uses at this moment.

    Raises:
        EmbeddedServerError: none was found.
    """
    for _ in range(_PORT_ATTEMPTS):
        port = secrets.choice(_PORTS)
        if port_is_free(port):
            return port
    raise EmbeddedServerError(f"none of {_PORT_ATTEMPTS} TCP ports of 127.0.0.1 tried between 15000 and 32000 is free")


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class Launcher:
    """How the server of one folder is started.

    Attributes:
        folder: where it lives; the cluster is there.
        binaries: which programs.
        account: who runs them.
        settings: server settings over the defaults; where it listens is not among them.
        wanted_port: the TCP port, or None for the last one, else a free one.
    """

    folder: ServerFolder
    binaries: ServerBinaries
    account: ServerAccount
    settings: Mapping[str, str]
    wanted_port: int | None

    def adopt_or_launch(self) -> int:
        """Return the TCP port of the folder's server once it accepts connections. Call it inside ``changing``.

        Raises:
            EmbeddedServerError: it did not start, or runs already on another port than the wanted one.
        """
        pid = running_pid(self.folder.cluster)
        if pid is None:
            try:
                return self.launch()
            except EmbeddedServerError:
                # A server that a killed process had just launched shows itself only now.
                pid = running_pid(self.folder.cluster)
                if pid is None:
                    raise
        running = wait_until_ready(self.folder, pid)
        if self.wanted_port not in (None, running.port):
            raise EmbeddedServerError(
                f"the server of {self.folder.home} runs already (process {pid}), on port {running.port}; the port "
                f"{self.wanted_port} was asked for. Stop it first, or ask for no port."
            )
        return running.port

    def launch(self) -> int:
        """Start the server where none runs, on a port that is free; return it. Call it inside ``changing``.

        Raises:
            EmbeddedServerError: it did not start; the message has the end of its log.
        """
        if self.wanted_port is not None and not port_is_free(self.wanted_port):
            raise EmbeddedServerError(
                f"TCP port {self.wanted_port} of 127.0.0.1 is taken by another program. Choose another one, or none to "
                f"get one that is free."
            )
        attempt = 1
        while True:
            port = self.wanted_port or self._usual_port()
            try:
                self._launch_on(port)
            except EmbeddedServerError:
                # Between our look and the server's somebody may have taken the port.
                if self.wanted_port is not None or attempt == _START_ATTEMPTS or port_is_free(port):
                    raise
                attempt += 1
            else:
                self.folder.last_port = port
                return port

    def _usual_port(self) -> int:
        last = self.folder.last_port
        return last if last is not None and port_is_free(last) else free_port()

    def _launch_on(self, port: int) -> None:
        """Start the server and wait for it.

        It becomes no child of ours: it may outlive us and be taken over, and whoever ends it has no zombie to collect.
        """
        folder = self.folder
        sockets = socket_folder(folder, self.account)
        place = {"port": str(port), "unix_socket_directories": str(sockets)}
        command = [str(self.binaries.postgres), "-D", str(folder.cluster)]
        for name, value in (_DEFAULTS | dict(self.settings) | place).items():
            command += ["-c", f"{name}={value}"]
        # The server would take the process named in these files for a rival, should its number be in use again (a
        # container that was restarted) or be kept by a zombie. We know better: we hold the lock and found no server.
        for stale in (folder.cluster / "postmaster.pid", *sockets.iterdir()):
            stale.unlink(missing_ok=True)
        if folder.log.exists():
            folder.log.replace(folder.log.with_name("server.log.1"))
        with folder.log.open("wb") as log:
            done = self.account.run(["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh", *command], stderr=log)
        wait_until_ready(folder, int(done.stdout))


def wait_until_ready(folder: ServerFolder, pid: int) -> Postmaster:
    """Wait until the server with this process id accepts connections.

    Raises:
        EmbeddedServerError: it ended, or was not ready within a minute; the message has the end of its log.
    """
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        found = find_postmaster(folder.cluster)
        if found is not None and found.ready:
            return found
        if not is_server(pid, folder.cluster):
            raise EmbeddedServerError(f"the embedded PostgreSQL of {folder.home} did not start:\n{folder.symptoms()}")
        time.sleep(_POLL_INTERVAL_SECONDS)
    raise EmbeddedServerError(
        f"the embedded PostgreSQL of {folder.home} (process {pid}) was not ready after "
        f"{_START_TIMEOUT_SECONDS:.0f} s; it goes on trying. Its log:\n{folder.symptoms()}"
    )


def stop(cluster: Path, *, fast: bool) -> None:
    """Stop the server of a data directory and wait for its end; no effect if none runs.

    Args:
        cluster: the data directory.
        fast: with a checkpoint; if that takes more than 30 s, or otherwise, without one.
    """
    pid = running_pid(cluster)
    if pid is None or (fast and _end(cluster, pid, signal.SIGINT)):
        return
    if not _end(cluster, pid, signal.SIGQUIT):
        kill_tree(cluster, pid)


def _end(cluster: Path, pid: int, number: int) -> bool:
    """Send a signal to a server and wait for its end; return False if it still runs after the timeout."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
    while is_server(pid, cluster):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_INTERVAL_SECONDS)
    return True


def kill_tree(cluster: Path, pid: int) -> None:
    """End a server and all its processes by SIGKILL, as a power failure would, and wait until they are gone.

    Raises:
        EmbeddedServerError: some of them are still there after a minute (stuck in the kernel).
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # so that it starts no further children while we count them
    children = _children(pid)
    for process in (pid, *children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + _KILL_TIMEOUT_SECONDS
    while is_server(pid, cluster) or any(_is_alive(child) for child in children):
        if time.monotonic() > deadline:
            raise EmbeddedServerError(f"server process {pid} or one of its children {children} survives SIGKILL")
        time.sleep(_POLL_INTERVAL_SECONDS)


def _children(parent: int) -> list[int]:
    return [pid for pid, (ppid, _) in _processes().items() if ppid == parent]


def _is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be collected by its parent does not."""
    _, state = _processes().get(pid, (0, "Z"))
    return not state.startswith("Z")


def _processes() -> dict[int, tuple[int, str]]:
    """Return the parent and the state of every process by its id: from /proc, or from ps where that is missing."""
    if not Path("/proc/self").exists():
        columns = ["ps", "-A", "-o", "pid=,ppid=,state="]
        listing = subprocess.run(columns, capture_output=True, text=True, check=True).stdout
        rows = (line.split() for line in listing.splitlines())
        return {int(pid): (int(parent), state) for pid, parent, state in rows}
    processes = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            state, parent = path.read_text().rpartition(")")[2].split()[:2]  # the name before may hold anything
            processes[int(path.parent.name)] = (int(parent), state)
    return processes
