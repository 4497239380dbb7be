"""Where the admin sockets of running processes are: one file a process, in a folder that only its user can enter."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from callboard.actors.errors import ConfigurationError

_NAME: Final = re.compile(r"(?P<pid>[1-9][0-9]*)-[0-9a-f]{8}\.(?P<kind>sock|new)")
_BACKLOG: Final = 16


class AdminSocket(NamedTuple):
    """The socket of a process that lives."""

    pid: int
    path: Path


def default_directories() -> list[Path]:
    """Return where sockets are looked for unless a setting names a folder; a new one goes to the first.

    A service manager need not set ``XDG_RUNTIME_DIR`` as a login does, so its processes are looked for in the
    temporary folder as well.
    """
    temporary = Path(tempfile.gettempdir()) / f"callboard-{os.geteuid()}"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    usable = runtime is not None and os.access(runtime, os.W_OK | os.X_OK)
    return [Path(runtime) / "callboard", temporary] if usable and runtime is not None else [temporary]


def prepare(directory: Path) -> None:
    """Make the folder if it is missing, and remove what dead processes left there.

    Raises:
        ConfigurationError: it is not this user's alone, or cannot be made or read.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        find_sockets([directory])
    except OSError as error:
        raise _unusable(directory, error) from error


def open_socket(directory: Path) -> tuple[socket.socket, Path]:
    """Listen on a new socket of this process; remove those of dead ones. May block on the file system.

    The folder is made if it is missing. The file appears under its final name only once it is listened on, so whoever
    finds one that refuses knows that its process is dead.

    Returns:
        The listening socket, non-blocking, and its file (mode 0600).

    Raises:
        ConfigurationError: the folder is not this user's alone, cannot be written, or its path is too long.
    """
    prepare(directory)
    try:
        return _listen(directory / f"{os.getpid()}-{os.urandom(4).hex()}")
    except OSError as error:
        raise _unusable(directory, error) from error


def _unusable(directory: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"no admin socket in {directory}: {error.strerror or error}. Choose another folder (with a short path) with "
        "CALLBOARD_ADMIN_SOCKET_DIRECTORY, or none"
    )


def _listen(stem: Path) -> tuple[socket.socket, Path]:
    new, path = stem.with_suffix(".new"), stem.with_suffix(".sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.bind(str(new))
        new.chmod(0o600)
        listener.listen(_BACKLOG)
        new.rename(path)
    except BaseException:
        listener.close()
        new.unlink(missing_ok=True)
        raise
    return listener, path


def find_sockets(directories: Iterable[Path]) -> list[AdminSocket]:
    """Return the sockets of living processes, by process id; files that dead ones left are removed.

    Raises:
        ConfigurationError: a folder is there and not this user's alone.
        OSError: a folder cannot be read.
    """
    found = set()
    for directory in directories:
        if not directory.exists():
            continue
        _check_owner(directory)
        for path in directory.iterdir():
            name = _NAME.fullmatch(path.name)
            if name is None:
                continue
            alive = _pid_lives(int(name["pid"])) if name["kind"] == "new" else _is_listened_on(path)
            if not alive:
                path.unlink(missing_ok=True)
            elif name["kind"] == "sock":
                found.add(AdminSocket(int(name["pid"]), path))
    return sorted(found)


def _check_owner(directory: Path) -> None:
    """Refuse a folder where somebody else could put a socket, or a link in place of a folder."""
    status = directory.lstat()
    private = stat.S_ISDIR(status.st_mode) and not stat.S_IMODE(status.st_mode) & 0o077
    if not private or os.geteuid() not in (status.st_uid, 0):
        raise ConfigurationError(
            f"the folder of admin sockets {directory}: got {stat.filemode(status.st_mode)} of user {status.st_uid}, "
            f"expected drwx------ of user {os.geteuid()}. Run `chmod 700` on it, or choose another one with "
            "CALLBOARD_ADMIN_SOCKET_DIRECTORY"
        )


def _is_listened_on(path: Path) -> bool:
    """Tell whether a process listens; a full backlog is a process that lives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return probe.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT)


def _pid_lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
