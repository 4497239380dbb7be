"""The folder of an embedded server: what lies where, who is using it, and the creation of its database cluster.

::

    <home>/
    ├── cluster/      PostgreSQL's data directory (or a link to it, see ``place_for``)
    ├── socket/       the Unix socket (or a link to its folder, where the path is too long for a socket)
    ├── password      the superuser's, readable by the owner only
    ├── port          the TCP port of the last start, used again if it is free
    ├── server.log    of this start; server.log.1 of the one before
    ├── change.lock   held while somebody starts or stops the server
    └── users.lock    held, shared, by every process that uses the server
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from callboard.actors.errors import EmbeddedServerError
from callboard.persistence.embedded_account import ServerAccount
from callboard.persistence.embedded_binaries import ServerBinaries

SUPERUSER = "postgres"

# sun_path holds 108 bytes with the closing zero on Linux, 104 on macOS: the smaller one, so that a folder can be moved.
LONGEST_SOCKET_PATH_BYTES = 103
_SOCKET_NAME = "/.s.PGSQL.65535"
_LOCK_TIMEOUT_SECONDS = 60.0
_LOCK_INTERVAL_SECONDS = 0.02
_SYSTEM_HOME = Path("/var/lib/callboard")
_SHARED_FOLDERS = ("/tmp", "/var/tmp")
_LOG_TAIL_LINES = 20
_LITTLE_SPACE_BYTES = 32 * 2**20  # one WAL segment and its successor


class ServerFolder:
    """Paths of one embedded server's folder, and the two file locks in it.

    File locks belong to a process and end with it, however it ends; so nothing here goes stale.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._change: int | None = None
        self._users: int | None = None

    @property
    def cluster(self) -> Path:
        """PostgreSQL's data directory, links resolved: this is the path in the server's command line."""
        return (self.home / "cluster").resolve()

    @property
    def log(self) -> Path:
        """What the server has written since its last start."""
        return self.home / "server.log"

    @property
    def password(self) -> str:
        """The superuser's password."""
        return (self.home / "password").read_text().strip()

    @property
    def last_port(self) -> int | None:
        """The TCP port of the last start, or None before the first one."""
        try:
            return int((self.home / "port").read_text())
        except (FileNotFoundError, ValueError):
            return None

    @last_port.setter
    def last_port(self, port: int) -> None:
        (self.home / "port").write_text(f"{port}\n")

    def cluster_major(self) -> int | None:
        """Return the major version that made the cluster, or None when there is none yet.

        Raises:
            EmbeddedServerError: the folder is itself a data directory, or its cluster is damaged.
        """
        if (self.home / "PG_VERSION").exists():
            raise EmbeddedServerError(
                f"{self.home} is itself a PostgreSQL data directory; an embedded server keeps its own in a subfolder "
                f"'cluster'. Name another folder, one that is empty or that Callboard made."
            )
        try:
            return int((self.cluster / "PG_VERSION").read_text())
        except FileNotFoundError:
            if self.cluster.exists() or (self.home / "cluster").is_symlink():
                raise EmbeddedServerError(
                    f"{self.home / 'cluster'} exists but holds no PostgreSQL cluster (PG_VERSION is missing). Restore "
                    f"it, or remove it to start with an empty one."
                ) from None
            return None

    def symptoms(self) -> str:
        """Return what explains a failure: a full disk, and the last lines of the server's log, indented."""
        free_bytes = shutil.disk_usage(self.cluster.parent).free
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:] or ["(its log is empty)"]
        if free_bytes < _LITTLE_SPACE_BYTES:  # then the log may be empty, because it could not be written either
            lines.insert(0, f"(the disk is full, or nearly: {free_bytes // 2**20} MiB free in {self.cluster.parent})")
        return "\n".join(f"  {line}" for line in lines)

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Keep other processes and threads from starting or stopping the server meanwhile. Blocks until it is our turn.

        Raises:
            EmbeddedServerError: somebody else has been at it for a minute.
        """
        file = _open_lock(self.home / "change.lock")
        try:
            deadline = time.monotonic() + _LOCK_TIMEOUT_SECONDS
            while not _try_lock(file, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise EmbeddedServerError(
                        f"another process has been starting or stopping the server of {self.home} for "
                        f"{_LOCK_TIMEOUT_SECONDS:.0f} s and still is; find it with `fuser {self.home}/change.lock`"
                    )
                time.sleep(_LOCK_INTERVAL_SECONDS)
            self._change = file
            yield
        finally:
            self._change = None
            os.close(file)

    @property
    def change_lock(self) -> int:
        """The descriptor of the lock that ``changing`` holds; a child that inherits it keeps it if we are killed."""
        if self._change is None:
            raise RuntimeError("change_lock is there inside `with folder.changing():` only")
        return self._change

    def join(self) -> None:
        """Count as a user of the server from now on. Call it inside ``changing``."""
        if self._users is None:
            file = _open_lock(self.home / "users.lock")
            fcntl.flock(file, fcntl.LOCK_SH)
            self._users = file

    def leave(self) -> bool:
        """Stop counting as a user; return True if nobody uses the server any more. Call it inside ``changing``."""
        file, self._users = self._users, None
        if file is None:
            return False
        try:
            return _try_lock(file, fcntl.LOCK_EX)
        finally:
            os.close(file)


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedServerError(
            f"cannot use the data folder {path.parent} of an embedded server: {error}. If it belongs to another user, "
            f"run as that user or name another folder."
        ) from error


def _try_lock(file: int, operation: int) -> bool:
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def make_home(path: Path, account: ServerAccount) -> Path:
    """Create an embedded server's folder if it is missing, and return its resolved path.

    Raises:
        EmbeddedServerError: it cannot be made, or it is not a folder.
    """
    try:
        # Other people get in only where the server's account is one of them; what is worth protecting is closed itself.
        path.mkdir(mode=0o700 if account.user is None else 0o711, parents=True, exist_ok=True)
        return path.resolve(strict=True)
    except OSError as error:
        raise EmbeddedServerError(f"cannot make the server's data folder {path}: {error}") from error


def make_temporary_folder(account: ServerAccount, preferred: Path | None = None) -> Path:
    """Create a folder for temporary things, with a short path, that ``account`` can enter; in ``preferred`` if it can.

    Raises:
        EmbeddedServerError: there is no place for one.
    """
    tried = []
    first = [] if preferred is None else [str(preferred)]
    for parent in dict.fromkeys([*first, tempfile.gettempdir(), *_SHARED_FOLDERS]):
        try:
            folder = Path(tempfile.mkdtemp(prefix="callboard-", dir=parent)).resolve()
        except OSError as error:
            tried.append(str(error))
            continue
        folder.chmod(0o700 if account.user is None else 0o711)
        if not account.can_enter(folder):
            tried.append(f"{parent}: the user {account.name!r} cannot enter it")
        elif not _fits(folder / "socket"):
            tried.append(f"{parent}: the path is too long for a Unix socket")
        else:
            return folder
        folder.rmdir()
    raise EmbeddedServerError(f"no place for temporary files: {'; '.join(tried)}. Set TMPDIR to a short, open folder.")


def socket_folder(folder: ServerFolder, account: ServerAccount) -> Path:
    """Return a folder for the Unix socket: beside the cluster if the path is short enough, else a temporary one.

    The temporary one is found again by a link, as long as it is still there and still the account's own.
    """
    place = folder.cluster.parent / "socket"
    if _fits(place):
        place.mkdir(mode=0o700, exist_ok=True)
        account.give(place)
        return place
    owner = os.geteuid() if account.user is None else account.user
    with contextlib.suppress(FileNotFoundError):
        linked = place.resolve(strict=True)
        if linked.lstat().st_uid == owner and _fits(linked):
            return linked
    place.unlink(missing_ok=True)
    temporary = make_temporary_folder(account) / "socket"
    temporary.mkdir(mode=0o700)
    account.give(temporary)
    place.symlink_to(temporary)
    return temporary


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory) + os.fsencode(_SOCKET_NAME)) <= LONGEST_SOCKET_PATH_BYTES


def create_cluster(folder: ServerFolder, binaries: ServerBinaries, account: ServerAccount, *, durable: bool) -> None:
    """Create the database cluster: UTF-8, byte order with C.UTF-8's character classes, password authentication.

    It appears by a rename once it is complete, so a process that dies in the middle leaves none.

    Args:
        folder: where; it has no cluster yet, and ``changing`` is entered.
        binaries: whose ``initdb``.
        account: who owns the cluster.
        durable: write it through to the disk. False for one that is thrown away with its process.

    Raises:
        EmbeddedServerError: ``initdb`` failed; its words are in the message.
    """
    place = place_for(folder.home, account)
    staging, target = place / "cluster.new", place / "cluster"
    shutil.rmtree(staging, ignore_errors=True)
    (folder.home / "password").unlink(missing_ok=True)
    password = secrets.token_hex(16)
    _write_private(folder.home / "password", password)
    staging.mkdir(mode=0o700)
    account.give(staging)
    with tempfile.TemporaryDirectory(dir=place) as handover:
        Path(handover).chmod(0o711)
        password_file = Path(handover) / "password"
        _write_private(password_file, password)
        account.give(password_file)
        command: list[str | Path] = [binaries.initdb, "-D", staging, "-U", SUPERUSER, "--pwfile", password_file]
        _run_initdb(command + ([] if durable else ["--no-sync"]), account, folder.change_lock)
    staging.rename(target)
    if place != folder.home:
        (folder.home / "cluster").symlink_to(target)


def place_for(home: Path, account: ServerAccount) -> Path:
    """Return where the cluster of ``home`` can live: there, or below /var/lib where the server's account cannot go.

    The second case is root's: the server runs as another user, who cannot enter root's home folder. No folder's mode
    is changed for that; the cluster gets a fresh folder of its own, and ``home`` a link to it.
    """
    if account.can_enter(home):
        return home
    try:
        _SYSTEM_HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f"{home.parent.name}-", dir=_SYSTEM_HOME))
    except OSError as error:
        raise EmbeddedServerError(
            f"the user {account.name!r}, who runs the server because PostgreSQL refuses root, cannot enter {home}, "
            f"and there is no other place: {error}. Use a data folder that this user can reach."
        ) from error
    place.chmod(0o711)
    return place


def _run_initdb(command: list[str | Path], account: ServerAccount, lock: int) -> None:
    command += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--no-instructions"]
    for locale in ("C.UTF-8", "C"):  # systems without the first one know the second one
        # It keeps the lock: if we are killed, nobody may clear the folder away while it still writes there.
        done = account.run([*command, "--locale", locale], inherited_files=[lock])
        if done.returncode == 0:
            return
        if "locale" not in done.stderr:
            break
    raise EmbeddedServerError(f"cannot create a database cluster with {command[0]}:\n{done.stderr.strip()[-2000:]}")


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text)
