"""A private PostgreSQL server for ``callboard dev``, ``callboard demo``, benchmarks and tests. See docs/embedded.md.

Not for production: it has no TLS and no backups, and it lives on the disk and in the memory of one machine.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Literal, Self
from urllib.parse import quote

import psycopg

from callboard.actors.errors import EmbeddedServerError
from callboard.persistence import embedded_databases, embedded_guard
from callboard.persistence.embedded_account import server_account, usable_binaries
from callboard.persistence.embedded_binaries import ServerVersion, find_binaries
from callboard.persistence.embedded_folder import (
    SUPERUSER,
    ServerFolder,
    create_cluster,
    make_home,
    make_temporary_folder,
)
from callboard.persistence.embedded_postmaster import Launcher, Postmaster, find_postmaster, kill_tree, stop

StopMode = Literal["fast", "immediate"]


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
            256 MB of shared buffers, UTC, 127.0.0.1 only). They have no effect on a server that runs already.
        temporary_directory: where a temporary server's folder is made, e.g. ``Path("/dev/shm")`` for one in memory;
            None is the system's place (``TMPDIR``), which also serves where this one will not do. Without effect on a
            server with a data folder.
        port: the TCP port; None takes the last one used with this folder if it is free, else any free one. ``restart``
            and ``start`` after ``kill`` keep the port, or fail if another program has taken it meanwhile.

    Raises (``start``):
        EmbeddedServerError: no binaries found, none of the data folder's major version, a port that is taken, a folder
            that is another user's, a server that does not start (with the end of its log).
        ServerTooOld: the only binaries found are older than PostgreSQL 14.
    """

    def __init__(
        self,
        data_directory: Path | None = None,
        *,
        settings: Mapping[str, str] = MappingProxyType({}),
        temporary_directory: Path | None = None,
        port: int | None = None,
    ) -> None:
        self._data_directory = data_directory
        self._temporary_directory = temporary_directory
        self._settings = dict(settings)
        self._wanted_port = port
        self._folder: ServerFolder | None = None
        self._launcher: Launcher | None = None
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
        if self._folder is None:
            self._folder = self._open_folder()
        folder = self._folder
        try:
            with folder.changing():
                launcher = self._launcher or self._prepare(folder)
                port = launcher.adopt_or_launch()
                self._launcher = replace(launcher, wanted_port=port)
                folder.join()
        except OSError as error:
            self._discard()
            raise EmbeddedServerError(f"cannot start an embedded server in {folder.home}: {error}") from error
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
                stop(folder.cluster, fast=mode == "fast")
        self._discard()

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server and start it again, on the same port and data; for everybody who uses it."""
        launcher = self._started()
        with launcher.folder.changing():
            stop(launcher.folder.cluster, fast=mode == "fast")
            launcher.launch()

    def kill(self) -> None:
        """End the server and all its processes by SIGKILL. The data stay; ``start`` recovers them on the same port."""
        folder = self._started().folder
        with folder.changing():
            kill_tree(folder.cluster, self.pid)

    @property
    def is_running(self) -> bool:
        """Whether the server runs and accepts connections, for this object."""
        return self._launcher is not None and find_postmaster(self._launcher.folder.cluster) is not None

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
        return self._started().binaries.version

    def database_url(self, name: str) -> str:
        """Return the address of a database of this server over TCP. It need not exist."""
        return embedded_databases.with_database(self.url, name)

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, empty or as a copy of another one that nobody is connected to; return its address.

        Raises:
            ConfigurationError: the name is empty or longer than 63 bytes.
            StoreError: the server refused.
        """
        with psycopg.connect(self.url, autocommit=True) as connection:
            embedded_databases.create_database(connection, name, template)
        return self.database_url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists; connections to it are closed.

        Raises:
            StoreError: the server refused.
        """
        with psycopg.connect(self.url, autocommit=True) as connection:
            embedded_databases.drop_database(connection, name)

    def _open_folder(self) -> ServerFolder:
        account = server_account()
        if self._data_directory is not None:
            return ServerFolder(make_home(self._data_directory, account))
        folder = ServerFolder(make_temporary_folder(account, self._temporary_directory))
        self._guard = embedded_guard.start(folder.home)
        return folder

    def _prepare(self, folder: ServerFolder) -> Launcher:
        """Find the account and the binaries, and create the cluster if there is none yet."""
        major = folder.cluster_major()
        account = server_account(None if major is None else folder.cluster)
        try:
            binaries = usable_binaries(find_binaries(major=major), account)
        except EmbeddedServerError as error:
            if major is None:
                raise
            raise EmbeddedServerError(
                f"the data folder {folder.home} was made by PostgreSQL {major}, which alone can open it: {error}\n"
                f"Or move the folder away to start with an empty one."
            ) from error
        if major is None:
            create_cluster(folder, binaries, account, durable=self._data_directory is not None)
        return Launcher(folder, binaries, account, self._settings, self._wanted_port)

    def _discard(self) -> None:
        """Forget the folder; if it is temporary, remove it and let the guard go."""
        folder, self._folder = self._folder, None
        guard, self._guard = self._guard, None
        self._launcher = None
        if folder is None:
            return
        folder.leave()
        if self._data_directory is None:
            stop(folder.cluster, fast=False)
            shutil.rmtree(folder.home, ignore_errors=True)  # what resists is left to the guard
        if guard is not None:
            embedded_guard.dismiss(guard, finished=not folder.home.exists())

    def _started(self) -> Launcher:
        if self._launcher is None:
            raise EmbeddedServerError(f"{self!r} has not been started: call start() first")
        return self._launcher

    def _running(self) -> Postmaster:
        postmaster = find_postmaster(self._started().folder.cluster)
        if postmaster is None:
            raise EmbeddedServerError(f"{self!r} does not run, it was killed: call start() to recover it")
        return postmaster

    def _password(self) -> str:
        return self._started().folder.password
