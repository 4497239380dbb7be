"""Runs scripts (script.py) against Erlang/OTP's own supervisor, where ``erl`` is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .script import Script, Trace

_SOURCE = Path(__file__).with_name("oracle.erl")


def is_installed() -> bool:
    """Tell whether there is an Erlang to compile and run the oracle."""
    return shutil.which("erl") is not None and shutil.which("erlc") is not None


class Oracle:
    """An Erlang process that runs one script after the other. A context manager.

    Args:
        build_folder: where the compiled oracle goes.
    """

    def __init__(self, build_folder: Path) -> None:
        subprocess.run(["erlc", "-o", str(build_folder), str(_SOURCE)], check=True)
        self._process = subprocess.Popen(
            ["erl", "+S", "1", "-noshell", "-pa", str(build_folder), "-s", "oracle", "main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, script: Script) -> Trace:
        """Run a script and return its trace."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(_term(script) + ".\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the oracle ended over the script {script!r}")
        trace: Trace = json.loads(line)
        return trace


def _term(value: Any) -> str:
    """Write data as an Erlang term: a list that begins with a command's name, or ``shutdown``, is a tuple."""
    match value:
        case None:
            return "undefined"
        case bool() | int():
            return str(value).lower()
        case str():
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        case Mapping():
            written = ((_term(key), (_commands if key == "commands" else _term)(each)) for key, each in value.items())
            return "#{" + ", ".join(f"{key} => {each}" for key, each in written) + "}"
        case ["shutdown", text]:
            return f"{{shutdown, {_term(text)}}}"
        case list() | tuple():
            return "[" + ", ".join(map(_term, value)) + "]"
    raise TypeError(f"{value!r} in a script: expected what JSON has")


def _commands(commands: list[Any]) -> str:
    return "[" + ", ".join(map(_command, commands)) + "]"


def _command(command: list[Any]) -> str:
    match command:
        case ["queued", commands]:
            return f"{{queued, {_commands(commands)}}}"
        case ["at", path, inner]:
            return f"{{at, {_term(path)}, {_command(inner)}}}"
    return "{" + ", ".join(map(_term, command)) + "}"
