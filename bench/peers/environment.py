"""A virtual environment for each peer, made once and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from .catalogue import Peer

ENVIRONMENTS: Final = Path(__file__).with_name(".venvs")
INSTALL_LIMIT_SECONDS: Final = 600
_NEWEST_MINOR: Final = 14


class PeerUnavailable(Exception):
    """A peer cannot be measured here; the message says why."""


def python_of(peer: Peer) -> Path:
    """Return the interpreter of a peer's environment, which is made where there is none with these versions yet.

    Raises:
        PeerUnavailable: no interpreter is new enough, or the installation failed.
    """
    if not peer.requirements:
        return Path(sys.executable)
    base = _interpreter(peer.python)
    key = hashlib.sha256("\n".join([*peer.requirements, base]).encode()).hexdigest()[:8]
    folder = ENVIRONMENTS / f"{peer.name}-{key}"
    python = folder / "bin" / "python"
    installed = folder / ".installed"
    if not installed.exists():
        _run([base, "-m", "venv", "--clear", "--without-pip", str(folder)])
        _run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *peer.requirements])
        installed.touch()
    return python


def _interpreter(oldest: tuple[int, int]) -> str:
    """Return this interpreter, or a newer one on PATH where this is too old."""
    if sys.version_info >= oldest:
        return sys.executable
    for minor in range(oldest[1], _NEWEST_MINOR + 1):
        for folder in os.get_exec_path():
            found = shutil.which(f"python3.{minor}", path=folder)
            if found and _answers(found):
                return found
    raise PeerUnavailable(f"needs Python {oldest[0]}.{oldest[1]} or newer, and PATH has none")


def _answers(python: str) -> bool:
    """Tell whether it is an interpreter: version managers have placeholders that only complain."""
    return subprocess.run([python, "-c", ""], capture_output=True, check=False, timeout=30).returncode == 0


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_LIMIT_SECONDS)
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.startswith("ERROR")] or error.stderr.splitlines()
        raise PeerUnavailable(f"cannot be installed: {lines[-1] if lines else error}") from error
    except subprocess.TimeoutExpired as error:
        raise PeerUnavailable(f"cannot be installed within {INSTALL_LIMIT_SECONDS} s") from error
