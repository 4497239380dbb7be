"""A private PostgreSQL server for ``callboard dev``, ``callboard demo``, benchmarks and tests. See docs/embedded.md.

Not for production: it has no TLS and no backups, and it lives on the disk and in the memory of one machine.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Literal, Self
from urllib.parse import quote

from callboard.actors.errors import EmbeddedServerError
from callboard.persistence import embedded_databases, embedded_guard
from callboard.persistence.embedded_account import ServerAccount, server_account, usable_binaries
from callboard.persistence.embedded_binaries import ServerBinaries, ServerVersion, find_binaries
from callboard.persistence.embedded_folder import (
    SUPERUSER,
    ServerFolder,
    create_cluster,
    make_home,
    make_temporary_folder,
    socket_folder,
)
from callboard.persistence.embedded_postmaster import (
    Postmaster,
    end,
    find_postmaster,
    free_port,
    kill_tree,
    launch,
    port_is_free,
    wait_until_ready,
)

StopMode = Literal["fast", "immediate"]

_STOP_TIMEOUT_SECONDS = 30.0
_START_ATTEMPTS = 5


class EmbeddedServer:
    """A PostgreSQL server of our own: own data folder, own Unix socket, own TCP port of 127.0.0.1.

    Every write is as durable as on any PostgreSQL (fsync is on), unless ``settings`` say otherwise. A temporary server
    never outlives its process, however that ends. A server with a data folder keeps its data; if its process is
    killed it goes on running, and the next start on that folder takes it over. Several processes that start servers on
    one folder share one server, and the last one to stop stops it.

    An object belongs to one thread at a time; different objects, also on the same folder, may be used at once.

    Args:
        data_directory: the folder to keep data in; it is created if missing. None takes a temporary one, which is
            removed at ``stop``.
        settings: server settings by name, e.g. ``{"max_connections": "500"}``, over our defaults (200 connections,
            256 MB of shared buffers, UTC). They have no effect on a server that runs already.
        port: the TCP port; None takes the last one used with this folder if it is free, else any free one. ``restart``
            and ``start`` after ``kill`` always keep the port.

    Raises (``start``):
        EmbeddedServerError: no binaries found, none of the data folder's major version, a port that is taken, a server
            that does not start. Nothing of it is left running.
        ServerTooOld: the only binaries found are older than PostgreSQL 14.
    """

    def __init__(
        self,
        data_directory: Path | None = None,
        *,
        settings: Mapping[str, str] = MappingProxyType({}),
        port: int | None = None,
    ) -> None:
        self._data_directory = data_directory
        self._settings = dict(settings)
        self._wanted_port = port
        self._folder: ServerFolder | None = None
        self._binaries: ServerBinaries | None = None
        self._account: ServerAccount | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        place = self._data_directory or (self._folder.home if self._folder else "temporary")
        return f"<EmbeddedServer {place} {'running' if self.is_running else 'stopped'}>"

    def start(self) -> None:
        """Start the server, or take over the one that runs on the data folder; no effect if it runs for us already.

        Returns when it accepts connections.
        """
        if self.is_running:
            return
        account = self._account = self._account or server_account()
        if self._folder is None:
            self._folder = self._open_folder(account)
        folder = self._folder
        try:
            with folder.changing():
                major = folder.cluster_major()
                self._binaries = self._find_binaries(folder, account, major)
                if major is None:
                    create_cluster(folder, self._binaries, account, durable=self._data_directory is not None)
                self._adopt_or_launch(folder, self._binaries, account)
                folder.join()
        except BaseException:
            self._discard()
            raise

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server, unless other processes use it too; a temporary one is removed. No effect if it is stopped.

        Args:
            mode: ``fast`` rolls back what is going on and writes a checkpoint; ``immediate`` ends without one, as a
                crash does, and the next start recovers. A ``fast`` stop that takes 30 s becomes an immediate one.
        """
        folder = self._folder
        if folder is None:
            return
        with folder.changing():
            if folder.leave():
                self._end(folder, mode)
        self._discard()

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server and start it again, on the same port and data; for everybody who uses it."""
        folder = self._running_folder()
        with folder.changing():
            self._end(folder, mode)
            self._launch_again(folder)

    def kill(self) -> None:
        """End the server and all its processes by SIGKILL. The data stay; ``start`` recovers them on the same port."""
        folder = self._running_folder()
        with folder.changing():
            kill_tree(folder.cluster, self.pid)

    @property
    def is_running(self) -> bool:
        """Whether the server runs and accepts connections, for this object."""
        return self._folder is not None and self._find() is not None

    @property
    def url(self) -> str:
        """The address of the database ``postgres`` over TCP, with the superuser's password."""
        return f"postgresql://{SUPERUSER}:{self._password()}@127.0.0.1:{self.port}/postgres"

    @property
    def socket_url(self) -> str:
        """The same over the Unix socket: a little faster. The socket's folder is closed to other users, except root."""
        postmaster = self._running()
        host = quote(str(postmaster.socket_directory), safe="")
        return f"postgresql://{SUPERUSER}:{self._password()}@/postgres?host={host}&port={postmaster.port}"

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        return self._running().port

    @property
    def pid(self) -> int:
        """The process id of the server's main process."""
        return self._running().pid

    @property
    def version(self) -> ServerVersion:
        """The server's version, e.g. 18.6."""
        if self._binaries is None:
            raise EmbeddedServerError("the embedded server's version is known once it has been started")
        return self._binaries.version

    def database_url(self, name: str) -> str:
        """Return the address of a database of this server over TCP. It need not exist."""
        return embedded_databases.with_database(self.url, name)

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, empty or as a copy of another one that nobody is connected to; return its address.

        Raises:
            ConfigurationError: the name is empty or longer than 63 bytes.
            StoreError: the server refused.
        """
        return embedded_databases.create_database(self.url, name, template)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists; connections to it are closed.

        Raises:
            StoreError: the server refused.
        """
        embedded_databases.drop_database(self.url, name)

    def _open_folder(self, account: ServerAccount) -> ServerFolder:
        if self._data_directory is not None:
            return ServerFolder(make_home(self._data_directory, account))
        folder = ServerFolder(make_temporary_folder(account))
        self._guard = embedded_guard.start(folder.home / "cluster", folder.home)
        return folder

    def _find_binaries(self, folder: ServerFolder, account: ServerAccount, major: int | None) -> ServerBinaries:
        try:
            return usable_binaries(find_binaries(major=major), account)
        except EmbeddedServerError as error:
            if major is None:
                raise
            raise EmbeddedServerError(
                f"the data folder {folder.home} was made by PostgreSQL {major}, which alone can open it: {error}\n"
                f"Or move the folder away to start with an empty one."
            ) from error

    def _adopt_or_launch(self, folder: ServerFolder, binaries: ServerBinaries, account: ServerAccount) -> None:
        pid = embedded_guard.postmaster(folder.cluster)
        if pid is None:
            self._launch(folder, binaries, account)
            return
        running = wait_until_ready(folder, pid)
        if self._wanted_port not in (None, running.port):
            raise EmbeddedServerError(
                f"the server of {folder.home} runs already (process {pid}), on port {running.port}; the port "
                f"{self._wanted_port} was asked for. Stop it first, or ask for no port."
            )

    def _launch(self, folder: ServerFolder, binaries: ServerBinaries, account: ServerAccount) -> None:
        directory = socket_folder(folder, account)
        fixed = self._wanted_port
        if fixed is not None and not port_is_free(fixed):
            raise EmbeddedServerError(
                f"TCP port {fixed} of 127.0.0.1 is taken by another program. Choose another one, or none to get one "
                f"that is free."
            )
        for attempt in range(1, _START_ATTEMPTS + 1):
            port = fixed or self._free_port(folder)
            try:
                launch(folder, binaries, account, port=port, socket_directory=directory, settings=self._settings)
            except EmbeddedServerError:
                # Between our look and the server's somebody may have taken the port.
                if fixed is not None or attempt == _START_ATTEMPTS or port_is_free(port):
                    raise
            else:
                folder.last_port = port
                return

    def _free_port(self, folder: ServerFolder) -> int:
        last = folder.last_port
        return last if last is not None and port_is_free(last) else free_port()

    def _launch_again(self, folder: ServerFolder) -> None:
        assert self._binaries is not None
        assert self._account is not None
        self._launch(folder, self._binaries, self._account)

    def _end(self, folder: ServerFolder, mode: StopMode) -> None:
        pid = embedded_guard.postmaster(folder.cluster)
        if pid is None:
            return
        if mode == "fast" and end(folder.cluster, pid, signal.SIGINT, _STOP_TIMEOUT_SECONDS):
            return
        if not end(folder.cluster, pid, signal.SIGQUIT, _STOP_TIMEOUT_SECONDS):
            kill_tree(folder.cluster, pid)

    def _discard(self) -> None:
        """Forget the folder; remove it, and let the guard go, if it is temporary."""
        folder, self._folder = self._folder, None
        guard, self._guard = self._guard, None
        if folder is None:
            return
        folder.leave()
        if self._data_directory is None:
            self._end(folder, "immediate")
            shutil.rmtree(folder.home)
        if guard is not None:
            embedded_guard.dismiss(guard)

    def _password(self) -> str:
        return self._running_folder().password

    def _running_folder(self) -> ServerFolder:
        self._running()
        assert self._folder is not None
        return self._folder

    def _running(self) -> Postmaster:
        postmaster = self._find()
        if postmaster is None:
            raise EmbeddedServerError(f"{self!r} does not run: call start() first")
        return postmaster

    def _find(self) -> Postmaster | None:
        return None if self._folder is None else find_postmaster(self._folder.cluster)
